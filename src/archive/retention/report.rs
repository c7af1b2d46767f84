//! What a run did, or would do: for the screen, and kept beside the reports of replaced disks.

use serde::{Deserialize, Serialize};

use crate::config;
use crate::volume::io::Disk;

use super::super::reports::FOLDER;
use super::super::{Archive, now, state};
use super::due::Due;

/// Kept instances that are named; the counts are complete.
const NAMED_MAX: usize = 1_000;
/// Different reasons that are counted.
const REASONS_MAX: usize = 100;
/// Why an instance of a protected study stays.
pub(super) const PROTECTED: &str = "its study is protected";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct RetentionReport {
    pub version: u32,
    /// `retention`.
    pub report: String,
    /// Nothing was removed: what would be.
    pub dry_run: bool,
    /// RFC 3339.
    pub begun: String,
    pub ended: String,
    /// It was ended before its end.
    pub stopped: bool,
    pub rules: Vec<RuleReport>,
    /// Volumes that were passed over, and the like; a sentence each.
    pub notes: Vec<String>,
    /// Why instances stayed, and how many.
    pub reasons: Vec<(String, u64)>,
    /// The first thousand that stayed.
    pub kept: Vec<KeptInstance>,
    /// Name under `reports/`; empty where none was written.
    pub name: String,
}

/// What one rule took. An instance that several rules take counts with the first of them; one that is kept in several
/// forms counts with each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct RuleReport {
    /// From 1.
    pub number: usize,
    pub rule: String,
    /// Names.
    pub volumes: Vec<String>,
    /// What fits, whether or not it can leave.
    pub due_count: u64,
    pub due_bytes: u64,
    /// Day of receipt of the oldest, RFC 3339.
    pub oldest: Option<String>,
    /// What left.
    pub gone_count: u64,
    pub gone_bytes: u64,
    /// Second copies that were made elsewhere for that.
    pub copied_count: u64,
    pub copied_bytes: u64,
    /// What stays although it fits.
    pub kept_count: u64,
    pub kept_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeptInstance {
    pub volume: String,
    pub study_instance_uid: String,
    pub sop_instance_uid: String,
    pub why: String,
}

/// For `kura status`; absent without rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RetentionStatus {
    pub rules_count: usize,
    /// Local time.
    pub window: String,
    pub running: bool,
    /// When a run last ended, RFC 3339, and what it did. Of earlier processes only runs that left a report are known.
    pub last_ended: Option<String>,
    pub last_gone_count: u64,
    pub last_gone_bytes: u64,
    pub last_kept_count: u64,
}

impl RetentionStatus {
    pub(super) fn new(
        config: &config::Retention,
        running: bool,
        last: Option<RetentionReport>,
    ) -> RetentionStatus {
        let last = last.unwrap_or_default();
        let (gone_count, gone_bytes) = last.sum(|rule| (rule.gone_count, rule.gone_bytes));
        let (kept_count, _) = last.sum(|rule| (rule.kept_count, 0));
        RetentionStatus {
            rules_count: config.rules.len(),
            window: config.window.to_string(),
            running,
            last_ended: (!last.ended.is_empty()).then_some(last.ended),
            last_gone_count: gone_count,
            last_gone_bytes: gone_bytes,
            last_kept_count: kept_count,
        }
    }
}

impl RuleReport {
    pub(super) fn take(&mut self, due: &Due, bytes: u64) {
        self.due_count += 1;
        self.due_bytes += bytes;
        if self
            .oldest
            .as_ref()
            .is_none_or(|oldest| due.received < *oldest)
        {
            self.oldest = Some(due.received.clone());
        }
    }
}

impl RetentionReport {
    /// Over all rules.
    pub fn sum(&self, of: fn(&RuleReport) -> (u64, u64)) -> (u64, u64) {
        let each = self.rules.iter().map(of);
        each.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    pub(super) fn keep(&mut self, rule: usize, bytes: u64, kept: KeptInstance) {
        self.rules[rule].kept_count += 1;
        self.rules[rule].kept_bytes += bytes;
        // Without what is in brackets: paths differ.
        let reason = kept.why.split(" (").next().unwrap_or_default();
        match self.reasons.iter().position(|(known, _)| known == reason) {
            Some(at) => self.reasons[at].1 += 1,
            None if self.reasons.len() < REASONS_MAX => self.reasons.push((reason.to_owned(), 1)),
            None => {}
        }
        if self.kept.len() < NAMED_MAX {
            self.kept.push(kept);
        }
    }

    pub(super) fn is_worth_keeping(&self) -> bool {
        let (gone, _) = self.sum(|rule| (rule.gone_count, 0));
        gone > 0
            || self
                .kept
                .iter()
                .any(|kept| kept.why.contains("is not good"))
    }

    fn text(&self) -> String {
        let (gone_count, gone_bytes) = self.sum(|rule| (rule.gone_count, rule.gone_bytes));
        let mut text = format!(
            "{gone_count} images left the volumes that received them, {gone_bytes} bytes; each has two good copies elsewhere.\n\nbegun      {}\nended      {}{}\n",
            self.begun,
            self.ended,
            if self.stopped { ", before its end" } else { "" },
        );
        for rule in &self.rules {
            text += &format!(
                "rule {:<5} {}; volumes {}: {} left ({} bytes), {} copied before, {} stay\n",
                rule.number,
                rule.rule,
                rule.volumes.join(", "),
                rule.gone_count,
                rule.gone_bytes,
                rule.copied_count,
                rule.kept_count,
            );
        }
        for (reason, count) in &self.reasons {
            text += &format!("stay       {count}: {reason}\n");
        }
        for note in &self.notes {
            text += &format!("note       {note}\n");
        }
        if !self.kept.is_empty() {
            text += "\nThese stay (at most a thousand are named):\n";
        }
        for kept in &self.kept {
            let line = format!(
                "  volume {}  {}  {}",
                kept.volume, kept.sop_instance_uid, kept.why
            );
            // A value from outside must not end a line, or steer a terminal.
            text.extend(
                line.chars()
                    .map(|c| if c.is_control() { '\u{fffd}' } else { c }),
            );
            text.push('\n');
        }
        text
    }
}

impl Archive {
    pub(super) fn new_retention_report(
        &self,
        config: &config::Retention,
        dry_run: bool,
    ) -> RetentionReport {
        let rules = config.rules.iter().enumerate();
        RetentionReport {
            version: 1,
            report: "retention".to_owned(),
            dry_run,
            begun: now(),
            rules: rules
                .map(|(at, rule)| RuleReport {
                    number: at + 1,
                    rule: rule.to_string(),
                    ..RuleReport::default()
                })
                .collect(),
            ..RetentionReport::default()
        }
    }

    pub(super) fn write_retention_report(&self, report: &mut RetentionReport) {
        let folder = self.state.join(FOLDER);
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        report.name = format!("retention-{time}");
        let disk = Disk::default();
        let put = |ending: &str, bytes: &[u8]| {
            let path = folder.join(format!("{}.{ending}", report.name));
            state::replace(&disk, &path, bytes)
        };
        let json = serde_json::to_vec_pretty(report).map_err(std::io::Error::other);
        // The text last: it is what is listed.
        let written = disk
            .create_dir_durable(&folder)
            .and_then(|()| put("json", &json?))
            .and_then(|()| put("txt", report.text().as_bytes()));
        if let Err(error) = written {
            tracing::warn!(folder = %folder.display(), %error, "the report of a retention run was not written");
            report.name.clear();
        }
    }

    pub(super) fn newest_retention_report(&self) -> Option<RetentionReport> {
        let mut reports = self.reports().into_iter();
        let newest = reports.find(|report| report.name.starts_with("retention-"))?;
        let shown = self.show_report(Some(newest.name)).ok()?;
        serde_json::from_value(shown.json).ok()
    }
}
