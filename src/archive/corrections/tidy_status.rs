//! What `kura status` says of files that are kept although they are not shown.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::index::{Copy, IndexError};

use super::super::Archive;
use super::tidy_plan::{End, Place, Records};

/// Reasons shown; corrections beyond are only counted.
const WAITS_SHOWN: usize = 10;

/// Files that corrections have replaced or removed. All zero where there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeptStatus {
    pub superseded_files_count: u64,
    pub superseded_bytes: u64,
    pub trash_files_count: u64,
    pub trash_bytes: u64,
    /// Hidden where they were: to be moved, on a volume that is away, or rejected only.
    pub in_tree_files_count: u64,
    pub in_tree_bytes: u64,
    /// When the next of them are deleted, RFC 3339.
    pub next_deletion: Option<String>,
    /// Why some are kept although their time is over, a sentence each.
    pub waits: Vec<String>,
}

impl KeptStatus {
    pub fn is_empty(&self) -> bool {
        self.superseded_files_count + self.trash_files_count + self.in_tree_files_count == 0
    }

    pub(super) fn say_waits(&mut self, waits: &BTreeMap<u64, String>) {
        let shown = waits.iter().take(WAITS_SHOWN);
        self.waits = shown
            .map(|(number, reason)| {
                format!("files of correction {number} are kept beyond their time: {reason}")
            })
            .collect();
        let rest = waits.len().saturating_sub(WAITS_SHOWN);
        if rest > 0 {
            self.waits
                .push(format!("files of {rest} more corrections are kept too"));
        }
    }
}

impl Archive {
    /// As it was when they were last looked at; where nobody does, as it is now.
    pub(in super::super) fn kept_status(&self) -> KeptStatus {
        let told = &self.corrections.tidy.told;
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.unwrap_or_else(|| {
            self.count_kept().unwrap_or_else(|error| {
                self.index_failed(&error);
                KeptStatus::default()
            })
        })
    }

    pub(super) fn count_kept(&self) -> Result<KeptStatus, IndexError> {
        let snapshot = self.view()?.snapshot;
        let days = self.days();
        let now = Timestamp::now();
        let mut kept = KeptStatus::default();
        let mut records = Records::default();
        let mut next: Option<Timestamp> = None;
        let mut failed = None;
        snapshot.all_hidden(None, &mut |_, hidden| {
            for content in &hidden.contents {
                match records.fate(&days, content.hid, &snapshot) {
                    Ok(fate) => {
                        if let End::At(at) = fate.end
                            && at > now
                        {
                            next = Some(next.map_or(at, |next| next.min(at)));
                        }
                    }
                    Err(error) => failed = Some(error),
                }
                let is_kept = |copy: &&Copy| !copy.bad && !self.is_given_up(&copy.volume_id);
                for copy in content.copies.iter().filter(is_kept) {
                    let (count, bytes) = match Place::of(&copy.path) {
                        Place::Tree => (&mut kept.in_tree_files_count, &mut kept.in_tree_bytes),
                        Place::Superseded => {
                            (&mut kept.superseded_files_count, &mut kept.superseded_bytes)
                        }
                        Place::Trash => (&mut kept.trash_files_count, &mut kept.trash_bytes),
                    };
                    *count += 1;
                    *bytes += copy.size_bytes;
                }
            }
            match failed.is_none() && !self.is_stopping() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        kept.next_deletion = next.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        Ok(kept)
    }
}
