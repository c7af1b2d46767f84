//! What an amendment is asked for, and what is told of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dicom::{Level, VR, vr_of};
use crate::index::Values;

use super::goal::tag_of;

/// What is to be amended, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Amend {
    /// STUDY, SERIES or IMAGE.
    pub level: Level,
    /// UIDs at that level; of instances there may be several.
    pub of: Vec<String>,
    /// Tag (group << 16 | element) and new text; an empty text clears the value.
    pub values: Vec<(u32, String)>,
    /// The study that they become part of; a new one when no study has that UID.
    pub to_study: Option<String>,
    /// The study whose patient is the right one.
    pub to_patient_of_study: Option<String>,
    /// What is amended gets new UIDs.
    pub new_uids: bool,
    /// A data set whose character set lacks a character is written in UTF-8.
    pub utf8: bool,
    /// Also when an image came a moment ago.
    pub now: bool,
    /// Also when the Patient ID belongs to somebody of another name or birth date.
    pub merge_patients: bool,
    pub who: String,
    pub why: String,
}

/// Which amendment is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    pub number: Option<u64>,
    /// The latest one of this study.
    pub study: Option<String>,
    pub who: String,
    pub why: String,
}

/// `kura amend`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AmendVerb {
    /// What it would do.
    Plan {
        ask: Amend,
    },
    /// Begins it, in the background.
    Make {
        ask: Amend,
    },
    /// How far it is.
    Look,
    /// What taking back would do.
    PlanUndo {
        ask: Undo,
    },
    Undo {
        ask: Undo,
    },
}

/// What is said to [`AmendVerb`].
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AmendSaid {
    Plan(Box<AmendPlan>),
    Status(Box<AmendStatus>),
    Undo(Box<Change>),
}

/// Before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AmendPlan {
    pub level: String,
    pub of: Vec<String>,
    pub study_instance_uid: String,
    /// The study that they are part of afterwards; it may be the same.
    pub to_study_instance_uid: String,
    /// There are instances in it already that are not amended.
    pub joins: bool,
    /// By which the study is recognised now.
    pub shown: Values,
    /// What becomes another; empty texts are no values.
    pub before: Values,
    pub after: Values,
    pub series_count: u64,
    pub instances_count: u64,
    /// Variants and conflicts, which are amended too.
    pub others_count: u64,
    /// Data sets, bytes.
    pub bytes: u64,
    /// Of one instance.
    pub sample: Option<Sample>,
}

/// What becomes another in one data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sample {
    pub sop_instance_uid: String,
    pub differences: Vec<Differs>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Differs {
    /// `(gggg,eeee)`
    pub tag: String,
    pub keyword: String,
    /// None: the element is not there.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// The amendment under way, or the last one of this process.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AmendStatus {
    pub running: bool,
    /// What is being done now.
    pub step: String,
    pub done_count: u64,
    pub total_count: u64,
    /// Read, bytes.
    pub done_bytes: u64,
    pub seconds: f64,
    /// When it came to its end.
    pub made: Option<Box<Change>>,
    /// Why it did not; nothing was changed then.
    pub error: Option<String>,
}

/// A correction, as `kura changes` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    pub number: u64,
    pub in_effect: bool,
    /// RFC 3339.
    pub at: String,
    /// `amended`, `removed`, …
    pub did: String,
    pub who: String,
    pub why: String,
    pub way: String,
    pub level: String,
    pub of: Vec<String>,
    pub studies: Vec<String>,
    pub instances_count: u64,
    pub before: Values,
    pub after: Values,
    /// Who said last that it is in effect or not, if that was not said once only.
    pub last: Option<LastSaid>,
    /// Names of the volumes whose ledgers say it.
    pub volumes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastSaid {
    pub at: String,
    pub who: String,
    pub why: String,
    pub way: String,
}

/// `kura changes`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChangesVerb {
    List {
        study: Option<String>,
        /// `YYYY-MM-DD`, UTC; none: all.
        since: Option<String>,
        most: usize,
    },
    Show {
        number: u64,
    },
}

/// Texts of attributes by tag, the later winning; none of them empty.
pub(super) fn without_empty(values: &Values) -> Values {
    let filled = values.iter().filter(|(_, text)| !text.is_empty());
    filled.map(|(tag, text)| (*tag, text.clone())).collect()
}

/// What differs between two sets of values: each tag with its text before and after, empty where there is none.
pub(super) fn changed(before: &Values, after: &Values) -> (Values, Values) {
    let text = |values: &Values, tag: &u32| values.get(tag).cloned().unwrap_or_default();
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    for tag in before.keys().chain(after.keys()) {
        let (was, is) = (text(before, tag), text(after, tag));
        // Sequences stay in the data sets as they are.
        if was != is && vr_of(tag_of(*tag)) != VR::SQ {
            old.insert(*tag, was);
            new.insert(*tag, is);
        }
    }
    (old, new)
}
