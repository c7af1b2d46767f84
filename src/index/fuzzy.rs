//! Person names word by word, for whoever asks for fuzzy semantic matching (PS3.4 C.2.2.2.1 leaves the way to us): every
//! word of the key begins some word of the name, in whichever component and component group that stands.
//!
//! Nothing is transliterated: ü is u as everywhere, but not ue. Hiragana and katakana are one.

use super::key;
use super::pattern::Pattern;

/// The form in which words are compared.
pub(super) fn fold(text: &str) -> String {
    let folded = key::fold(text);
    if folded.is_ascii() {
        return folded;
    }
    // The two Japanese syllabaries stand in the same order, 0x60 apart (Unicode blocks 3040 and 30A0).
    let hiragana = |c: char| match c {
        'ァ'..='ヶ' | 'ヽ' | 'ヾ' => char::from_u32(u32::from(c) - 0x60).unwrap_or(c),
        _ => c,
    };
    folded.chars().map(hiragana).collect()
}

/// Between words. Wildcards are part of a word.
fn separates(c: char) -> bool {
    let ascii = c.is_ascii_punctuation() && !matches!(c, '*' | '?');
    ascii || c.is_whitespace() || matches!(c, '・' | '·' | '、' | '。')
}

/// Marks within a word that people leave out.
fn is_left_out(c: char) -> bool {
    matches!(c, '\'' | '`' | '\u{2018}' | '\u{2019}')
}

fn words_of(text: &str) -> Vec<String> {
    let kept: String = text.chars().filter(|c| !is_left_out(*c)).collect();
    kept.split(separates)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The words of one component group of a key; none where it says nothing.
pub(super) fn asked(group: &str) -> Vec<Pattern> {
    // A full-width wildcard is none, and must not become one.
    let text = fold(&group.replace(['\u{FF0A}', '\u{FF1F}'], " "));
    let patterns = words_of(&text).into_iter().map(|word| Pattern::new(&word));
    let says = |pattern: &Pattern| !pattern.is_universal();
    patterns.filter(says).map(Pattern::open).collect()
}

/// What a word of a key can begin in one component group of a name: its words, and for those who write no spaces each
/// component, and all of the group, as one word.
pub(super) fn words(group: &str) -> Vec<String> {
    let text = fold(group);
    let mut words = words_of(&text);
    if words.len() < 2 {
        return words;
    }
    for component in text.split('^') {
        let parts = words_of(component);
        if parts.len() > 1 {
            words.push(parts.concat());
        }
    }
    words.push(words_of(&text).concat());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_and_also_told_in_one() {
        assert_eq!(words("Smith^John"), ["smith", "john", "smithjohn"]);
        assert_eq!(
            words("O'Hara-Lee^Anna"),
            ["ohara", "lee", "anna", "oharalee", "oharaleeanna"]
        );
        assert_eq!(words("ﾔﾏﾀﾞ^タロウ"), ["やまだ", "たろう", "やまだたろう"]);
        assert_eq!(words("^^ "), [""; 0]);
        assert_eq!(asked("* ^*").len(), 0);
        assert_eq!(asked("Sm?th, J*").len(), 2);
    }
}
