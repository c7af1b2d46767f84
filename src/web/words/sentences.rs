//! What the server itself says: states and sentences of `control`'s answers, which are English. A hole stands for anything.

use super::Language;

impl Language {
    /// A word or sentence of the server in this language; as it is where no pattern fits.
    pub fn sentence(self, english: &str) -> String {
        if self == Language::English {
            return english.to_owned();
        }
        let fitting = |(pattern, japanese): &(&str, &str)| {
            holes(pattern, english).map(|values| super::fill(japanese, &values))
        };
        let translated = SENTENCES.iter().find_map(fitting);
        translated.unwrap_or_else(|| english.to_owned())
    }
}

/// What stands in the holes of the pattern, if the text is made of it: as little as possible in each.
fn holes<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut parts = parts.peekable();
    let mut values = Vec::new();
    while let Some(part) = parts.next() {
        let at = match parts.peek() {
            // Of the last, the end of the text is the end.
            None => rest
                .len()
                .checked_sub(part.len())
                .filter(|at| rest.is_char_boundary(*at) && rest[*at..] == *part)?,
            Some(_) => rest.find(part)?,
        };
        values.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty().then_some(values)
}

/// The first that fits is taken.
const SENTENCES: &[(&str, &str)] = &[
    ("ok", "正常"),
    ("degraded", "要対応"),
    ("lost", "画像消失"),
    ("unknown", "確認中"),
    ("failed", "異常"),
    ("away", "取り外し中"),
    ("ejected", "取り出し済み"),
    ("retired", "書込終了"),
    ("draining", "退避中"),
    ("adopted", "読取専用"),
    ("replaced", "交換済み"),
    ("done", "完了"),
    ("running", "実行中"),
    ("waiting", "待機中"),
    ("paused", "一時停止"),
    ("blocked", "実行できません"),
    ("off", "オフ"),
    ("live", "正常"),
    ("rebuilding", "再構築中"),
    ("archive", "アーカイブ"),
    ("mirror", "ミラー"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found_by_what_stands_between_them() {
        assert_eq!(holes("ok", "ok"), Some(vec![]));
        assert_eq!(holes("ok", "okay"), None);
        assert_eq!(holes("{} of {}", "1 of 2"), Some(vec!["1", "2"]));
        assert_eq!(
            holes("volume {} ({})", "volume A (b)"),
            Some(vec!["A", "b"])
        );
        assert_eq!(
            holes("volume {} ({})", "volume A (b))"),
            Some(vec!["A", "b)"])
        );
        assert_eq!(holes("a {}b", "a b"), Some(vec![""]));
        assert_eq!(holes("a {}b", "a "), None);
        assert_eq!(holes("{}b", "日本"), None);
    }
}
