//! Queries from the command line. The one request that is answered in pieces: matches go out as they are found, so that
//! neither side holds a long answer in memory.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Response;
use crate::archive::{Archive, FindError};
use crate::dicom::{Level, Tag, level_of, tags, vr_of};
use crate::index::{Key, Query, Step, Values};

/// Matches in one piece.
const PIECE_MAX: usize = 200;
/// A piece that is not full goes out after this long.
const PIECE_WAIT: Duration = Duration::from_millis(100);
/// An empty one, by which it is seen that nobody waits for the answer any more.
const SIGN_WAIT: Duration = Duration::from_secs(1);

/// What is matched at STUDY level although no one attribute of the study says it.
const COMPUTED: [Tag; 2] = [tags::MODALITIES_IN_STUDY, tags::SOP_CLASSES_IN_STUDY];

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// As (0008,0052) says it.
    pub level: String,
    pub keys: Vec<FindKey>,
    /// Person names match whatever the order of their components.
    pub fuzzy_names: bool,
    /// Matches that are wanted at most; 0: all.
    pub most: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindKey {
    /// `group << 16 | element`.
    pub tag: u32,
    /// What it must match; empty: it is only asked for.
    pub value: String,
    /// Of a sequence: keys in its item.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<FindKey>,
}

impl FindKey {
    fn key(&self) -> Key {
        let mut key = Key::new(self.tag, vr_of(tag_of(self.tag)), self.value.clone());
        key.items = self.items.iter().map(FindKey::key).collect();
        key
    }

    fn is_matched(&self) -> bool {
        let tag = tag_of(self.tag);
        level_of(tag).is_some() || COMPUTED.contains(&tag)
    }

    fn asks_for_a_value(&self) -> bool {
        !self.value.is_empty() || self.items.iter().any(FindKey::asks_for_a_value)
    }
}

fn tag_of(tag: u32) -> Tag {
    Tag((tag >> 16) as u16, tag as u16)
}

/// How a query ended, after all of its matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FindEnd {
    /// False: there may be matches that the index does not know yet, or cannot read; `note` says why.
    pub complete: bool,
    pub note: String,
    /// There are more matches than were wanted.
    pub more: bool,
    /// Keys with a value that the index does not keep: they were not matched.
    pub ignored: Vec<u32>,
}

/// Gives the matches out in [`Response::Matches`], the end in [`Response::Found`], until the taker breaks.
pub(super) fn find(
    archive: &Archive,
    find: &Find,
    give: &mut dyn FnMut(Response) -> ControlFlow<()>,
) {
    let Ok(level) = find.level.parse::<Level>() else {
        let reason = format!("{:?} is not a level", find.level);
        let _ = give(Response::Failed { reason });
        return;
    };
    let mut query = Query::new(level, find.keys.iter().map(FindKey::key).collect());
    query.options.fuzzy_names = find.fuzzy_names;
    let mut end = FindEnd {
        complete: true,
        ..FindEnd::default()
    };
    let ignored = |key: &&FindKey| key.asks_for_a_value() && !key.is_matched();
    end.ignored = find.keys.iter().filter(ignored).map(|k| k.tag).collect();
    let mut piece: Vec<Values> = Vec::new();
    let mut sent = Instant::now();
    let mut count = 0;
    let mut gone = false;
    let result = archive.search(&query, &mut |step| {
        if let Step::Found(found) = step {
            if find.most > 0 && count == find.most {
                end.more = true;
                return ControlFlow::Break(());
            }
            count += 1;
            piece.push(found.values);
        }
        let wait = match piece.is_empty() {
            true => SIGN_WAIT,
            false => PIECE_WAIT,
        };
        if piece.len() < PIECE_MAX && sent.elapsed() < wait {
            return ControlFlow::Continue(());
        }
        sent = Instant::now();
        let flow = give(Response::Matches(std::mem::take(&mut piece)));
        gone = flow.is_break();
        flow
    });
    if gone || (!piece.is_empty() && give(Response::Matches(piece)).is_break()) {
        return;
    }
    if let Err(error) = result {
        end.complete = false;
        end.note = error.to_string();
        if !matches!(error, FindError::Rebuilding { .. }) {
            tracing::error!(%error, "a query of the command line failed");
        }
    }
    let _ = give(Response::Found(end));
}
