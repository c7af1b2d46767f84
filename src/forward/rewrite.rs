//! The Patient ID that an instance has at a peer (`rewrite` of a rule).

use std::collections::HashMap;

use crate::config::Coerce;
use crate::dicom::tags;
use crate::sending::{Changed, Rewrite};

#[derive(Clone)]
pub struct PatientIdRewrite {
    /// Name of the rule, for what is said.
    rule: String,
    config: Coerce,
    map: HashMap<String, String>,
}

impl PatientIdRewrite {
    /// Reads the map. The error is a sentence.
    pub fn open(rule: &str, config: &Coerce) -> Result<PatientIdRewrite, String> {
        let of = format!("[[forward.rule]] {rule}: rewrite");
        let map = config.read_map();
        Ok(PatientIdRewrite {
            rule: rule.to_owned(),
            config: config.clone(),
            map: map.map_err(|reason| format!("{of}: {reason}"))?,
        })
    }
}

impl Rewrite for PatientIdRewrite {
    /// What the map does not name is not sent: under its own number it would be another patient there. Without a Patient ID
    /// and without a map it goes out as it is; a prefix alone would make one patient of all who have no number.
    fn changes(&self, patient_id: &str) -> Result<Vec<Changed>, String> {
        let (rule, old) = (&self.rule, patient_id.trim());
        if old.is_empty() && self.config.map.is_none() {
            return Ok(Vec::new());
        }
        let (value, mapped) = self.config.new_value(old, &self.map);
        if self.config.map.is_some() && !mapped {
            return Err(format!(
                "the map of rule {rule} does not name its Patient ID; add a line to the map, then: kura forward retry"
            ));
        }
        let mut changes = vec![Changed {
            tag: tags::PATIENT_ID,
            value,
        }];
        if let Some(issuer) = &self.config.issuer {
            changes.push(Changed {
                tag: tags::ISSUER_OF_PATIENT_ID,
                value: issuer.trim().to_owned(),
            });
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(change: impl FnOnce(&mut Coerce)) -> PatientIdRewrite {
        let mut config = Coerce::default();
        change(&mut config);
        let map = [("12".to_owned(), "X 12".to_owned())];
        PatientIdRewrite {
            rule: "r".to_owned(),
            config,
            map: map.into(),
        }
    }

    #[test]
    fn what_the_map_does_not_name_is_not_sent() {
        let mapped = rewrite(|config| {
            config.strip_zeros = true;
            config.map = Some("ids.csv".into());
            config.prefix = "H".to_owned();
            config.issuer = Some("HOSPITAL".to_owned());
        });
        let changes = mapped.changes("0012 ").unwrap();
        let values: Vec<&str> = changes.iter().map(|c| c.value.as_str()).collect();
        assert_eq!(values, ["HX 12", "HOSPITAL"]);
        for patient_id in ["13", "", "  "] {
            let reason = mapped.changes(patient_id).unwrap_err();
            assert!(reason.contains("map of rule r"), "{reason}");
        }
    }

    #[test]
    fn nobody_gets_a_number_by_a_prefix_alone() {
        let prefixed = rewrite(|config| {
            config.prefix = "H".to_owned();
            config.pad = 6;
        });
        assert_eq!(prefixed.changes("").unwrap(), []);
        assert_eq!(prefixed.changes("47").unwrap()[0].value, "H000047");
    }
}
