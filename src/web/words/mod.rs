//! What pages say, in English and Japanese. The English text is the key: a page reads as it is shown.

mod conflicts;
mod forwarding;
mod frame;
mod jobs;
mod journal;
mod overview;
mod peers;
mod studies;
mod volumes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

/// English and Japanese, a table for each page.
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
];

impl Language {
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

    /// For the `lang` attribute.
    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Japanese => "ja",
        }
    }

    /// A text of a page in this language; in English where it is in no table.
    pub fn say(self, english: &'static str) -> &'static str {
        if self == Language::English {
            return english;
        }
        let mut all = TABLES.iter().flat_map(|table| table.iter());
        all.find(|(key, _)| *key == english)
            .map_or(english, |(_, japanese)| japanese)
    }
}
