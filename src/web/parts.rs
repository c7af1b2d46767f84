//! What pages are made of: notices, tables, bars, forms. Texts are given in the language of the reader already.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};

use super::words::Language;
use crate::amounts;

/// How something stands. Colour never says it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warning,
    Bad,
    Plain,
}

impl Tone {
    pub fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Warning => "warning",
            Tone::Bad => "bad",
            Tone::Plain => "neutral",
        }
    }

    /// Of a state of the archive, a volume, a job or a peer, by its word in `control`'s answers.
    pub fn of_state(state: &str) -> Tone {
        match state {
            "ok" | "done" | "live" | "reachable" => Tone::Good,
            "lost" | "failed" => Tone::Bad,
            "degraded" | "away" | "blocked" | "paused" | "replaced" | "unknown" | "rebuilding"
            | "warning" | "unreachable" => Tone::Warning,
            _ => Tone::Plain,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Tone::Good => "✓",
            Tone::Warning => "!",
            Tone::Bad => "✕",
            Tone::Plain => "i",
        }
    }
}

/// A box with something to know or to do.
pub fn notice(tone: Tone, text: Markup) -> Markup {
    html! {
        div.notice.(tone.class()) {
            span.sign aria-hidden="true" { (tone.sign()) }
            div { (text) }
        }
    }
}

/// A word that says how something stands.
pub fn badge(tone: Tone, text: &str) -> Markup {
    html! { span.badge.(tone.class()) { (text) } }
}

/// [`badge`] of a state's word.
pub fn state_badge(language: Language, state: &str) -> Markup {
    badge(Tone::of_state(state), &state_word(language, state))
}

/// A state's word as the reader reads it; itself where it is in no table.
pub fn state_word(language: Language, state: &str) -> String {
    language.sentence(state)
}

/// A column of a [`table`].
pub struct Column<'a> {
    pub name: &'a str,
    pub is_number: bool,
}

pub fn column(name: &str) -> Column<'_> {
    Column {
        name,
        is_number: false,
    }
}

/// Its cells stand at the right edge, so that digits are below each other.
pub fn number(name: &str) -> Column<'_> {
    Column {
        name,
        is_number: true,
    }
}

/// The first cell of each row names it. Wider than the screen it scrolls in its own box. `caption`: what the table is, for
/// who cannot see where it stands.
pub fn table(caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scrolls tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.unseen { (caption) }
                thead {
                    tr { @for column in columns {
                        th scope="col" .number[column.is_number] { (column.name) }
                    } }
                }
                tbody {
                    @for row in rows {
                        tr { @for (at, cell) in row.iter().enumerate() {
                            @let is_number = columns.get(at).is_some_and(|column| column.is_number);
                            @if at == 0 {
                                th scope="row" .number[is_number] { (cell) }
                            } @else {
                                td .number[is_number] { (cell) }
                            }
                        } }
                    }
                }
            }
        }
    }
}

/// A cell of text.
pub fn cell(text: &str) -> Markup {
    html! { (text) }
}

/// How full something is; `text` says it in words beside the bar.
pub fn meter(label: &str, part: u64, whole: u64, text: &str) -> Markup {
    let percent = percent(part, whole);
    html! {
        span.bar {
            meter min="0" max="100" low="85" high="95" optimum="0" value=(percent) aria-label=(label) { (percent) " %" }
            span { (text) }
        }
    }
}

/// How far something is; `text` says it in words beside the bar. Without a whole it only shows that it moves.
pub fn progress(label: &str, done: u64, whole: Option<u64>, text: &str) -> Markup {
    html! {
        span.bar {
            @match whole {
                Some(whole) => progress max="100" value=(percent(done, whole)) aria-label=(label) {},
                None => progress aria-label=(label) {},
            }
            span { (text) }
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part.min(whole) as u128 * 100 / whole.max(1) as u128) as u64
}

/// What stands where a table would, had it rows.
pub fn empty(text: &str) -> Markup {
    html! { p.empty { (text) } }
}

/// Names and values beside each other.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
        }
    }
}

/// Buttons and links in a row.
pub fn buttons(inside: Markup) -> Markup {
    html! { div.buttons { (inside) } }
}

/// A button that does something: a form of its own.
pub fn post_button(action: &str, label: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        form.inline method="post" action=(action) {
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button type="submit" { (label) }
        }
    }
}

/// A line of text to fill in. `hint`: what to write, below the field; may be empty.
pub fn text_field(name: &str, label: &str, value: &str, hint: &str) -> Markup {
    let id = format!("field-{name}");
    let hint_id = format!("{id}-hint");
    html! {
        div.field {
            label for=(id) { (label) }
            input type="text" id=(id) name=(name) value=(value) autocomplete="off" spellcheck="false"
                aria-describedby=[(!hint.is_empty()).then_some(&hint_id)];
            @if !hint.is_empty() { small id=(hint_id) { (hint) } }
        }
    }
}

/// A day, from the browser's calendar; sent as `YYYY-MM-DD`.
pub fn date_field(name: &str, label: &str, value: &str) -> Markup {
    let id = format!("field-{name}");
    html! {
        div.field {
            label for=(id) { (label) }
            input type="date" id=(id) name=(name) value=(value);
        }
    }
}

/// One of several; `options`: value and text.
pub fn choice(name: &str, label: &str, options: &[(&str, &str)], chosen: &str) -> Markup {
    let id = format!("field-{name}");
    html! {
        div.field {
            label for=(id) { (label) }
            select id=(id) name=(name) {
                @for (value, text) in options {
                    option value=(value) selected[*value == chosen] { (text) }
                }
            }
        }
    }
}

/// The page before something that cannot be taken back: what will happen, then the button that does it.
pub fn ask_first(
    language: Language,
    will_happen: Markup,
    action: &str,
    label: &str,
    fields: &[(&str, &str)],
    back: &str,
) -> Markup {
    html! {
        (notice(Tone::Warning, will_happen))
        (buttons(html! {
            form.inline method="post" action=(action) {
                @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                button.danger type="submit" { (label) }
            }
            a.button href=(back) { (language.say("Back, without changing anything")) }
        }))
    }
}

/// A part of a page that asks for itself anew every so many seconds. `address` answers with what is inside.
pub fn moving(id: &str, address: &str, every_seconds: u32, inside: Markup) -> Markup {
    let every = format!("every {every_seconds}s");
    html! {
        div id=(id) hx-get=(address) hx-trigger=(every) hx-swap="innerHTML" { (inside) }
    }
}

/// As [`moving`], replaced only when something in it is another way than before: what is read, or chosen, is left alone.
pub struct Watched {
    pub id: &'static str,
    /// Answers with [`Watched::again`].
    pub address: &'static str,
    pub every_seconds: u32,
}

/// What a page says it shows of a [`Watched`] part.
#[derive(serde::Deserialize)]
pub struct Was {
    #[serde(default)]
    was: String,
}

impl Watched {
    pub fn show(&self, inside: &Markup) -> Markup {
        let address = format!("{}?was={}", self.address, sum(inside));
        let every = format!("every {}s", self.every_seconds);
        html! {
            div id=(self.id) hx-get=(address) hx-trigger=(every) hx-swap="outerHTML" { (inside) }
        }
    }

    /// Nothing, where it is what the page shows already.
    pub fn again(&self, was: &Was, inside: &Markup) -> Response {
        match was.was == sum(inside) {
            true => StatusCode::NO_CONTENT.into_response(),
            false => Html(self.show(inside).into_string()).into_response(),
        }
    }
}

fn sum(inside: &Markup) -> String {
    format!("{:08x}", crc32fast::hash(inside.0.as_bytes()))
}

/// Text that came from outside. It stays apart from what stands beside it in either direction of writing, and letters that
/// are no text are seen.
pub fn outside(text: &str) -> Markup {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let plain: String = text.chars().map(plain).collect();
    html! { bdi { (plain) } }
}

/// A name as it is written in PS3.5 6.2.1: groups apart by `=`, components by `^`. Shown is the group in which the reader
/// writes, the others smaller.
pub fn person(language: Language, name: &str) -> Markup {
    let written = |group: &str| {
        let components = group.split('^').map(str::trim);
        let components: Vec<&str> = components.filter(|part| !part.is_empty()).collect();
        components.join(" ")
    };
    let mut groups: Vec<String> = name.split('=').map(written).collect();
    if language == Language::Japanese && groups.get(1).is_some_and(|group| !group.is_empty()) {
        groups.swap(0, 1);
    }
    groups.retain(|group| !group.is_empty());
    let mut groups = groups.iter();
    html! {
        @if let Some(first) = groups.next() { (outside(first)) }
        @for other in groups { " " small { (outside(other)) } }
    }
}

/// A moment of RFC 3339, in the local time of this machine, to the minute; as it is where it is none.
pub fn moment(text: &str) -> Markup {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => {
            let local = at.to_zoned(jiff::tz::TimeZone::system());
            html! { time datetime=(text) { (local.strftime("%Y-%m-%d %H:%M")) } }
        }
        Err(_) => html! { (text) },
    }
}

/// `2026-01-15` for `20260115`; as it is where it is none.
pub fn day(text: &str) -> String {
    let is_date = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    match is_date {
        true => format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]),
        false => text.to_owned(),
    }
}

pub fn bytes(count: u64) -> String {
    amounts::bytes(count)
}

pub fn count(count: u64) -> String {
    amounts::grouped(count)
}

/// As the command line says it, with the units of the language.
pub fn duration(language: Language, seconds: u64) -> String {
    if language == Language::English {
        return amounts::seconds(seconds);
    }
    match seconds {
        0..120 => format!("{seconds} 秒"),
        120..7_200 => format!("{} 分", seconds / 60),
        7_200..172_800 => format!("{} 時間 {} 分", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} 日 {} 時間", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text_in_every_part() {
        let evil = "\"><script>alert(1)</script>";
        let parts = [
            table(evil, &[column(evil)], &[vec![cell(evil)]]),
            meter(evil, 1, 2, evil),
            progress(evil, 1, None, evil),
            text_field("a", evil, evil, evil),
            choice("a", evil, &[(evil, evil)], evil),
            post_button("/x", evil, &[("a", evil)]),
            notice(Tone::Bad, cell(evil)),
            facts(&[(evil, cell(evil))]),
            moment(evil),
            outside(evil),
            person(Language::Japanese, evil),
            badge(Tone::Good, evil),
        ];
        for part in parts {
            let text = part.into_string();
            assert!(!text.contains(evil) && !text.contains("<script"), "{text}");
        }
    }

    #[test]
    fn a_name_is_shown_as_the_reader_writes_it() {
        let shown = |language, name| {
            let text = person(language, name).into_string();
            let tags = ["<bdi>", "</bdi>", "<small>", "</small>"];
            tags.iter().fold(text, |text, tag| text.replace(tag, ""))
        };
        let name = "Yamada^Tarou=山田^太郎=やまだ^たろう";
        let (english, japanese) = (Language::English, Language::Japanese);
        assert_eq!(shown(english, name), "Yamada Tarou 山田 太郎 やまだ たろう");
        assert_eq!(
            shown(japanese, name),
            "山田 太郎 Yamada Tarou やまだ たろう"
        );
        assert_eq!(shown(japanese, "Doe^John^^Dr"), "Doe John Dr");
        assert_eq!(shown(english, "=山田"), "山田");
        assert_eq!(shown(english, "^^=="), "");
        assert_eq!(shown(english, "A\u{1b}[2J"), "A\u{fffd}[2J");
    }

    #[test]
    fn a_bar_never_passes_its_end() {
        assert_eq!(percent(5, 0), 0);
        assert_eq!(percent(7, 5), 100);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }

    #[test]
    fn days_are_shown_as_days_and_anything_else_as_it_is() {
        assert_eq!(day("20260115"), "2026-01-15");
        assert_eq!(day("2026011あ"), "2026011あ");
        assert_eq!(day(""), "");
    }
}
