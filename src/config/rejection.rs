//! `[rejection]`: what is done when a rejection note comes (PS3.16 CID 7011, IHE RAD TF-3 4.66.4.1.3.1).

use serde::Deserialize;

/// By the reason that the note gives. Nothing is hidden or removed unless it is asked for here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rejection {
    /// Rejected for quality reasons: (113001, DCM).
    pub quality: OnRejection,
    /// Rejected for patient safety reasons: (113037, DCM).
    pub patient_safety: OnRejection,
    /// Incorrect modality worklist entry: (113038, DCM).
    pub worklist: OnRejection,
    /// Data retention policy expired: (113039, DCM).
    pub retention_expired: OnRejection,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRejection {
    /// The note is kept as any other instance.
    #[default]
    Ignore,
    /// What it names is not answered any more; its files stay where they are.
    Hide,
    /// What it names goes to the trash.
    Remove,
}

impl Rejection {
    /// Whether any note does anything.
    pub fn is_heeded(&self) -> bool {
        *self != Rejection::default()
    }

    /// What a note with this document title does. None: it is no rejection note.
    pub fn for_title(&self, scheme: &str, code: &str) -> Option<OnRejection> {
        match (scheme, code) {
            ("DCM", "113001") => Some(self.quality),
            ("DCM", "113037") => Some(self.patient_safety),
            ("DCM", "113038") => Some(self.worklist),
            ("DCM", "113039") => Some(self.retention_expired),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method: the rows of CID 7011 that are about rejection, each with its own setting.
    #[test]
    fn each_title_has_its_setting_and_nothing_is_done_unasked() {
        let asked: Rejection = toml::from_str(
            "quality = \"hide\"\npatient_safety = \"remove\"\nworklist = \"hide\"\nretention_expired = \"remove\"\n",
        )
        .unwrap();
        let unasked = Rejection::default();
        assert!(asked.is_heeded() && !unasked.is_heeded());
        for (scheme, code, expected) in [
            ("DCM", "113001", Some(OnRejection::Hide)),
            ("DCM", "113037", Some(OnRejection::Remove)),
            ("DCM", "113038", Some(OnRejection::Hide)),
            ("DCM", "113039", Some(OnRejection::Remove)),
            // "Of Interest", and a code of another scheme.
            ("DCM", "113000", None),
            ("99X", "113001", None),
        ] {
            assert_eq!(asked.for_title(scheme, code), expected, "{code}");
            let by_default = expected.map(|_| OnRejection::Ignore);
            assert_eq!(unasked.for_title(scheme, code), by_default, "{code}");
        }
        assert!(toml::from_str::<Rejection>("quality = \"delete\"").is_err());
    }
}
