//! The items of a sequence as one text, so that the index and the ledger keep a sequence like any other value: JSON, an
//! array of objects, `GGGGEEEE` → text, as in `[{"00400009":"S1","00401001":"R1"}]`.

use std::collections::BTreeMap;

/// `group << 16 | element` → decoded text, several values joined by `\`.
pub type Item = BTreeMap<u32, String>;

/// Most items kept of one sequence.
pub const ITEMS_MAX: usize = 16;

/// Empty for no items. Items beyond [`ITEMS_MAX`] are left out.
pub fn to_text(items: &[Item]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: Vec<serde_json::Map<String, serde_json::Value>> = items
        .iter()
        .take(ITEMS_MAX)
        .map(|item| {
            let values = item.iter();
            values
                .map(|(tag, text)| (format!("{tag:08X}"), text.as_str().into()))
                .collect()
        })
        .collect();
    serde_json::to_string(&items).unwrap_or_default()
}

/// The items of such a text; of anything else none.
pub fn from_text(text: &str) -> Vec<Item> {
    let Ok(items) = serde_json::from_str::<Vec<BTreeMap<String, String>>>(text) else {
        return Vec::new();
    };
    let items = items.into_iter().take(ITEMS_MAX);
    items
        .map(|item| {
            item.into_iter()
                .filter_map(|(tag, text)| Some((u32::from_str_radix(&tag, 16).ok()?, text)))
                .collect()
        })
        .collect()
}

/// The items of several such texts in one, each once.
pub fn joined<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let mut all: Vec<Item> = Vec::new();
    for item in texts.into_iter().flat_map(|text| from_text(text)) {
        if all.len() < ITEMS_MAX && !all.contains(&item) {
            all.push(item);
        }
    }
    to_text(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_were() {
        let item = |step: &str| Item::from([(0x0040_0009, step.to_owned())]);
        let items = vec![item("S\"1"), item(""), item("山田")];
        assert_eq!(from_text(&to_text(&items)), items);
        assert_eq!(to_text(&[]), "");
        assert_eq!(from_text("what"), Vec::<Item>::new());
        let other = to_text(&[item("S2"), item("")]);
        let all = [to_text(&items), String::new(), other];
        let expected = vec![item("S\"1"), item(""), item("山田"), item("S2")];
        assert_eq!(from_text(&joined(&all)), expected);
    }
}
