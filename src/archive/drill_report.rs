//! What a drill found, as it is kept and shown.

use serde::{Deserialize, Serialize};

/// Missing contents listed for a side.
pub const LISTED_MAX: usize = 1_000;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DrillReport {
    /// Version of this object's shape.
    pub version: u32,
    /// `proven`; `partly`: something has one copy only, or is away; `failed`: something could not be recovered.
    pub state: String,
    pub archive_id: String,
    /// RFC 3339.
    pub begun: String,
    pub ended: String,
    /// Contents: instances, and what else is kept under their UIDs.
    pub contents_count: u64,
    /// With a good copy on one volume only.
    pub one_copy_count: u64,
    /// With all good copies on one physical disk.
    pub one_disk_count: u64,
    /// Without any good copy.
    pub lost_count: u64,
    pub sides: Vec<Side>,
    /// Files read of each volume at most, and the number that chose them.
    pub sample: u32,
    pub seed: u64,
    pub volumes: Vec<Sampled>,
    /// What is wrong and what to do, a sentence each.
    pub actions: Vec<String>,
    /// Where this was written, without `.txt` and `.json`.
    pub file: String,
}

/// What would be known if some volumes were gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Side {
    /// `archive volumes alone`, `mirror volumes alone`, `without A`.
    pub name: String,
    /// Names of the volumes that are left.
    pub volumes: Vec<String>,
    /// What the ledgers of these volumes say.
    pub known: Counts,
    /// What there is to be known. Each side is held against the index as it was at that moment.
    pub all: Counts,
    /// Contents with a good copy on these volumes, as their ledgers say.
    pub recovered_count: u64,
    /// Contents whose copies are all on volumes that are gone on this side.
    pub waiting_count: u64,
    /// Contents whose copies are on a volume of this side that is away now.
    pub away_count: u64,
    /// Contents that are on these volumes, but their ledgers do not say so, or that have no good copy at all.
    pub lost_count: u64,
    /// What the ledgers say and the index does not.
    pub unknown_count: u64,
    /// What was wrong with ledgers, a sentence each.
    pub notes: Vec<String>,
    /// The first thousand that were not recovered, those that are lost before the others.
    pub missing: Vec<Missing>,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Counts {
    pub studies: u64,
    pub series: u64,
    pub instances: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Missing {
    /// `lost`, `waiting` or `away`.
    pub kind: String,
    pub sop_instance_uid: String,
    pub study_instance_uid: String,
    pub series_instance_uid: String,
    /// Volumes with a good copy.
    pub on: Vec<String>,
}

/// Files of a volume that were read to their end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sampled {
    pub volume: String,
    pub role: String,
    /// `here` or `away`.
    pub state: String,
    pub read_count: u64,
    pub good_count: u64,
    pub bad: Vec<BadFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BadFile {
    pub path: String,
    pub sop_instance_uid: String,
    pub reason: String,
}

impl DrillReport {
    /// Says what follows from what was found.
    pub fn conclude(&mut self) {
        let sum = |of: fn(&Side) -> u64| self.sides.iter().map(of).sum::<u64>();
        let bad: u64 = self
            .volumes
            .iter()
            .map(|v| v.read_count - v.good_count)
            .sum();
        let is_away = self.volumes.iter().any(|volume| volume.state == "away");
        let failed = sum(|side| side.lost_count) + self.lost_count + bad > 0;
        let partly = sum(|side| side.waiting_count + side.away_count + side.unknown_count)
            + self.one_copy_count
            + self.one_disk_count
            > 0
            || self.sides.iter().any(|side| !side.notes.is_empty())
            || is_away;
        self.state = match (failed, partly) {
            (true, _) => "failed",
            (false, true) => "partly",
            (false, false) => "proven",
        }
        .to_owned();
    }

    /// The answer, what to do, the tables; of what is missing at most so many for each side.
    pub fn text(&self, missing_most: usize) -> String {
        let mut text = format!("{:8} {}\n", self.state, self.answer());
        for action in &self.actions {
            text.push_str(&format!("action   {action}\n"));
        }
        let of = |known: u64, all: u64| format!("{known} of {all}");
        let sides = self.sides.iter().map(|side| {
            vec![
                side.name.clone(),
                of(side.known.studies, side.all.studies),
                of(side.known.series, side.all.series),
                of(side.known.instances, side.all.instances),
                side.recovered_count.to_string(),
                side.waiting_count.to_string(),
                side.away_count.to_string(),
                side.lost_count.to_string(),
            ]
        });
        text.push_str(&columns(
            &[
                "SIDE",
                "STUDIES",
                "SERIES",
                "INSTANCES",
                "RECOVERED",
                "WAITING",
                "AWAY",
                "LOST",
            ],
            sides,
        ));
        let volumes = self.volumes.iter().map(|volume| {
            vec![
                volume.volume.clone(),
                volume.role.clone(),
                volume.state.clone(),
                volume.read_count.to_string(),
                volume.good_count.to_string(),
            ]
        });
        text.push_str(&columns(
            &["VOLUME", "ROLE", "STATE", "FILES READ", "GOOD"],
            volumes,
        ));
        for volume in &self.volumes {
            for bad in &volume.bad {
                let (name, path, reason) = (&volume.volume, &bad.path, &bad.reason);
                text.push_str(&format!("bad      {name} {path}: {reason}\n"));
            }
        }
        for side in &self.sides {
            for note in &side.notes {
                text.push_str(&format!("note     {}: {note}\n", side.name));
            }
            for missing in side.missing.iter().take(missing_most) {
                let on = match missing.on.is_empty() {
                    true => "no good copy".to_owned(),
                    false => format!("on {}", missing.on.join(", ")),
                };
                text.push_str(&format!(
                    "{:8} {}: {} of study {} ({on})\n",
                    missing.kind, side.name, missing.sop_instance_uid, missing.study_instance_uid
                ));
            }
            let all = side.lost_count + side.waiting_count + side.away_count;
            let more = all.saturating_sub(side.missing.len().min(missing_most) as u64);
            if more > 0 {
                text.push_str(&format!(
                    "         {}: {more} more are missing\n",
                    side.name
                ));
            }
        }
        text.push_str(&format!(
            "drill    {} to {}, seed {}\n",
            self.begun, self.ended, self.seed
        ));
        // UIDs and paths come from outside.
        text.chars()
            .map(|c| {
                if c.is_control() && c != '\n' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect()
    }

    fn answer(&self) -> String {
        let read: u64 = self.volumes.iter().map(|volume| volume.read_count).sum();
        let good: u64 = self.volumes.iter().map(|volume| volume.good_count).sum();
        let all = self.contents_count;
        let files = match read - good {
            0 => format!("{good} of {read} files read are good"),
            bad => format!("{bad} of {read} files read are not what they were"),
        };
        let most = |of: fn(&Side) -> u64| self.sides.iter().max_by_key(|side| of(side));
        let lost = most(|side| side.lost_count).filter(|side| side.lost_count > 0);
        let waiting = most(|side| side.waiting_count).map_or(0, |side| side.waiting_count);
        let what = match (self.state.as_str(), lost) {
            ("proven", _) => format!("all {all} contents come back from each side alone"),
            (_, Some(side)) => format!(
                "{} of {all} contents do not come back: {}",
                side.lost_count, side.name
            ),
            ("failed", None) => return files,
            _ if self.one_copy_count > 0 => {
                format!(
                    "{} of {all} contents have one copy only",
                    self.one_copy_count
                )
            }
            _ if self.one_disk_count > 0 => format!(
                "{} of {all} contents have their copies on one physical disk",
                self.one_disk_count
            ),
            _ if waiting > 0 => format!("{waiting} of {all} contents are on one side only"),
            _ => "nothing is missing, but not everything could be proven".to_owned(),
        };
        format!("{what}; {files}")
    }
}

/// As wide as their widest cell, two blanks between.
fn columns(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate();
        let line: Vec<String> = cells
            .map(|(column, cell)| format!("{cell:0$}", width(column)))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
