//! Keys of the index: order-preserving, no key a prefix of another's part.
//!
//! | part | bytes |
//! |---|---|
//! | UID of digits and dots | one nibble a character: `.` = 1, `0`–`9` = 2–11, then the nibble 0, filled to a byte |
//! | any other UID | `FF`, the raw bytes with `00` → `01 01` and `01` → `01 02`, then `00` |
//! | value | [`fold`]ed text, cut at [`FOLDED_BYTES_MAX`], then `00` |
//!
//! Because every part ends itself, parts can be put one after the other and read back.

use unicode_normalization::UnicodeNormalization;

/// Longest folded value in a key, in bytes of UTF-8. Longer values are cut: a query finds them by their beginning
/// and is decided by the record.
pub const FOLDED_BYTES_MAX: usize = 255;

/// Longest UID packed by nibbles, in characters (PS3.5 9.1). Longer ones take the raw form.
const UID_CHARS_MAX: usize = 64;

/// Appends the packed form of a UID.
pub fn pack_into(out: &mut Vec<u8>, uid: &str) {
    let plain = uid.len() <= UID_CHARS_MAX
        && uid
            .bytes()
            .all(|byte| byte == b'.' || byte.is_ascii_digit());
    if !plain {
        out.push(0xFF);
        for byte in uid.bytes() {
            match byte {
                0 | 1 => out.extend_from_slice(&[1, byte + 1]),
                _ => out.push(byte),
            }
        }
        out.push(0);
        return;
    }
    let nibble = |byte: u8| if byte == b'.' { 1 } else { byte - b'0' + 2 };
    let mut pairs = uid.as_bytes().chunks_exact(2);
    for pair in &mut pairs {
        out.push(nibble(pair[0]) << 4 | nibble(pair[1]));
    }
    match pairs.remainder() {
        [last] => out.push(nibble(*last) << 4),
        _ => out.push(0),
    }
}

/// The packed form of UIDs, one after the other.
pub fn pack(uids: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(uids.iter().map(|uid| uid.len() / 2 + 2).sum());
    for uid in uids {
        pack_into(&mut out, uid);
    }
    out
}

/// Takes one packed UID from the front; None when the bytes are not one.
pub fn unpack(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut uid = Vec::with_capacity(UID_CHARS_MAX);
    if let [0xFF, rest @ ..] = bytes {
        let mut at = 0;
        loop {
            match *rest.get(at)? {
                0 => return Some((String::from_utf8(uid).ok()?, &rest[at + 1..])),
                1 => {
                    uid.push(rest.get(at + 1)?.checked_sub(1).filter(|byte| *byte < 2)?);
                    at += 2;
                }
                byte => {
                    uid.push(byte);
                    at += 1;
                }
            }
        }
    }
    for (at, byte) in bytes.iter().enumerate() {
        for nibble in [byte >> 4, byte & 15] {
            match nibble {
                0 => return Some((String::from_utf8(uid).ok()?, &bytes[at + 1..])),
                1 => uid.push(b'.'),
                2..=11 => uid.push(nibble - 2 + b'0'),
                _ => return None,
            }
        }
    }
    None
}

/// The form in which texts are compared: compatibility forms made one (full and half width), lower case (ß is ss, ς is σ,
/// as in capitals), accents of Latin, Greek and Cyrillic letters taken off, spaces at the ends and control characters
/// removed.
///
/// Marks of other scripts stay: か and が are two letters.
pub fn fold(text: &str) -> String {
    fold_untrimmed(text).trim().to_owned()
}

/// [`fold`] without taking off the spaces at the ends: for pieces of a text.
pub fn fold_untrimmed(text: &str) -> String {
    if text.is_ascii() {
        return text
            .chars()
            .filter(|c| !c.is_ascii_control())
            .map(|c| c.to_ascii_lowercase())
            .collect();
    }
    let folded: String = text
        .nfkd()
        .flat_map(char::to_lowercase)
        .filter(|c| !('\u{300}'..='\u{36F}').contains(c) && !c.is_control())
        .map(|c| if c == 'ς' { 'σ' } else { c })
        .nfkc()
        .collect();
    match folded.contains('ß') {
        true => folded.replace('ß', "ss"),
        false => folded,
    }
}

/// Whether a folded value, as it is found in a key, may be the beginning of a longer one.
pub fn may_be_cut(kept: &str) -> bool {
    kept.len() >= CUT_BYTES_MIN
}

/// What is shorter was not cut: a character has up to four bytes, of which the last did not fit.
pub const CUT_BYTES_MIN: usize = FOLDED_BYTES_MAX - 3;

/// One folded value, cut on a character boundary so that it fits a key.
pub fn cut(folded: &str) -> &str {
    let mut end = folded.len().min(FOLDED_BYTES_MAX);
    while !folded.is_char_boundary(end) {
        end -= 1;
    }
    &folded[..end]
}

/// `cut(folded) · 00 · pack(uid)`.
pub fn value_key(folded: &str, uid: &str) -> Vec<u8> {
    let value = cut(folded);
    let mut out = Vec::with_capacity(value.len() + uid.len() / 2 + 3);
    out.extend_from_slice(value.as_bytes());
    out.push(0);
    pack_into(&mut out, uid);
    out
}

/// What the keys of a value begin with, whatever the study.
pub fn value_prefix(folded: &str) -> Vec<u8> {
    let mut out = cut(folded).as_bytes().to_vec();
    out.push(0);
    out
}

/// The smallest byte string greater than all that begin with `prefix`; empty when there is none (= no end).
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xFF {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
}

/// Half-open range of all keys that begin with `prefix`.
pub fn prefix_range(prefix: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let end = successor(&prefix);
    (prefix, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fold_makes_spellings_of_one_text_equal() {
        for (text, folded) in [
            ("SMITH^John ", "smith^john"),
            ("Müller", "muller"),
            ("ÅNGSTRÖM", "angstrom"),
            ("Groß", "gross"),
            ("GRO\u{1E9E}", "gross"),
            ("Οδυσσεύς", "οδυσσευσ"),
            ("Éloïse", "eloise"),
            ("ＹＡＭＡＤＡ", "yamada"),
            ("ﾔﾏﾀﾞ", "ヤマダ"),
            ("が", "が"),
            ("山田^太郎", "山田^太郎"),
            ("김희중", "김희중"),
            ("Люкceмбypг", "люкceмбypг"),
            ("\u{0130}stanbul", "istanbul"),
            ("a\0b", "ab"),
            (" \u{3000}x\u{3000}", "x"),
            ("", ""),
        ] {
            assert_eq!(fold(text), folded.nfc().collect::<String>(), "{text}");
        }
        assert_ne!(fold("か"), fold("が"));
    }

    #[test]
    fn successor_is_the_end_of_a_prefix() {
        assert_eq!(successor(b"abc"), b"abd");
        assert_eq!(successor(&[1, 0xFF, 0xFF]), [2]);
        assert!(successor(&[0xFF]).is_empty());
    }

    proptest! {
        #[test]
        fn packed_uids_read_back_in_a_row(uids in prop::collection::vec("([0-9.]{0,66}|\\PC{0,20}|[\0\u{1}\u{2}a]{0,6})", 1..4)) {
            let refs: Vec<&str> = uids.iter().map(String::as_str).collect();
            let packed = pack(&refs);
            let mut rest = packed.as_slice();
            for uid in &uids {
                let (read, after) = unpack(rest).unwrap();
                prop_assert_eq!(&read, uid);
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn packed_uids_keep_their_order_and_are_no_prefix(a in "[0-9.]{0,12}", b in "[0-9.]{0,12}") {
            let (x, y) = (pack(&[&a]), pack(&[&b]));
            prop_assert_eq!(a.cmp(&b), x.cmp(&y));
            prop_assert!(a == b || !x.starts_with(&y));
        }

        #[test]
        fn unpack_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = unpack(&bytes);
        }

        #[test]
        fn fold_is_stable(text in "\\PC{0,40}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
