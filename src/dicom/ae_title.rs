//! The name of an application entity.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest AE title, in characters. Source: PS3.5 6.2, VR AE.
pub const AE_TITLE_LENGTH_MAX: usize = 16;

/// An AE title: 1 to 16 characters of the default repertoire (20H to 7EH), without backslash.
///
/// Leading and trailing spaces mean nothing (PS3.5 6.2) and are not kept. Case is kept and counts in comparisons here;
/// whoever wants to be lenient compares with `eq_ignore_ascii_case`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AeTitle(String);

/// Why a text is no AE title.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AeTitleError {
    #[error("an AE title may not be empty or only spaces")]
    Empty,
    #[error("AE title {text:?} has {length} characters, at most {AE_TITLE_LENGTH_MAX} are allowed")]
    TooLong { text: String, length: usize },
    #[error(
        "AE title {text:?} contains {character:?}; allowed are the printable ASCII characters except backslash"
    )]
    BadCharacter { text: String, character: char },
}

impl AeTitle {
    /// The title without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AeTitle {
    type Err = AeTitleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let title = text.trim_matches(' ');
        if title.is_empty() {
            return Err(AeTitleError::Empty);
        }
        if let Some(character) = title
            .chars()
            .find(|c| !(' '..='~').contains(c) || *c == '\\')
        {
            return Err(AeTitleError::BadCharacter {
                text: title.chars().take(64).collect(),
                character,
            });
        }
        if title.len() > AE_TITLE_LENGTH_MAX {
            return Err(AeTitleError::TooLong {
                text: title.chars().take(64).collect(),
                length: title.len(),
            });
        }
        Ok(AeTitle(title.to_owned()))
    }
}

impl TryFrom<String> for AeTitle {
    type Error = AeTitleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AeTitle> for String {
    fn from(title: AeTitle) -> String {
        title.0
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_to_sixteen_printable_characters_without_its_padding() {
        assert_eq!("  CT 1 ".parse::<AeTitle>().unwrap().as_str(), "CT 1");
        assert_eq!(
            "ABCDEFGHIJKLMNOP".parse::<AeTitle>().unwrap().to_string(),
            "ABCDEFGHIJKLMNOP"
        );
        assert_eq!("   ".parse::<AeTitle>(), Err(AeTitleError::Empty));
        assert!(matches!(
            "ABCDEFGHIJKLMNOPQ".parse::<AeTitle>(),
            Err(AeTitleError::TooLong { length: 17, .. })
        ));
        for bad in ["A\\B", "A\tB", "A\0", "CTé"] {
            assert!(
                matches!(
                    bad.parse::<AeTitle>(),
                    Err(AeTitleError::BadCharacter { .. })
                ),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_title_in_a_file_is_checked_when_read() {
        assert_eq!(
            serde_json::from_str::<AeTitle>("\"KURA\"")
                .unwrap()
                .as_str(),
            "KURA"
        );
        assert!(serde_json::from_str::<AeTitle>("\"\"").is_err());
        assert_eq!(
            serde_json::to_string(&"KURA".parse::<AeTitle>().unwrap()).unwrap(),
            "\"KURA\""
        );
    }
}
