//! What pages say, in English and Japanese. The English text is the key: a page reads as it is shown.

mod conflicts;
mod forwarding;
mod frame;
mod jobs;
mod journal;
mod overview;
mod peers;
mod sentences;
mod sign_in;
mod studies;
mod volumes;

use std::collections::HashMap;
use std::sync::OnceLock;

use axum::http::{HeaderMap, header};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

/// English and Japanese, a table for each page. `{}` stands for a value; where Japanese wants them in another order, for
/// the first `{0}`.
const TABLES: &[&[(&str, &str)]] = &[
    frame::WORDS,
    overview::WORDS,
    studies::WORDS,
    volumes::WORDS,
    peers::WORDS,
    forwarding::WORDS,
    jobs::WORDS,
    journal::WORDS,
    conflicts::WORDS,
    sign_in::WORDS,
];

/// Holds the language that a person chose on a page.
pub const COOKIE: &str = "kura-language";

impl Language {
    /// What a person chose here before, else what the browser asks for.
    pub fn of_headers(headers: &HeaderMap) -> Language {
        let chosen = super::said::cookie(headers, COOKIE);
        let chosen = chosen.and_then(|tag| Language::of_tag(&tag));
        let languages = headers.get(header::ACCEPT_LANGUAGE);
        let languages = languages.and_then(|value| value.to_str().ok());
        chosen.unwrap_or_else(|| Language::of(languages.unwrap_or_default()))
    }

    /// By the Accept-Language header (RFC 9110 12.5.4): Japanese where it comes before English.
    pub fn of(header: &str) -> Language {
        let first = header
            .split(',')
            .map(|part| part.trim().to_ascii_lowercase());
        let mut first = first.filter(|part| part.starts_with("ja") || part.starts_with("en"));
        match first.next() {
            Some(part) if part.starts_with("ja") => Language::Japanese,
            _ => Language::English,
        }
    }

    pub fn of_tag(tag: &str) -> Option<Language> {
        let all = [Language::English, Language::Japanese];
        all.into_iter().find(|language| language.tag() == tag)
    }

    /// For the `lang` attribute.
    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Japanese => "ja",
        }
    }

    /// A text of a page in this language; in English where it is in no table.
    pub fn say(self, english: &'static str) -> &'static str {
        match self {
            Language::English => english,
            Language::Japanese => japanese(english).unwrap_or(english),
        }
    }

    /// As [`Language::say`], with values in the holes.
    pub fn fill(self, english: &'static str, values: &[&str]) -> String {
        fill(self.say(english), values)
    }
}

fn japanese(english: &str) -> Option<&'static str> {
    static ALL: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    let all = ALL.get_or_init(|| TABLES.concat().into_iter().collect());
    all.get(english).copied()
}

/// `{}`: the next value; `{0}`: that one. What the values say is never looked at.
fn fill(pattern: &str, values: &[&str]) -> String {
    let mut text = String::new();
    let mut rest = pattern;
    let mut next = 0;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (hole, behind) = after.split_once('}').unwrap_or(("", after));
        let at = hole.parse().unwrap_or_else(|_| {
            next += 1;
            next - 1
        });
        text.push_str(values.get(at).copied().unwrap_or_default());
        rest = behind;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The string literal after each `say(` and `fill(` of a file, as it is written.
    fn said(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for call in ["say(", "fill("] {
            for part in text.split(call).skip(1) {
                let Some(literal) = part.trim_start().strip_prefix('"') else {
                    continue;
                };
                let mut said = String::new();
                let mut letters = literal.chars();
                while let Some(letter) = letters.next() {
                    match letter {
                        '"' => break,
                        '\\' => said.extend(letters.next()),
                        letter => said.push(letter),
                    }
                }
                found.push(said);
            }
        }
        found
    }

    /// Method: every `say("…")` and `fill("…"` in the source of the pages is looked for in the tables.
    #[test]
    fn everything_that_pages_say_is_there_in_japanese() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
        let mut missing = BTreeSet::new();
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry.unwrap();
            if entry.path().extension().is_none_or(|end| end != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let said = said(text);
            missing.extend(said.into_iter().filter(|said| japanese(said).is_none()));
        }
        assert!(missing.is_empty(), "without Japanese: {missing:#?}");
    }

    #[test]
    fn a_text_has_one_translation_with_the_same_holes() {
        let holes = |text: &str| text.matches('{').count();
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (english, japanese) in TABLES.concat() {
            assert_eq!(holes(english), holes(japanese), "{english}");
            let before = seen.insert(english, japanese);
            assert!(
                before.is_none_or(|before| before == japanese),
                "{english} is said in two ways"
            );
        }
    }

    #[test]
    fn holes_are_filled_in_any_order_and_values_are_not_looked_at() {
        assert_eq!(fill("{} of {}", &["{1}", "b"]), "{1} of b");
        assert_eq!(fill("{1}の{0}", &["a", "b"]), "bのa");
        assert_eq!(fill("{}{}{", &["a"]), "a");
    }

    #[test]
    fn the_language_is_the_chosen_one_then_the_browsers() {
        let of = |cookie: &str, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
            Language::of_headers(&headers)
        };
        assert_eq!(of("", "ja,en;q=0.8"), Language::Japanese);
        assert_eq!(of("", "de, en-GB"), Language::English);
        assert_eq!(of("a=b; kura-language=en", "ja"), Language::English);
        assert_eq!(of("kura-language=fr", "ja"), Language::Japanese);
    }
}
