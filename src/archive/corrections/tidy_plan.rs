//! Where the files of a content belong, and how long they are kept: from what the corrections say of it, and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::config;
use crate::index::{ContentId, CorrectionFacts, CorrectionRecord, Did, Hid, IndexError, Snapshot};
use crate::volume::layout;

use super::super::content::Content;

/// The way of the line by which the trash is emptied: what the correction removed is deleted at once, on volumes that come
/// back later too.
pub const TRASH_EMPTIED: &str = "trash empty";

/// Seconds of a day of `[corrections]`; for tests.
const DAY_VARIABLE: &str = "KURA_CORRECTIONS_DAY_SECONDS";
const DAY: Duration = Duration::from_secs(86_400);

/// A part of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Tree,
    Superseded,
    Trash,
}

impl Place {
    pub fn of(path: &str) -> Place {
        match path.split_once('/') {
            Some((layout::SUPERSEDED_FOLDER, _)) => Place::Superseded,
            Some((layout::TRASH_FOLDER, _)) => Place::Trash,
            _ => Place::Tree,
        }
    }

    /// Where a path of the tree is in this part.
    pub fn path(self, in_tree: &str) -> String {
        match self {
            Place::Tree => in_tree.to_owned(),
            Place::Superseded => format!("{}/{in_tree}", layout::SUPERSEDED_FOLDER),
            Place::Trash => format!("{}/{in_tree}", layout::TRASH_FOLDER),
        }
    }
}

/// When files are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Never,
    At(Timestamp),
    /// Somebody said so, or nobody ever knew of them.
    Now,
}

/// What is to become of the files of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// `None`: they stay where they are.
    pub place: Option<Place>,
    pub end: End,
    /// Number of the correction by which it is so; 0: the content counts.
    pub by: u64,
    /// What a correction made that was never put in effect: nobody needs to be told of it.
    pub is_leftover: bool,
}

impl Fate {
    pub const COUNTS: Fate = Fate {
        place: Some(Place::Tree),
        end: End::Never,
        by: 0,
        is_leftover: false,
    };

    fn stays(by: u64) -> Fate {
        Fate {
            place: None,
            end: End::Never,
            by,
            is_leftover: false,
        }
    }
}

/// How long files are kept.
#[derive(Debug, Clone)]
pub struct Days {
    keep: u64,
    trash: u64,
    day: Duration,
}

impl Days {
    pub fn new(config: &config::Corrections) -> Days {
        let seconds = std::env::var(DAY_VARIABLE).ok();
        let seconds = seconds.and_then(|text| text.parse().ok());
        Days {
            keep: config.keep_days,
            trash: config.trash_days,
            day: seconds.map_or(DAY, Duration::from_secs),
        }
    }

    /// How long a day is.
    pub fn day(&self) -> Duration {
        self.day
    }

    /// Kept for ever, too, where the time of the correction cannot be read.
    fn after(&self, at: &str, days: u64) -> End {
        let kept = self
            .day
            .saturating_mul(u32::try_from(days).unwrap_or(u32::MAX));
        match at.parse::<Timestamp>() {
            Ok(at) if days > 0 => at.checked_add(kept).map_or(End::Never, End::At),
            _ => End::Never,
        }
    }

    /// `record`: of the correction that `hid` names, if one is known.
    pub fn fate(&self, hid: Hid, record: Option<&CorrectionRecord>) -> Fate {
        let (Hid::Withdrawn { by } | Hid::Unmade { by }) = hid;
        let Some(record) = record else {
            return match hid {
                Hid::Unmade { .. } => Fate {
                    place: None,
                    end: End::Now,
                    by,
                    is_leftover: true,
                },
                Hid::Withdrawn { .. } => Fate::stays(by),
            };
        };
        let last = last_line(record);
        let (place, end) = match (hid, record.facts.did) {
            (Hid::Unmade { .. }, _) | (_, Did::Amended | Did::Discarded) => {
                (Place::Superseded, self.after(&last.at, self.keep))
            }
            (_, Did::Removed) if last.way == TRASH_EMPTIED => (Place::Trash, End::Now),
            (_, Did::Removed) => (Place::Trash, self.after(&last.at, self.trash)),
            _ => return Fate::stays(by),
        };
        Fate {
            place: Some(place),
            end,
            by,
            is_leftover: false,
        }
    }
}

/// What the line said that says how it is now.
pub fn last_line(record: &CorrectionRecord) -> &CorrectionFacts {
    record.last.as_ref().unwrap_or(&record.facts)
}

/// Corrections that were asked for, by number.
#[derive(Default)]
pub struct Records(HashMap<u64, Option<CorrectionRecord>>);

impl Records {
    pub fn get(
        &mut self,
        number: u64,
        snapshot: &Snapshot,
    ) -> Result<Option<&CorrectionRecord>, IndexError> {
        if let std::collections::hash_map::Entry::Vacant(free) = self.0.entry(number) {
            free.insert(snapshot.correction(number)?);
        }
        Ok(self.0[&number].as_ref())
    }

    pub fn fate(&mut self, days: &Days, hid: Hid, snapshot: &Snapshot) -> Result<Fate, IndexError> {
        let (Hid::Withdrawn { by } | Hid::Unmade { by }) = hid;
        Ok(days.fate(hid, self.get(by, snapshot)?))
    }
}

/// `None` of a content without copies, which there is not.
pub fn id_of(content: &Content) -> Option<ContentId> {
    content.copies.first().map(|copy| ContentId {
        transfer_syntax: content.transfer_syntax.clone(),
        data_bytes: copy.data_bytes(),
        crc32: copy.crc32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Values;

    fn record(did: Did, lines: &[(&str, &str, bool)]) -> CorrectionRecord {
        let facts = |(at, way, _): &(&str, &str, bool)| CorrectionFacts {
            at: (*at).to_owned(),
            did,
            who: String::new(),
            why: String::new(),
            way: (*way).to_owned(),
            level: "STUDY".to_owned(),
            of: Vec::new(),
            studies: Vec::new(),
            instances_count: 1,
            before: Values::new(),
            after: Values::new(),
        };
        CorrectionRecord {
            number: 7,
            in_effect: lines.last().unwrap().2,
            sequence: 9,
            first_sequence: 8,
            facts: facts(&lines[0]),
            last: lines.get(1).map(facts),
            volume_ids: Vec::new(),
        }
    }

    /// Method: every kind of correction, in effect and taken back, and what the files of the contents that it hides are
    /// to become.
    #[test]
    fn what_a_correction_hides_goes_where_it_belongs_and_is_kept_as_long_as_configured() {
        let days = Days {
            keep: 10,
            trash: 3,
            day: DAY,
        };
        let made = ("2026-11-01T00:00:00.000Z", "command line", true);
        let undone = ("2026-11-05T00:00:00.000Z", "command line", false);
        let again = ("2026-11-06T00:00:00.000Z", "command line", true);
        let emptied = ("2026-11-02T00:00:00.000Z", TRASH_EMPTIED, true);
        let unreadable = ("yesterday", "command line", true);
        let at = |text: &str| End::At(text.parse().unwrap());
        let withdrawn = Hid::Withdrawn { by: 7 };
        let unmade = Hid::Unmade { by: 7 };
        let superseded = Some(Place::Superseded);
        for (name, hid, did, lines, place, end) in [
            (
                "amended",
                withdrawn,
                Did::Amended,
                vec![made],
                superseded,
                at("2026-11-11T00:00:00Z"),
            ),
            (
                "amended again",
                withdrawn,
                Did::Amended,
                vec![made, again],
                superseded,
                at("2026-11-16T00:00:00Z"),
            ),
            (
                "undone",
                unmade,
                Did::Amended,
                vec![made, undone],
                superseded,
                at("2026-11-15T00:00:00Z"),
            ),
            (
                "discarded",
                withdrawn,
                Did::Discarded,
                vec![made],
                superseded,
                at("2026-11-11T00:00:00Z"),
            ),
            (
                "removed",
                withdrawn,
                Did::Removed,
                vec![made],
                Some(Place::Trash),
                at("2026-11-04T00:00:00Z"),
            ),
            (
                "emptied",
                withdrawn,
                Did::Removed,
                vec![made, emptied],
                Some(Place::Trash),
                End::Now,
            ),
            (
                "rejected",
                withdrawn,
                Did::Rejected,
                vec![made],
                None,
                End::Never,
            ),
            (
                "no time",
                withdrawn,
                Did::Removed,
                vec![unreadable],
                Some(Place::Trash),
                End::Never,
            ),
        ] {
            let fate = days.fate(hid, Some(&record(did, &lines)));
            let expected = Fate {
                place,
                end,
                by: 7,
                is_leftover: false,
            };
            assert_eq!(fate, expected, "{name}");
        }
        assert!(days.fate(unmade, None).is_leftover);
        // A ruling whose correction is not known must not cost a file.
        assert_eq!(days.fate(withdrawn, None), Fate::stays(7));
        let for_ever = Days {
            keep: 0,
            trash: 0,
            day: DAY,
        };
        for did in [Did::Amended, Did::Removed] {
            assert_eq!(
                for_ever.fate(withdrawn, Some(&record(did, &[made]))).end,
                End::Never
            );
        }
    }

    #[test]
    fn a_path_names_its_place_and_keeps_the_one_it_had() {
        let path = "20260115/CT/4711-1.2/1.2.3/1.2.3.4.dcm";
        for place in [Place::Tree, Place::Superseded, Place::Trash] {
            let there = place.path(path);
            assert_eq!(Place::of(&there), place);
            assert_eq!(layout::path_in_tree(&there), path);
        }
        assert_eq!(Place::of("trash.dcm"), Place::Tree);
    }
}
