//! `[corrections]`: how long what was replaced or removed is kept.

use serde::Deserialize;

/// `[corrections]`: files that a correction took out of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Corrections {
    /// Files of what was amended, or lost a conflict, in `superseded/`; 0: for ever.
    pub keep_days: u64,
    /// Files of what was removed, in `trash/`; 0: for ever.
    pub trash_days: u64,
}

impl Default for Corrections {
    fn default() -> Corrections {
        Corrections {
            keep_days: 365,
            trash_days: 30,
        }
    }
}

/// Some hundred years: beyond, days are no dates any more.
const DAYS_MAX: u64 = 36_500;

impl Corrections {
    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, days) in [
            ("keep_days", self.keep_days),
            ("trash_days", self.trash_days),
        ] {
            if days > DAYS_MAX {
                return Err(format!(
                    "[corrections] {key} is {days}; at most {DAYS_MAX} is allowed, and 0 keeps for ever"
                ));
            }
        }
        Ok(())
    }
}

/// The part of what `kura init` writes that is about corrections.
pub(super) const TEMPLATE: &str = r#"
[corrections]
# Days that the files of what was amended are kept in superseded/, from where it can be taken back; 0: for ever. They
# are deleted only when what stands in their place has two good copies that were read again.
keep_days = 365
# Days that the files of what was removed are kept in trash/; 0: for ever.
trash_days = 30
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_beyond_all_dates_are_refused() {
        let config = Corrections {
            trash_days: DAYS_MAX + 1,
            ..Corrections::default()
        };
        assert!(config.check().unwrap_err().contains("trash_days"));
        assert_eq!(Corrections::default().check(), Ok(()));
    }
}
