//! The other archive: what it has, and asking it for a study. Its answers are a stranger's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;

use super::get::{offered, store_one};
use crate::archive::Archive;
use crate::config::PeerEntry;
use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{AeTitle, Attributes, Tag, TextEncoder, VR, elements, sop, ts, vr_of};
use crate::net::{Association, AssociationHandle, CommandSet, NetError, RoleSelection, Timeouts};
use crate::scu::{self, RetrieveOutcome, SubOperations};

/// Keys by `group << 16 | element`.
pub(super) type Keys = BTreeMap<u32, String>;

/// Between two answers of a search. An old archive looks through a hundred thousand studies before the first.
const FIND_PATIENCE: Duration = Duration::from_secs(300);
/// Without any word while a study is sent: many archives say nothing before it is through.
const RETRIEVE_PATIENCE: Duration = Duration::from_secs(1_800);
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);
/// Longest UID. PS3.5 9.1.
const UID_LENGTH_MAX: usize = 64;

/// Why something of a pull did not come about.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The peer is not there: it may be back.
    Away(String),
    /// It went away in the middle.
    Broke(String),
    /// It would be the same for every study: the pull ends.
    Ends(String),
    /// About one study, or one question.
    Failed {
        status: u16,
        reason: String,
    },
    Cancelled,
}

/// Who is asked, and by whom.
pub(super) struct Other<'a> {
    pub peer: &'a PeerEntry,
    pub calling: &'a AeTitle,
    /// Where our own listener is, for the words about it.
    pub port: u16,
    /// By C-GET, else by C-MOVE.
    pub get: bool,
    /// Of the association that is open, so that the end of the process can end it.
    pub open: &'a Mutex<Option<AssociationHandle>>,
    pub cancelled: &'a dyn Fn() -> bool,
}

pub(super) fn tag_of(key: u32) -> Tag {
    Tag((key >> 16) as u16, key as u16)
}

pub(super) const fn key(tag: Tag) -> u32 {
    (tag.0 as u32) << 16 | tag.1 as u32
}

/// A UID that may go into a question again, and into a file.
pub(super) fn is_uid(uid: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    (1..=UID_LENGTH_MAX).contains(&uid.len()) && uid.bytes().all(allowed)
}

impl Other<'_> {
    /// With contexts for searching and, where images come by C-MOVE, for that.
    pub fn connect(&self) -> Result<Line<'_>, Trouble> {
        let syntaxes = || {
            let both = [ts::EXPLICIT_VR_LITTLE_ENDIAN, ts::IMPLICIT_VR_LITTLE_ENDIAN];
            both.map(str::to_owned).to_vec()
        };
        let mut contexts = vec![(sop::STUDY_ROOT_FIND.to_owned(), syntaxes())];
        if !self.get {
            contexts.push((sop::STUDY_ROOT_MOVE.to_owned(), syntaxes()));
        }
        let association = self.open(contexts, &[])?;
        let line = Line {
            other: self,
            association,
        };
        if line.context(sop::STUDY_ROOT_FIND).is_none() {
            return Err(Trouble::Ends(format!(
                "{} does not answer searches (C-FIND, Study Root); it cannot be asked what it has",
                self.peer.ae_title
            )));
        }
        if !self.get && line.context(sop::STUDY_ROOT_MOVE).is_none() {
            return Err(Trouble::Ends(format!(
                "{} does not send on request (C-MOVE, Study Root); try the same with --get",
                self.peer.ae_title
            )));
        }
        Ok(line)
    }

    fn open(
        &self,
        contexts: Vec<(String, Vec<String>)>,
        roles: &[RoleSelection],
    ) -> Result<Association, Trouble> {
        let title = &self.peer.ae_title;
        let address = (self.peer.host.as_str(), self.peer.port);
        let found: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(|error| Trouble::Away(format!("{}: {error}", self.peer.host)))?
            .collect();
        let timeouts = Timeouts {
            response: FIND_PATIENCE,
            ..Timeouts::default()
        };
        let opened = scu::associate(self.peer, &found, self.calling, contexts, timeouts, roles);
        let association = opened.map_err(|error| match error {
            NetError::Rejected(reject) if !reject.is_transient() => Trouble::Ends(format!(
                "{title} refuses associations from {}: {reject}; make {} known there, or give the AE title that it expects",
                self.calling, self.calling
            )),
            error => Trouble::Away(format!("{title} cannot be reached: {error}")),
        })?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = Some(association.handle());
        Ok(association)
    }

    /// What a broken association means.
    fn broke(&self, error: &NetError) -> Trouble {
        match (self.cancelled)() {
            true => Trouble::Cancelled,
            false => Trouble::Broke(format!("{}: {error}", self.peer.ae_title)),
        }
    }
}

/// An association with the other archive.
pub(super) struct Line<'a> {
    other: &'a Other<'a>,
    association: Association,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let soon = Timeouts {
            response: RELEASE_PATIENCE,
            ..Timeouts::default()
        };
        let set = self.association.set_timeouts(soon);
        let _ = set.and_then(|()| self.association.release());
        let mut open = self
            .other
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *open = None;
    }
}

impl Line<'_> {
    fn context(&self, class: &str) -> Option<(u8, bool)> {
        let context = self.association.context_for(class, None)?;
        let explicit = context.transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN;
        Some((context.id, explicit))
    }

    /// Gives each answer; the final status.
    pub fn find(
        &mut self,
        level: &str,
        keys: &Keys,
        give: &mut dyn FnMut(&Attributes) -> ControlFlow<()>,
    ) -> Result<u16, Trouble> {
        let (context_id, explicit) = self
            .context(sop::STUDY_ROOT_FIND)
            .ok_or_else(|| Trouble::Ends("no context for C-FIND".to_owned()))?;
        let syntax = match explicit {
            true => ts::EXPLICIT_VR_LITTLE_ENDIAN,
            false => ts::IMPLICIT_VR_LITTLE_ENDIAN,
        };
        let identifier = identifier(level, keys, explicit).map_err(Trouble::Ends)?;
        let cancelled = self.other.cancelled;
        let mut stopped = false;
        let found = scu::find(
            &mut self.association,
            context_id,
            &identifier,
            &mut |answer| {
                if cancelled() {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                let mut scanner = Scanner::new(syntax, Wanted::All);
                // An answer that cannot be read names nothing.
                match scanner.feed(answer).and_then(|()| scanner.finish()) {
                    Ok(attributes) => give(&attributes),
                    Err(error) => {
                        tracing::warn!(%error, "an answer of a search cannot be read");
                        ControlFlow::Continue(())
                    }
                }
            },
        );
        match found {
            _ if stopped => Err(Trouble::Cancelled),
            Ok(status) => Ok(status),
            Err(error) => Err(self.other.broke(&error)),
        }
    }

    /// Asks for the whole study, or for series of it, to be sent here.
    pub fn fetch(
        &mut self,
        archive: &Archive,
        wanted: &Fetch,
        told: &mut dyn FnMut(&SubOperations),
    ) -> Result<RetrieveOutcome, Trouble> {
        match self.other.get {
            true => self.get(archive, wanted, told),
            false => self.move_here(wanted, told),
        }
    }

    fn move_here(
        &mut self,
        wanted: &Fetch,
        told: &mut dyn FnMut(&SubOperations),
    ) -> Result<RetrieveOutcome, Trouble> {
        let (context_id, explicit) = self
            .context(sop::STUDY_ROOT_MOVE)
            .ok_or_else(|| Trouble::Ends("no context for C-MOVE".to_owned()))?;
        let identifier =
            identifier(wanted.level(), &wanted.keys(), explicit).map_err(Trouble::Ends)?;
        let other = self.other;
        let timeouts = |response| Timeouts {
            response,
            ..Timeouts::default()
        };
        let asked = self
            .association
            .set_timeouts(timeouts(RETRIEVE_PATIENCE))
            .and_then(|()| {
                scu::move_to(
                    &mut self.association,
                    context_id,
                    other.calling,
                    &identifier,
                    &mut |counts| go_on(other, counts, told),
                )
            })
            .and_then(|outcome| {
                self.association.set_timeouts(timeouts(FIND_PATIENCE))?;
                Ok(outcome)
            });
        let outcome = asked.map_err(|error| other.broke(&error))?;
        if outcome.status == 0xA801 {
            return Err(Trouble::Ends(format!(
                "{} does not know the destination {}: enter this server there, AE title {}, its address, port {} \
                 (in Conquest in acrnema.map, in Orthanc under DicomModalities, in dcmqrscp in the HostTable), \
                 then: kura pull --resume; or try the same with --get",
                other.peer.ae_title, other.calling, other.calling, other.port
            )));
        }
        judged(other, outcome)
    }

    /// Over an association of its own, as its presentation contexts are those of the images.
    fn get(
        &mut self,
        archive: &Archive,
        wanted: &Fetch,
        told: &mut dyn FnMut(&SubOperations),
    ) -> Result<RetrieveOutcome, Trouble> {
        let other = self.other;
        let (contexts, roles) = offered(&wanted.sop_classes);
        let mut association = other.open(contexts, &roles)?;
        let context = association.context_for(sop::STUDY_ROOT_GET, None).cloned();
        let Some(context) = context else {
            association.abort();
            return Err(Trouble::Ends(format!(
                "{} does not send over the same association (C-GET, Study Root); try the same without --get",
                other.peer.ae_title
            )));
        };
        let explicit = context.transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN;
        let identifier =
            identifier(wanted.level(), &wanted.keys(), explicit).map_err(Trouble::Ends)?;
        let calling = other.peer.ae_title.as_str().to_owned();
        let mut store = |association: &mut Association, id: u8, command: &CommandSet| {
            store_one(archive, &calling, association, id, command)
        };
        let asked = scu::get(
            &mut association,
            context.id,
            &identifier,
            &mut store,
            &mut |counts| go_on(other, counts, told),
        );
        let outcome = asked.map_err(|error| other.broke(&error))?;
        let _ = association.release();
        judged(other, outcome)
    }
}

fn go_on(
    other: &Other,
    counts: &SubOperations,
    told: &mut dyn FnMut(&SubOperations),
) -> ControlFlow<()> {
    told(counts);
    match (other.cancelled)() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

fn judged(other: &Other, outcome: RetrieveOutcome) -> Result<RetrieveOutcome, Trouble> {
    match outcome.status {
        0xFE00 if (other.cancelled)() => Err(Trouble::Cancelled),
        _ => Ok(outcome),
    }
}

/// What is asked for.
pub(super) struct Fetch<'a> {
    pub study_instance_uid: &'a str,
    /// Of the study; none: all of it.
    pub series: &'a [String],
    /// What comes, where that is known; only C-GET needs it.
    pub sop_classes: BTreeSet<String>,
}

impl Fetch<'_> {
    fn level(&self) -> &'static str {
        match self.series {
            [] => "STUDY",
            _ => "SERIES",
        }
    }

    fn keys(&self) -> Keys {
        let study = self.study_instance_uid.to_owned();
        let mut keys = Keys::from([(key(tags::STUDY_INSTANCE_UID), study)]);
        if !self.series.is_empty() {
            keys.insert(key(tags::SERIES_INSTANCE_UID), self.series.join("\\"));
        }
        keys
    }
}

/// Keys as a data set, their text in ASCII, or where it does not fit in UTF-8.
fn identifier(level: &str, keys: &Keys, explicit: bool) -> Result<Vec<u8>, String> {
    let mut all = keys.clone();
    all.insert(key(tags::QUERY_RETRIEVE_LEVEL), level.to_owned());
    let set = match keys.values().all(|value| value.is_ascii()) {
        true => "",
        false => "ISO_IR 192",
    };
    if !set.is_empty() {
        all.insert(key(tags::SPECIFIC_CHARACTER_SET), set.to_owned());
    }
    let encoder = TextEncoder::new(set);
    let mut out = Vec::new();
    for (tag, value) in &all {
        let tag = tag_of(*tag);
        let vr = match vr_of(tag) {
            VR::UN => VR::LO,
            known => known,
        };
        let bytes = encoder
            .encode(value, vr)
            .ok_or_else(|| format!("the value of {tag} cannot be written in UTF-8"))?;
        elements::put(&mut out, explicit, tag, vr, &bytes);
    }
    Ok(out)
}

/// Waits, unless it is cancelled.
pub(super) fn rest(cancelled: &dyn Fn() -> bool, duration: Duration) -> Result<(), Trouble> {
    const STEP: Duration = Duration::from_millis(50);
    let until = Instant::now() + duration;
    loop {
        if cancelled() {
            return Err(Trouble::Cancelled);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}
