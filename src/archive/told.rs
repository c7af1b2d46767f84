//! Who is told of what the archive removes by itself: for the audit.

use std::sync::OnceLock;

use super::Archive;
use super::retention::RetentionReport;
use crate::index::CorrectionRecord;

/// Files that went without anybody asking at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// For good: of what a correction removed or replaced, when its time was over.
    Deleted {
        /// Its number, and who made it.
        correction: u64,
        by: String,
        studies: Vec<String>,
        files_count: u64,
    },
    /// Copies left volumes by rule; others stay.
    Left {
        volumes: Vec<String>,
        instances_count: u64,
        bytes: u64,
    },
}

/// It must not take its time.
pub(super) type Told = OnceLock<Box<dyn Fn(&Gone) + Send + Sync>>;

impl Archive {
    /// From now on; once.
    pub fn tell_gone(&self, told: Box<dyn Fn(&Gone) + Send + Sync>) {
        let _ = self.told.set(told);
    }

    pub(super) fn tell_deleted(&self, record: Option<CorrectionRecord>, files_count: u64) {
        let Some(told) = self.told.get() else { return };
        let number = record.as_ref().map_or(0, |record| record.number);
        let facts = record.map(|record| record.facts);
        let (by, studies) = facts.map_or_else(Default::default, |f| (f.who, f.studies));
        told(&Gone::Deleted {
            correction: number,
            by,
            studies,
            files_count,
        });
    }

    pub(super) fn tell_left(&self, report: &RetentionReport) {
        let (instances_count, bytes) = report.sum(|rule| (rule.gone_count, rule.gone_bytes));
        let Some(told) = self.told.get().filter(|_| instances_count > 0) else {
            return;
        };
        let gone = report.rules.iter().filter(|rule| rule.gone_count > 0);
        let mut volumes: Vec<String> = gone.flat_map(|rule| rule.volumes.clone()).collect();
        volumes.sort();
        volumes.dedup();
        told(&Gone::Left {
            volumes,
            instances_count,
            bytes,
        });
    }
}
