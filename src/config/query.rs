//! `[query]`: how much one query may bring.

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queries {
    /// Matches that one C-FIND is answered with at most; one more ends it with A700H. `None`: all.
    pub matches_max: Option<u64>,
}

impl Queries {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.matches_max {
            Some(0) => Err(
                "[query] matches_max = 0 would answer nothing; leave it out for no limit"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

pub(super) const TEMPLATE: &str = r#"
[query]
# Most matches that one query is answered with; with more it ends with A700H, and the comment says so. Without it: all.
# matches_max = 10000
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_said_by_leaving_it_out() {
        let read = |text: &str| toml::from_str::<Queries>(text).map(|queries| queries.check());
        assert_eq!(read(""), Ok(Ok(())));
        assert_eq!(read("matches_max = 1"), Ok(Ok(())));
        assert!(matches!(read("matches_max = 0"), Ok(Err(why)) if why.contains("leave it out")));
        assert!(read("matches_max = -1").is_err());
    }
}
