//! One study: what the other archive has of it against what is here, and asking for what is missing.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use dicom_dictionary_std::tags;

use super::peer::{Fetch, Keys, Line, Trouble, is_uid, key};
use crate::archive::{Archive, Selection};
use crate::scu::SubOperations;

/// Instances of one study that are compared by their UIDs.
const UIDS_MAX: usize = 1_000_000;
/// Series of one study.
const SERIES_MAX: usize = 100_000;
/// Missing instances that a report names for each study.
const MISSING_NAMED_MAX: usize = 20;
/// Of more series than these the study is asked for as a whole.
const SERIES_ASKED_MAX: usize = 50;

/// The two sides.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub their_count: u64,
    /// Of this study, whether or not the peer has them.
    pub our_count: u64,
    pub our_bytes: u64,
    pub missing_count: u64,
    /// The first of them.
    pub missing: Vec<String>,
    /// Series with missing instances, and how many series there are.
    pub incomplete: Vec<String>,
    pub series_count: usize,
    pub sop_classes: BTreeSet<String>,
    /// The peer does not say its instances one by one: only their number was compared.
    pub by_count: bool,
}

/// What is here: SOP Instance UIDs, and the bytes of their data sets.
pub(super) fn here(archive: &Archive, study: &str) -> Result<(HashSet<String>, u64), Trouble> {
    let selected = archive
        .select(&Selection::Studies(vec![study.to_owned()]))
        .map_err(|error| Trouble::Failed {
            status: 0,
            reason: error.to_string(),
        })?;
    let bytes = selected.iter().map(|one| one.length).sum();
    let uids = selected.into_iter().map(|one| one.sop_instance_uid);
    Ok((uids.collect(), bytes))
}

/// Asks for every instance, series by series, as PS3.4 C.4.1.2 wants it of who does not negotiate otherwise.
pub(super) fn compare(
    line: &mut Line,
    archive: &Archive,
    study: &str,
    expected_count: Option<u32>,
) -> Result<Compared, Trouble> {
    let (ours, our_bytes) = here(archive, study)?;
    let mut compared = Compared {
        our_count: ours.len() as u64,
        our_bytes,
        ..Compared::default()
    };
    let series = series_of(line, study)?;
    compared.series_count = series.len();
    let mut theirs: HashSet<String> = HashSet::new();
    for series in &series {
        let (mut missing, mut too_many) = (Vec::new(), false);
        let keys = Keys::from([
            (key(tags::STUDY_INSTANCE_UID), study.to_owned()),
            (key(tags::SERIES_INSTANCE_UID), series.clone()),
            (key(tags::SOP_INSTANCE_UID), String::new()),
            (key(tags::SOP_CLASS_UID), String::new()),
        ]);
        let classes = &mut compared.sop_classes;
        let status = line.find("IMAGE", &keys, &mut |answer| {
            let uid = answer.uid(tags::SOP_INSTANCE_UID);
            let Some(uid) = uid.filter(|uid| is_uid(uid)) else {
                return ControlFlow::Continue(());
            };
            if theirs.len() >= UIDS_MAX {
                too_many = true;
                return ControlFlow::Break(());
            }
            if let Some(class) = answer.uid(tags::SOP_CLASS_UID)
                && is_uid(&class)
                && classes.len() < 1_000
            {
                classes.insert(class);
            }
            if theirs.insert(uid.clone()) && !ours.contains(&uid) {
                missing.push(uid);
            }
            ControlFlow::Continue(())
        })?;
        if status != 0 || too_many {
            return Err(Trouble::Failed {
                status,
                reason: "the other archive does not say all of its instances".to_owned(),
            });
        }
        not_elsewhere(archive, &mut missing)?;
        if !missing.is_empty() {
            compared.incomplete.push(series.clone());
        }
        compared.missing_count += missing.len() as u64;
        let room = MISSING_NAMED_MAX.saturating_sub(compared.missing.len());
        missing.truncate(room);
        compared.missing.append(&mut missing);
    }
    compared.their_count = theirs.len() as u64;
    if theirs.is_empty()
        && let Some(count) = expected_count.filter(|count| *count > 0)
    {
        compared.by_count = true;
        compared.their_count = u64::from(count);
        compared.missing_count = compared.their_count.saturating_sub(compared.our_count);
    }
    Ok(compared)
}

/// What is here in another study, since it was moved there by an amendment, is not missing.
fn not_elsewhere(archive: &Archive, missing: &mut Vec<String>) -> Result<(), Trouble> {
    if missing.is_empty() {
        return Ok(());
    }
    let selected = archive
        .select(&Selection::Instances(missing.clone()))
        .map_err(|error| Trouble::Failed {
            status: 0,
            reason: error.to_string(),
        })?;
    let here: HashSet<String> = selected.into_iter().map(|s| s.sop_instance_uid).collect();
    missing.retain(|uid| !here.contains(uid));
    Ok(())
}

fn series_of(line: &mut Line, study: &str) -> Result<Vec<String>, Trouble> {
    let keys = Keys::from([
        (key(tags::STUDY_INSTANCE_UID), study.to_owned()),
        (key(tags::SERIES_INSTANCE_UID), String::new()),
    ]);
    let mut series = BTreeSet::new();
    let status = line.find("SERIES", &keys, &mut |answer| {
        let uid = answer.uid(tags::SERIES_INSTANCE_UID);
        series.extend(uid.filter(|uid| is_uid(uid)));
        match series.len() < SERIES_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    match status {
        0 => Ok(series.into_iter().collect()),
        status => Err(Trouble::Failed {
            status,
            reason: "the other archive does not say the series of the study".to_owned(),
        }),
    }
}

/// What the peer says of its sending.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub status: u16,
    pub comment: String,
    pub completed: u64,
}

/// Asks for the study, or for those of its series that are not complete.
pub(super) fn fetch(
    line: &mut Line,
    archive: &Archive,
    study: &str,
    known: Option<&Compared>,
    told: &mut dyn FnMut(u64),
) -> Result<Said, Trouble> {
    let some: &[String] = match known {
        Some(known)
            if known.incomplete.len() < known.series_count
                && known.incomplete.len() <= SERIES_ASKED_MAX =>
        {
            &known.incomplete
        }
        _ => &[],
    };
    let requests: Vec<&[String]> = match some {
        [] => vec![&[]],
        some => some.chunks(1).collect(),
    };
    let mut said = Said::default();
    for series in requests {
        let wanted = Fetch {
            study_instance_uid: study,
            series,
            sop_classes: known.map(|k| k.sop_classes.clone()).unwrap_or_default(),
        };
        let before = said.completed;
        let mut counts = |counts: &SubOperations| told(before + counts.done());
        let outcome = line.fetch(archive, &wanted, &mut counts)?;
        let sent = [outcome.counts.completed, outcome.counts.warning];
        said.completed += sent.into_iter().flatten().map(u64::from).sum::<u64>();
        if outcome.status != 0 {
            (said.status, said.comment) = (outcome.status, outcome.comment);
        }
    }
    Ok(said)
}
