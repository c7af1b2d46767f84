//! `[index]`: what is kept besides the usual, so that queries can ask for it.

use serde::Deserialize;

use crate::dicom::extra_keys::{EXTRA_KEYS_MAX, ExtraKey, parse};
use crate::job::Window;

/// `[index]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexConfig {
    pub extra_keys: Vec<ExtraKey>,
    /// When images that were there before a key are looked at for it.
    pub fill_window: Window,
    /// Memory for pages of the index, bytes.
    pub cache_bytes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IndexFile {
    extra_keys: Vec<String>,
    fill_window: Window,
    cache_bytes: usize,
}

/// More saves reads of the file, which the system mostly has in memory anyway.
const CACHE_BYTES_DEFAULT: usize = 64 << 20;

impl Default for IndexFile {
    fn default() -> IndexFile {
        IndexFile {
            extra_keys: Vec::new(),
            fill_window: Window::ALWAYS,
            cache_bytes: CACHE_BYTES_DEFAULT,
        }
    }
}

impl IndexFile {
    /// The error is a sentence.
    pub(super) fn checked(&self) -> Result<IndexConfig, String> {
        let mut extra_keys: Vec<ExtraKey> = Vec::new();
        for text in &self.extra_keys {
            let shown: String = text.chars().take(80).collect();
            let key = parse(text).map_err(|why| format!("[index] extra_keys: {shown:?} {why}"))?;
            let Some(key) = key else { continue };
            if extra_keys.iter().any(|other| other.tag == key.tag) {
                return Err(format!("[index] extra_keys: {shown:?} is there twice"));
            }
            extra_keys.push(key);
        }
        if extra_keys.len() > EXTRA_KEYS_MAX {
            return Err(format!(
                "[index] extra_keys are {}; at most {EXTRA_KEYS_MAX} are kept",
                extra_keys.len()
            ));
        }
        if !(8 << 20..=64 << 30).contains(&self.cache_bytes) {
            return Err(format!(
                "[index] cache_bytes = {}; 8388608 to 68719476736 are possible",
                self.cache_bytes
            ));
        }
        Ok(IndexConfig {
            extra_keys,
            fill_window: self.fill_window,
            cache_bytes: self.cache_bytes,
        })
    }
}

/// The part of what `kura init` writes that is about the index.
pub(super) const TEMPLATE: &str = r#"
[index]
# Attributes that queries can ask for besides the usual (docs/queries.md), at most 64: a keyword or GGGG,EEEE, with @patient,
# @study, @series or @image where the level does not follow from it, and :VR for private ones: ["MedicalAlerts",
# "0018,0050@image", "0009,1010:LO@series"]. Each costs room for every image, series or study.
extra_keys = []
# When images that were there before are read for new keys.
fill_window = "00:00-24:00"
# Memory for pages of the index, bytes: 8 MiB to 64 GiB. More makes queries of very large archives faster.
cache_bytes = 67108864
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_kept_are_refused_with_their_name() {
        let checked = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let file = IndexFile {
                extra_keys: keys,
                ..IndexFile::default()
            };
            file.checked()
        };
        let both = checked(&["MedicalAlerts", "StudyComments"]).expect("one is kept anyway");
        assert_eq!(both.extra_keys.len(), 1);
        let error = checked(&["PixelData@image"]).unwrap_err();
        assert!(
            error.contains("\"PixelData@image\" does not stand"),
            "{error}"
        );
        let cache = |cache_bytes| IndexFile {
            cache_bytes,
            ..IndexFile::default()
        };
        assert!(cache(1).checked().unwrap_err().contains("cache_bytes = 1;"));
        let error = checked(&["MedicalAlerts", "0010,2000@series"]).unwrap_err();
        assert!(error.contains("twice"), "{error}");
        let many: Vec<String> = (0..65)
            .map(|at| format!("0009,10{at:02X}:LO@study"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(checked(&many).unwrap_err().contains("at most 64"));
    }
}
