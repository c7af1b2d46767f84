//! `kura forward …`: what goes by itself to where it is read.

use super::forward_rules::{self, AddRule};
use super::output;
use super::{End, Failure, peer};
use crate::config::Config;
use crate::control::{Request, Response};
use crate::forward::setup::SetupVerb;
use crate::forward::{ForwardSaid, ForwardVerb, Item, PeerStatus, State, meaning};

#[derive(clap::Args)]
pub struct Forward {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// What waits, is being sent or failed, and how the peers stand
    List {
        /// To this peer only
        #[arg(long)]
        peer: Option<String>,
        /// Also what was sent
        #[arg(long)]
        all: bool,
        /// Only what stands so
        #[arg(long, value_enum, conflicts_with = "all")]
        state: Option<StateName>,
    },
    /// One study, to every peer
    Show {
        /// Study Instance UID
        study: String,
    },
    /// Try now what failed or waits for its next try
    Retry {
        /// Study Instance UID; without it all
        study: Option<String>,
        /// To this peer only
        #[arg(long)]
        peer: Option<String>,
    },
    /// As if it had been sent; what comes for it later goes
    MarkSent {
        /// Study Instance UID
        study: String,
        /// To this peer only
        #[arg(long)]
        peer: Option<String>,
    },
    /// As if nothing of it had been sent: it goes again
    Unmark {
        /// Study Instance UID
        study: String,
        /// To this peer only
        #[arg(long)]
        peer: Option<String>,
    },
    /// Send nothing to that peer until it is resumed
    Pause { peer: String },
    /// Go on sending to that peer
    Resume { peer: String },
    /// You know that the outbox was damaged; kura status does not say it any more
    Acknowledge,
    /// Which images go to which peers
    Rules,
    /// Write a rule into kura.toml, in effect at once
    AddRule(Box<AddRule>),
    /// Take a rule out of kura.toml, in effect at once
    RemoveRule { name: String },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StateName {
    Waiting,
    Sending,
    Sent,
    Failed,
}

impl From<StateName> for State {
    fn from(name: StateName) -> State {
        match name {
            StateName::Waiting => State::Waiting,
            StateName::Sending => State::Sending,
            StateName::Sent => State::Sent,
            StateName::Failed => State::Failed,
        }
    }
}

/// Rows of the table on a screen; JSON has all that are answered.
const ROWS_MAX: usize = 40;

pub fn run(verb: Forward, config: &Config, json: bool) -> Result<End, Failure> {
    let verb = match verb.action {
        Action::Rules => return forward_rules::list(config, json),
        Action::AddRule(rule) => return forward_rules::add(*rule, config, json),
        Action::RemoveRule { name } => {
            return peer::done(config, SetupVerb::RemoveRule { name }, json);
        }
        Action::List { peer, all, state } => ForwardVerb::List {
            peer,
            all,
            state: state.map(State::from),
        },
        Action::Show { study } => ForwardVerb::Show { study },
        Action::Retry { study, peer } => ForwardVerb::Retry { study, peer },
        Action::MarkSent { study, peer } => ForwardVerb::MarkSent { study, peer },
        Action::Unmark { study, peer } => ForwardVerb::Unmark { study, peer },
        Action::Pause { peer } => ForwardVerb::Pause { peer },
        Action::Resume { peer } => ForwardVerb::Resume { peer },
        Action::Acknowledge => ForwardVerb::Acknowledge,
    };
    ask(config, verb, json)
}

/// Asks, and prints what is said.
pub fn ask(config: &Config, verb: ForwardVerb, json: bool) -> Result<End, Failure> {
    let study = match &verb {
        ForwardVerb::Show { study } => Some(study.clone()),
        _ => None,
    };
    let (response, running) = super::ask(config, Request::Forward(verb))?;
    let said = match response {
        Response::Forward(said) => *said,
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    match said {
        ForwardSaid::Done(said) => {
            match json {
                true => output::json(
                    &serde_json::json!({ "version": 1, "done": said, "running": running }),
                ),
                false => {
                    let mut text = output::plain(&said);
                    if !running {
                        text.push_str(
                            "\nserver  not running, nothing is sent; start it with: kura serve",
                        );
                    }
                    output::line(&text);
                }
            }
            Ok(End::Ok)
        }
        ForwardSaid::Items {
            items,
            total_count,
            peers,
        } => {
            let end = end(&items, &peers);
            match json {
                true => output::json(&serde_json::json!({
                    "version": 1, "items": items, "total_count": total_count, "peers": peers,
                    "running": running,
                })),
                false => output::line(&match study {
                    Some(study) => one(&study, &items),
                    None => screen(&items, total_count, &peers, running),
                }),
            }
            Ok(end)
        }
    }
}

fn end(items: &[Item], peers: &[PeerStatus]) -> End {
    let failed = items.iter().any(|item| item.state == State::Failed);
    match failed || peers.iter().any(PeerStatus::is_late) {
        true => End::Degraded,
        false => End::Ok,
    }
}

/// How a peer stands, and what to do; `None`: nothing waits, and nothing is wrong.
pub fn peer_line(peer: &PeerStatus) -> Option<String> {
    let name = output::plain(&peer.peer);
    let mut parts = Vec::new();
    for (count, what) in [
        (peer.waiting_count, "waiting"),
        (peer.sending_count, "being sent"),
        (peer.failed_count, "failed"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if let Some(reason) = &peer.not_asked {
        let reason = output::plain(reason);
        parts.push(format!("not asked whether it keeps them: {reason}"));
    }
    if parts.is_empty() && peer.unreachable.is_none() && !peer.paused {
        return None;
    }
    if let Some(age) = peer.oldest_seconds {
        parts.push(format!("the oldest for {}", output::seconds(age)));
    }
    let parts = match parts.is_empty() {
        true => "nothing waits".to_owned(),
        false => parts.join(", "),
    };
    let (state, action) = match (&peer.unreachable, peer.paused, peer.failed_count) {
        (_, true, _) => ("paused: ".to_owned(), format!("kura forward resume {name}")),
        (Some((reason, since)), ..) => (
            format!(
                "not reached since {}: {}; ",
                minute(since),
                output::plain(reason)
            ),
            format!("switch it on, or look with: kura doctor {name}"),
        ),
        (None, false, 1..) => (String::new(), format!("kura forward list --peer {name}")),
        (None, false, 0) => return Some(format!("{name} {parts}")),
    };
    Some(format!("{name} {state}{parts} ({action})"))
}

/// A time to the minute.
fn minute(at: &str) -> String {
    let at: String = at.chars().take(16).collect();
    output::plain(&at.replace('T', " "))
}

fn screen(items: &[Item], total_count: u64, peers: &[PeerStatus], running: bool) -> String {
    let count = |of: fn(&PeerStatus) -> u64| peers.iter().map(of).sum::<u64>();
    let (waiting, sending, failed) = (
        count(|peer| peer.waiting_count),
        count(|peer| peer.sending_count),
        count(|peer| peer.failed_count),
    );
    let mut text = match (waiting + sending, failed) {
        (0, 0) => "forward nothing waits\n".to_owned(),
        (_, failed) => {
            format!("forward {waiting} studies wait, {sending} are being sent, {failed} failed\n")
        }
    };
    if !running {
        text.push_str("server  not running, nothing is sent; start it with: kura serve\n");
    }
    for line in peers.iter().filter_map(peer_line) {
        text.push_str(&format!("peer    {line}\n"));
    }
    if items.is_empty() {
        return text;
    }
    let rows: Vec<_> = items.iter().take(ROWS_MAX).map(row).collect();
    text.push_str(&output::table(&HEADER, &rows));
    let more = total_count.saturating_sub(rows.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more (--peer PEER, or --json)\n"));
    }
    text
}

const HEADER: [&str; 8] = [
    "PEER",
    "STATE",
    "DATE",
    "PATIENT ID",
    "STUDY",
    "SENT",
    "NEXT TRY",
    "WHY",
];

fn row(item: &Item) -> Vec<String> {
    vec![
        output::plain(&item.peer),
        state(item.state).to_owned(),
        output::plain(&item.study_date),
        output::plain(&item.patient_id),
        output::plain(&item.study_instance_uid),
        sent(item),
        item.next_try.as_deref().map_or("-".to_owned(), minute),
        why(item),
    ]
}

fn state(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Sending => "sending",
        State::Sent => "sent",
        State::Failed => "failed",
    }
}

fn sent(item: &Item) -> String {
    let mut text = format!("{} of {}", item.sent_count, item.total_count);
    if let Some(delivered) = item.delivered_count {
        text.push_str(&format!(", delivered {delivered}/{}", item.total_count));
    }
    if let Some(committed) = item.committed_count {
        text.push_str(&format!(", committed {committed}/{}", item.total_count));
    }
    text
}

/// The last status and the reason in words.
fn why(item: &Item) -> String {
    let status = item.status.filter(|status| *status != 0);
    let status = status.map(|status| format!("{status:04X}H {}", meaning(status)));
    let parts: Vec<String> = status
        .into_iter()
        .chain(Some(output::plain(&item.reason)).filter(|reason| !reason.is_empty()))
        .chain(
            Some(&item.not_committed)
                .filter(|reason| !reason.is_empty())
                .map(|reason| format!("not committed: {}", output::plain(reason))),
        )
        .collect();
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(": "),
    }
}

/// One study: for each peer how far it is, and what to do.
fn one(study: &str, items: &[Item]) -> String {
    let study = output::plain(study);
    let done = items
        .iter()
        .filter(|item| item.state == State::Sent)
        .count();
    let mut text = format!("forward sent to {done} of {} peers\n", items.len());
    if let Some(item) = items.first() {
        text.push_str(&format!(
            "study   {study}, patient {}, {}\n",
            output::plain(&item.patient_id),
            output::plain(&item.study_date)
        ));
    }
    if items.iter().any(|item| item.state == State::Failed) {
        text.push_str(&format!(
            "action  when the reason is gone: kura forward retry {study}; it is not wanted there: kura forward mark-sent {study}\n"
        ));
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            let next_try = item.next_try.as_deref();
            vec![
                output::plain(&item.peer),
                state(item.state).to_owned(),
                sent(item),
                next_try.map_or("-".to_owned(), minute),
                why(item),
            ]
        })
        .collect();
    let header = ["PEER", "STATE", "SENT", "NEXT TRY", "WHY"];
    text.push_str(&output::table(&header, &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(state: State) -> Item {
        Item {
            peer: "HOROS".to_owned(),
            study_instance_uid: "1.2.3".to_owned(),
            patient_id: "A\x1b1".to_owned(),
            study_date: "20260115".to_owned(),
            state,
            sent_count: 411,
            total_count: 412,
            status: Some(0xA700),
            reason: "disk full".to_owned(),
            next_try: Some("2026-01-15T10:20:30Z".to_owned()),
            delivered_count: None,
            committed_count: None,
            not_committed: String::new(),
        }
    }

    fn peer() -> PeerStatus {
        PeerStatus {
            peer: "HOROS".to_owned(),
            waiting_count: 0,
            failed_count: 0,
            given_up_count: 0,
            not_committed_count: 0,
            not_asked: None,
            sending_count: 0,
            paused: false,
            unreachable: None,
            oldest_seconds: None,
        }
    }

    #[test]
    fn a_failure_is_shown_with_its_status_its_reason_and_the_next_try() {
        let failed = PeerStatus {
            failed_count: 1,
            oldest_seconds: Some(700),
            ..peer()
        };
        let text = screen(&[item(State::Failed)], 3, &[failed], true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "forward 0 studies wait, 0 are being sent, 1 failed",
                "peer    HOROS 1 failed, the oldest for 11 min (kura forward list --peer HOROS)",
                "PEER   STATE   DATE      PATIENT ID  STUDY  SENT        NEXT TRY          WHY",
                "HOROS  failed  20260115  A\u{fffd}1         1.2.3  411 of 412  2026-01-15 10:20  A700H out of resources: disk full",
                "and 2 more (--peer PEER, or --json)",
            ]
        );
    }

    #[test]
    fn what_the_peer_says_it_holds_stands_beside_what_was_sent() {
        let delivered = Item {
            sent_count: 412,
            status: Some(0),
            reason: String::new(),
            next_try: None,
            delivered_count: Some(412),
            committed_count: Some(411),
            not_committed: "1 refused".to_owned(),
            ..item(State::Sent)
        };
        let text = one("1.2.3", &[delivered]);
        assert!(
            text.starts_with("forward sent to 1 of 1 peers\n")
                && text.contains("412 of 412, delivered 412/412, committed 411/412")
                && text.contains("not committed: 1 refused"),
            "{text}"
        );
    }

    #[test]
    fn a_person_is_called_for_what_waits_a_day_and_not_for_what_a_person_paused() {
        let waits = PeerStatus {
            waiting_count: 2,
            oldest_seconds: Some(24 * 3600),
            unreachable: Some((
                "connection refused".to_owned(),
                "2026-01-14T08:00:00Z".to_owned(),
            )),
            ..peer()
        };
        assert!(waits.is_late());
        assert_eq!(
            peer_line(&waits).unwrap(),
            "HOROS not reached since 2026-01-14 08:00: connection refused; 2 waiting, the oldest for 24 h 0 min (switch it on, or look with: kura doctor HOROS)"
        );
        let paused = PeerStatus {
            paused: true,
            ..waits
        };
        assert!(!paused.is_late());
        assert!(
            peer_line(&paused)
                .unwrap()
                .contains("kura forward resume HOROS")
        );
        assert_eq!(peer_line(&peer()), None);
    }
}
