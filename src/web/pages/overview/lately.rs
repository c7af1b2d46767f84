//! What came and went: queues, the last associations, the last day.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::queue_state;
use crate::control::{Request, Response};
use crate::forward::PeerStatus;
use crate::metrics::{Ended, Hour};
use crate::web::Site;
use crate::web::access::Caller;
use crate::web::parts::{self, Tone, cell, column, number};
use crate::web::words::Language;

/// Associations that are shown.
const SHOWN_MAX: usize = 10;
const HOURS: usize = 24;

pub async fn part(site: &Site, caller: &Caller) -> Markup {
    let language = caller.language;
    let (status, seen) = tokio::join!(site.status.get(site), site.ask(&caller.who, Request::Seen));
    let peers = match status.as_deref() {
        Some(Response::Status { peers, .. }) => peers.as_slice(),
        _ => &[],
    };
    let (associations, hours) = match seen {
        Response::Seen {
            associations,
            hours,
        } => (associations, hours),
        _ => Default::default(),
    };
    html! {
        div.side-by-side {
            section aria-labelledby="last-day" {
                h2 #last-day { (language.say("The last 24 hours")) }
                (day(language, &hours, Timestamp::now()))
            }
            section aria-labelledby="queues" {
                h2 #queues { a href="/forwarding" { (language.say("Queues")) } }
                (queues(language, peers))
            }
        }
        section aria-labelledby="associations" {
            h2 #associations { (language.say("The last associations")) }
            (last(language, &associations))
        }
    }
}

fn queues(language: Language, peers: &[PeerStatus]) -> Markup {
    if peers.is_empty() {
        return parts::empty(language.say("Nothing is sent by itself."));
    }
    let columns = [
        column(language.say("Peer")),
        number(language.say("Waiting")),
        number(language.say("Failed")),
        column(language.say("Oldest")),
        column(language.say("State")),
    ];
    let rows = peers.iter().map(|peer| {
        let oldest = peer.oldest_seconds;
        vec![
            cell(&peer.peer),
            cell(&parts::count(peer.waiting_count + peer.sending_count)),
            cell(&parts::count(peer.failed_count)),
            cell(&oldest.map_or("–".to_owned(), |age| parts::duration(language, age))),
            queue_state(language, peer),
        ]
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    parts::table(language.say("Queues"), &columns, &rows)
}

fn last(language: Language, associations: &[Ended]) -> Markup {
    if associations.is_empty() {
        return parts::empty(language.say("None since the server was started."));
    }
    let columns = [
        column(language.say("Time")),
        column(language.say("From")),
        column(language.say("Address")),
        number(language.say("Images")),
        number(language.say("Size")),
        number(language.say("Took")),
        column(language.say("End")),
    ];
    let shown = associations.iter().take(SHOWN_MAX);
    let rows: Vec<Vec<Markup>> = shown.map(|ended| association(language, ended)).collect();
    parts::table(language.say("The last associations"), &columns, &rows)
}

fn association(language: Language, ended: &Ended) -> Vec<Markup> {
    let tone = if ended.failed { Tone::Bad } else { Tone::Good };
    let end = match ended.failed {
        true => html! {
            (parts::badge(tone, language.say("failed"))) " " small { (language.sentence(&ended.end)) }
            @if !ended.next.is_empty() { br; small { (language.sentence(&ended.next)) } }
        },
        false => cell(&language.sentence(&ended.end)),
    };
    let calling = match ended.calling.as_str() {
        "" => "–",
        calling => calling,
    };
    vec![
        parts::moment(&ended.begun),
        html! {
            (calling)
            @if !ended.implementation.is_empty() { " " small { (ended.implementation) } }
        },
        cell(&ended.address),
        cell(&parts::count(ended.instances_count)),
        cell(&parts::bytes(ended.bytes)),
        cell(&format!("{:.1} s", ended.seconds.max(0.0))),
        end,
    ]
}

/// An hour of the plot, also one in which nothing came.
struct Slot {
    /// `14:00`, local.
    name: String,
    instances_count: u64,
    bytes: u64,
}

/// The oldest first, the hour that is not over last.
fn slots(hours: &[Hour], now: Timestamp) -> Vec<Slot> {
    let this_hour = now.as_second() - now.as_second().rem_euclid(3_600);
    let begin = |hour: &Hour| {
        hour.begin
            .parse::<Timestamp>()
            .ok()
            .map(Timestamp::as_second)
    };
    let slots = (0..HOURS as i64).rev().map(|back| {
        let at = this_hour - back * 3_600;
        let hour = hours.iter().find(|hour| begin(hour) == Some(at));
        let local = Timestamp::from_second(at).unwrap_or_default();
        let local = local.to_zoned(TimeZone::system());
        Slot {
            name: local.strftime("%H:%M").to_string(),
            instances_count: hour.map_or(0, |hour| hour.instances_count),
            bytes: hour.map_or(0, |hour| hour.bytes),
        }
    });
    slots.collect()
}

fn day(language: Language, hours: &[Hour], now: Timestamp) -> Markup {
    let slots = slots(hours, now);
    let images: u64 = slots.iter().map(|slot| slot.instances_count).sum();
    let bytes: u64 = slots.iter().map(|slot| slot.bytes).sum();
    let sentence = language.fill(
        "{} images came, {}.",
        &[&parts::count(images), &parts::bytes(bytes)],
    );
    if images == 0 {
        return parts::empty(&sentence);
    }
    let columns = [
        column(language.say("Hour")),
        number(language.say("Images")),
        number(language.say("Size")),
    ];
    let busy = slots.iter().filter(|slot| slot.instances_count > 0);
    let rows = busy.map(|slot| {
        vec![
            cell(&slot.name),
            cell(&parts::count(slot.instances_count)),
            cell(&parts::bytes(slot.bytes)),
        ]
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    html! {
        p { (sentence) }
        (plot(language.say("Images in each hour"), &slots, |slot| slot.instances_count, parts::count))
        (plot(language.say("Bytes in each hour"), &slots, |slot| slot.bytes, parts::bytes))
        details {
            summary { (language.say("As a table")) }
            (parts::table(language.say("The last 24 hours"), &columns, &rows))
        }
    }
}

/// Of one bar with its gap, and of the bars' field, in units of the drawing.
const BAR_WIDTH: u64 = 20;
const FIELD_HEIGHT: u64 = 80;
/// Above it, for the name and the largest number; below it, for the hours.
const HEAD: u64 = 18;
const FOOT: u64 = 16;

fn plot(name: &str, slots: &[Slot], value: fn(&Slot) -> u64, say: fn(u64) -> String) -> Markup {
    let most = slots.iter().map(value).max().unwrap_or(0).max(1);
    let width = slots.len() as u64 * BAR_WIDTH;
    let ground = HEAD + FIELD_HEIGHT;
    let view = format!("0 0 {width} {}", ground + FOOT);
    let bars = slots.iter().enumerate().map(|(at, slot)| {
        // What came is seen, however little it is beside the rest.
        let share = value(slot) as u128 * FIELD_HEIGHT as u128 / most as u128;
        let height = (share as u64).max(u64::from(value(slot) > 0));
        (at as u64 * BAR_WIDTH + 2, ground - height, height)
    });
    let hours = slots.iter().enumerate().filter(|(at, _)| at % 6 == 0);
    html! {
        svg.plot viewBox=(view) role="img" aria-label={ (name) ": " (say(most)) " max" } {
            text x="0" y="12" { (name) }
            text.right x=(width) y="12" text-anchor="end" { (say(most)) }
            line x1="0" y1=(HEAD) x2=(width) y2=(HEAD) {}
            line x1="0" y1=(ground) x2=(width) y2=(ground) {}
            @for (x, y, height) in bars {
                @if height > 0 { rect x=(x) y=(y) width=(BAR_WIDTH - 4) height=(height) {} }
            }
            @for (at, slot) in hours {
                text x=(at as u64 * BAR_WIDTH) y=(ground + 12) { (slot.name) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_last_24_hours_has_its_place() {
        let now: Timestamp = "2026-01-15T10:20:30Z".parse().unwrap();
        let hour = |begin: &str, instances_count| Hour {
            begin: begin.to_owned(),
            instances_count,
            bytes: 1,
        };
        let hours = [
            hour("2026-01-15T10:00:00Z", 3),
            hour("2026-01-14T11:00:00Z", 2),
            hour("2026-01-14T10:00:00Z", 1),
        ];
        let slots = slots(&hours, now);
        let counts: Vec<u64> = slots.iter().map(|slot| slot.instances_count).collect();
        assert_eq!(slots.len(), 24);
        assert_eq!((counts[0], counts[23]), (2, 3));
        assert_eq!(counts.iter().sum::<u64>(), 5);
    }

    #[test]
    fn a_little_is_seen_beside_a_lot() {
        let slot = |bytes| Slot {
            name: String::new(),
            instances_count: 1,
            bytes,
        };
        let slots = [slot(1), slot(u64::MAX), slot(0)];
        let text = plot("x", &slots, |slot| slot.bytes, parts::bytes).into_string();
        assert_eq!(text.matches("<rect").count(), 2);
        assert!(text.contains("height=\"1\"") && text.contains("height=\"80\""));
    }
}
