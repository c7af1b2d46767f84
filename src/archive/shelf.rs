//! The volumes of the archive: each is here or away.
//!
//! A volume that is away keeps its place: its instances stay in the index, from the copy of its ledger.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::volume::layout::Role;
use crate::volume::{LabelState, Volume};

use super::Line;

/// A volume as the archive knows it. A change of any of this is a new `Member` in its place.
#[derive(Clone)]
pub struct Member {
    pub volume_id: String,
    pub name: String,
    pub path: PathBuf,
    pub role: Role,
    /// Takes no new instances; what is on it is served.
    pub retired: bool,
    /// Where label and ledger of an adopted volume are, if not in its root.
    pub home: Option<PathBuf>,
    pub standing: Standing,
}

#[derive(Clone)]
pub enum Standing {
    Here(Arc<Volume<Line>>),
    Away {
        /// In words, for the administrator.
        reason: String,
        /// On purpose: it comes back after it was seen to be gone, or when it is told to.
        ejected: bool,
    },
}

impl Member {
    pub fn here(&self) -> Option<&Arc<Volume<Line>>> {
        match &self.standing {
            Standing::Here(volume) => Some(volume),
            Standing::Away { .. } => None,
        }
    }

    pub fn is_ejected(&self) -> bool {
        matches!(self.standing, Standing::Away { ejected: true, .. })
    }

    /// The same volume, here or away.
    pub fn standing(&self, standing: Standing) -> Member {
        Member {
            standing,
            ..self.clone()
        }
    }
}

/// What is at the path of a volume that is away, in words; `state` is not that volume's label.
pub fn what_is_there(path: &Path, state: &LabelState) -> String {
    let path = path.display();
    match state {
        LabelState::Missing | LabelState::Empty => format!("its disk is not at {path}"),
        LabelState::Foreign => format!("other files without a label are at {path}"),
        LabelState::Label(label) => format!("another disk is at {path}: volume {}", label.name),
    }
}

/// In the order of the configuration, then of their coming.
#[derive(Default)]
pub struct Shelf {
    members: RwLock<Vec<Arc<Member>>>,
}

impl Shelf {
    /// As they are now; what is taken from this stays open while it is used.
    pub fn all(&self) -> Vec<Arc<Member>> {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn by_id(&self, volume_id: &str) -> Option<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().find(|m| m.volume_id == volume_id).cloned()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().find(|member| member.name == name).cloned()
    }

    /// The volume of that id, if it is here.
    pub fn here(&self, volume_id: &str) -> Option<Arc<Volume<Line>>> {
        self.by_id(volume_id)?.here().cloned()
    }

    pub fn all_are_here(&self) -> bool {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().all(|member| member.here().is_some())
    }

    /// `new` in the place of `old`, which goes behind the others.
    pub fn exchange(&self, old: Member, new: Member) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let place = members
            .iter()
            .position(|other| other.volume_id == old.volume_id);
        match place {
            Some(place) => members[place] = Arc::new(new),
            None => members.push(Arc::new(new)),
        }
        members.push(Arc::new(old));
    }

    pub fn remove(&self, volume_id: &str) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.volume_id != volume_id);
    }

    /// Puts it in its place, or behind the others when it is new.
    pub fn put(&self, member: Member) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let place = members
            .iter()
            .position(|other| other.volume_id == member.volume_id);
        match place {
            Some(place) => members[place] = Arc::new(member),
            None => members.push(Arc::new(member)),
        }
    }
}
