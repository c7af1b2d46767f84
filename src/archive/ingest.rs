//! One instance from the first byte to "it is durable": the path of every C-STORE.
//!
//! ```text
//! begin    choose a volume, open a file in incoming/, write the file meta
//! write    scan, checksum, write: a constant amount of memory whatever the size
//! finish   check the UIDs → coerce? → lock the SOP Instance UID → duplicate? → place → make_durable → index
//! ```
//!
//! [`Archive::make_durable`] is the one place that knows the order of the flushes.

use std::sync::Arc;
use std::time::Duration;

use dicom_dictionary_std::tags;

use crate::dicom::scan::{KEPT_LENGTH_MAX, ScanError, Scanner, Wanted};
use crate::dicom::{Attributes, FileMeta, Level, Tag};
use crate::index::{
    Change, ContentId, Copy, Hidden, IndexError, InstanceFacts, InstanceRecord, Origin, Stored,
};
use crate::memory::{self, Share};
use crate::volume::{Incoming, Published, Volume, VolumeError, layout};

use super::before_ack::Received;
use super::coerce::{AsReceived, NotCoerced};
use super::corrections::{Note, may_be_note};
use super::listed::Listed;
use super::placing::{Refusals, is_the_volumes};
use super::resent::{Again, Known};
use super::{Archive, Line, entry};

/// Bytes of values for the index that an instance has at most; many times what real ones have.
const KEPT_BYTES_USUAL: usize = 64 << 10;

/// What the C-STORE command says of the instance that follows.
#[derive(Debug, Clone)]
pub struct Announced {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub transfer_syntax: String,
    pub calling_ae_title: String,
    /// Id of the volume of the instance before, which is mostly of the same study.
    pub prefer: Option<String>,
}

/// What became of an instance that was received completely. All of them are successes to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// The same bytes are here already, or a correction withdrew them; nothing was stored.
    Duplicate,
    /// The same instance in another transfer syntax; kept beside the first.
    Variant,
    /// Another data set under a SOP Instance UID that is taken; kept, the first is answered.
    Conflict,
    /// The same, of the same sender, whose newest is answered; what was answered before is kept.
    Newest,
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// No volume takes it: full, unwritable or failed.
    #[error("not stored: {0}")]
    NoVolume(String),
    /// It was on a disk that failed, and could not be read back from there to go on elsewhere.
    #[error("not stored: the disk failed in the middle, and {0}")]
    NotRecovered(String),
    /// It was to have two copies before the answer. One is stored.
    #[error("one copy is stored, but no second: {0}")]
    NoSecondCopy(String),
    /// Its values for the index are larger than any that are usual, and there is no memory for that at the moment.
    #[error("not stored: too much memory is in use; send it again")]
    NoMemory,
    /// Another association is storing it, on a disk that does not answer.
    #[error("not stored: the same instance is just being stored by another association")]
    Busy,
    /// A rejection note: it is stored, and nothing was rejected.
    #[error("the rejection note is stored, but what it asks was not done: {0}")]
    NotHeeded(String),
    /// It is here, but another data set is answered under its SOP Instance UID, which was to change.
    #[error("it is here, but another data set is still answered: {0}")]
    NotAnswered(String),
    #[error("not stored: {0}")]
    Volume(#[from] VolumeError),
    #[error("{name} {tag} is missing or empty; not stored")]
    Missing { name: &'static str, tag: Tag },
    #[error("{name} in the data set is not the command's; not stored")]
    Mismatch { name: &'static str, tag: Tag },
    #[error("the data set cannot be read: {0}; not stored")]
    DataSet(#[from] ScanError),
    #[error("not stored: {0}")]
    Index(#[from] IndexError),
}

impl IngestError {
    /// The sender's bytes are at fault, not our disks: they are kept in quarantine.
    fn is_the_senders(&self) -> bool {
        matches!(
            self,
            IngestError::Missing { .. } | IngestError::Mismatch { .. } | IngestError::DataSet(_)
        )
    }
}

/// An instance being received.
pub struct Receiving<'a> {
    archive: &'a Archive,
    announced: Announced,
    volume: Arc<Volume<Line>>,
    incoming: Incoming,
    refused: Refusals,
    scanner: Option<Scanner>,
    data_crc: crc32fast::Hasher,
    meta_crc: crc32fast::Hasher,
    meta_len: u64,
    /// What is wrong with the bytes, found while they came; they are received to the end for the quarantine.
    fault: Option<IngestError>,
    /// For values that are kept beyond what is usual.
    kept: Option<Share>,
}

/// Must be kept until the answer is on its way: then the name in `incoming/` goes, which nobody waits for.
#[must_use]
pub struct Kept {
    pub outcome: Outcome,
    pub volume_id: String,
    /// As the instance says.
    pub study_instance_uid: String,
    /// Study Instance UID, when the instance names another patient than its study.
    pub another_patient: Option<String>,
    /// What it is kept as; None: a correction withdrew it.
    content: Option<ContentId>,
    incoming: Incoming,
}

impl Kept {
    pub fn answered(self) {
        self.incoming.finish();
    }
}

/// What goes into one file: everything `make_durable` needs.
struct Ready<'a> {
    announced: &'a Announced,
    attributes: Attributes,
    study_uid: String,
    series_uid: String,
    data_offset: u64,
    data_crc: u32,
    file_crc: u32,
    /// Length and CRC-32 of the data set as it was received, if it was coerced.
    was: Option<(u64, u32)>,
    /// Found at the start: it was never answered.
    is_leftover: bool,
}

impl Archive {
    pub fn begin(&self, announced: Announced) -> Result<Receiving<'_>, IngestError> {
        let meta = FileMeta {
            sop_class_uid: announced.sop_class_uid.clone(),
            sop_instance_uid: announced.sop_instance_uid.clone(),
            transfer_syntax: announced.transfer_syntax.clone(),
            source_ae_title: announced.calling_ae_title.clone(),
        }
        .encode();
        let mut refused = Refusals::default();
        let (volume, incoming) = loop {
            let prefer = announced.prefer.as_deref();
            let (volume, mut incoming) = self.begin_somewhere(&mut refused, prefer)?;
            match incoming.write(&meta) {
                Ok(()) => break (volume, incoming),
                Err(error) => self.refused_by(&volume, &error, &mut refused),
            }
        };
        let mut meta_crc = crc32fast::Hasher::new();
        meta_crc.update(&meta);
        let scanner =
            Scanner::new(&announced.transfer_syntax, Wanted::Indexed).within(*self.bounds.now());
        Ok(Receiving {
            archive: self,
            announced,
            volume,
            incoming,
            refused,
            scanner: Some(scanner),
            data_crc: crc32fast::Hasher::new(),
            meta_crc,
            meta_len: meta.len() as u64,
            fault: None,
            kept: None,
        })
    }
}

impl Receiving<'_> {
    /// Takes more bytes. Fails only when no volume takes them, or what is kept of them finds no memory.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), IngestError> {
        self.archive.mirror.received_something();
        if let Some(scanner) = &mut self.scanner
            && let Err(error) = scanner.feed(bytes)
        {
            self.fault = Some(error.into());
            self.scanner = None;
        }
        let kept_bytes = self.scanner.as_ref().map_or(0, Scanner::kept_bytes);
        if kept_bytes > KEPT_BYTES_USUAL && self.kept.is_none() {
            self.kept = memory::take(2 * KEPT_LENGTH_MAX);
            if self.kept.is_none() {
                return Err(IngestError::NoMemory);
            }
        }
        loop {
            let before = self.incoming.len();
            let written = self.incoming.write(bytes);
            let taken = (self.incoming.len() - before) as usize;
            self.data_crc.update(&bytes[..taken]);
            bytes = &bytes[taken..];
            let Err(error) = written else {
                return Ok(());
            };
            self.archive
                .refused_by(&self.volume, &error, &mut self.refused);
            let crc32 = self.file_crc();
            (self.volume, self.incoming) =
                self.archive
                    .move_on(&mut self.incoming, crc32, &mut self.refused)?;
        }
    }

    /// Of everything taken so far.
    fn file_crc(&self) -> u32 {
        let mut crc = self.meta_crc.clone();
        crc.combine(&self.data_crc);
        crc.finalize()
    }

    /// Decides what the instance is and makes it durable; on return it is on stable storage and findable.
    pub fn finish(mut self) -> Result<Kept, IngestError> {
        match self.checked() {
            Ok((attributes, study_uid, series_uid)) => {
                let mut ready = Ready {
                    announced: &self.announced,
                    file_crc: self.file_crc(),
                    attributes,
                    study_uid,
                    series_uid,
                    data_offset: self.meta_len,
                    data_crc: self.data_crc.finalize(),
                    was: None,
                    is_leftover: false,
                };
                let calling = &self.announced.calling_ae_title;
                let (mut volume, mut incoming, mut refused) =
                    (self.volume, self.incoming, self.refused);
                if let Some(amendment) = self.archive.coercion.amendment(calling, &ready.attributes)
                {
                    let came = AsReceived {
                        incoming: &mut incoming,
                        data_offset: ready.data_offset,
                        crc32: ready.file_crc,
                    };
                    let syntax = &self.announced.transfer_syntax;
                    match self.archive.coerce(came, syntax, &amendment, &mut refused) {
                        Ok(coerced) => {
                            let length = incoming.len() - ready.data_offset;
                            ready.was = Some((length, ready.data_crc));
                            ready.attributes = coerced.attributes;
                            ready.data_crc = coerced.data_crc;
                            ready.file_crc = coerced.file_crc;
                            (volume, incoming) = (coerced.volume, coerced.incoming);
                        }
                        Err(NotCoerced::Amend(error)) => {
                            self.archive.not_coerced(&self.announced, &error);
                        }
                        Err(NotCoerced::Ingest(error)) => return Err(error),
                    }
                }
                let waits = self.archive.copies_before_ack(calling, &ready.attributes);
                let mut kept = self.archive.settle(volume, incoming, &ready, refused)?;
                if waits && let Some(content) = &kept.content {
                    let received = Received {
                        sop_instance_uid: &self.announced.sop_instance_uid,
                        transfer_syntax: &content.transfer_syntax,
                        crc32: content.crc32,
                        data_bytes: content.data_bytes,
                    };
                    self.archive.second_copy(&received, &mut kept.incoming)?;
                }
                if may_be_note(&self.announced.sop_class_uid) {
                    let note = Note {
                        sop_instance_uid: &self.announced.sop_instance_uid,
                        transfer_syntax: &self.announced.transfer_syntax,
                        calling_ae_title: &self.announced.calling_ae_title,
                        data_offset: self.meta_len,
                    };
                    let heeded = self.archive.heed(&note, &mut kept.incoming);
                    heeded.map_err(IngestError::NotHeeded)?;
                }
                Ok(kept)
            }
            Err(error) => {
                if error.is_the_senders() {
                    let report = serde_json::json!({
                        "at": super::now(),
                        "reason": error.to_string(),
                        "calling_ae_title": self.announced.calling_ae_title,
                        "sop_class_uid": self.announced.sop_class_uid,
                        "sop_instance_uid": self.announced.sop_instance_uid,
                        "transfer_syntax": self.announced.transfer_syntax,
                        "bytes": self.incoming.len(),
                    });
                    self.archive
                        .quarantine(&self.volume, self.incoming, &report.to_string());
                }
                Err(error)
            }
        }
    }

    /// The attributes and the Study and Series Instance UID, if the data set is one we can keep.
    fn checked(&mut self) -> Result<(Attributes, String, String), IngestError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let scanner = self.scanner.take().expect("no fault, so it is still there");
        let attributes = scanner.finish()?;
        let uid = |tag, name| {
            attributes
                .uid(tag)
                .ok_or(IngestError::Missing { name, tag })
        };
        let study = uid(tags::STUDY_INSTANCE_UID, "Study Instance UID")?;
        let series = uid(tags::SERIES_INSTANCE_UID, "Series Instance UID")?;
        let sop = uid(tags::SOP_INSTANCE_UID, "SOP Instance UID")?;
        if sop != self.announced.sop_instance_uid {
            return Err(IngestError::Mismatch {
                name: "SOP Instance UID",
                tag: tags::SOP_INSTANCE_UID,
            });
        }
        // Absent is tolerated (old consoles); another class is not.
        let class = attributes.uid(tags::SOP_CLASS_UID);
        if class.is_some_and(|class| class != self.announced.sop_class_uid) {
            return Err(IngestError::Mismatch {
                name: "SOP Class UID",
                tag: tags::SOP_CLASS_UID,
            });
        }
        Ok((attributes, study, series))
    }
}

impl Archive {
    /// From the duplicate check to the ledger line, under the lock of the SOP Instance UID.
    fn settle(
        &self,
        mut volume: Arc<Volume<Line>>,
        mut incoming: Incoming,
        ready: &Ready<'_>,
        mut refused: Refusals,
    ) -> Result<Kept, IngestError> {
        let Some(_lock) = self
            .locks
            .lock_within(&ready.announced.sop_instance_uid, LOCK_PATIENCE)
        else {
            return Err(IngestError::Busy);
        };
        let view = self.keeper.view()?;
        let place = self.places.assign(
            &ready.attributes,
            &ready.study_uid,
            &ready.series_uid,
            &super::today(),
            &view.snapshot,
        )?;
        let usual = format!(
            "{}/{}",
            place.folder(),
            layout::file_name(&ready.announced.sop_instance_uid)
        );
        let mut values = ready.attributes.values(Level::Instance);
        let mut another_patient = None;
        if !place.another_patient.is_empty() {
            values.extend(place.another_patient);
            another_patient = Some(ready.study_uid.clone());
        }
        let mut instance = InstanceFacts {
            sequence: 0,
            sop_instance_uid: ready.announced.sop_instance_uid.clone(),
            sop_class_uid: ready.announced.sop_class_uid.clone(),
            transfer_syntax: ready.announced.transfer_syntax.clone(),
            values,
            received: super::now(),
            source_ae_title: ready.announced.calling_ae_title.clone(),
            origin: Origin {
                was: ready.was,
                ..Origin::default()
            },
            copy: Copy {
                volume_id: volume.id().to_owned(),
                path: usual.clone(),
                data_offset: ready.data_offset,
                size_bytes: incoming.len(),
                crc32: ready.data_crc,
                file_crc32: ready.file_crc,
                bad: false,
            },
        };
        let known = self.what_is_kept(&view.snapshot, &instance.sop_instance_uid)?;
        let uids = (ready.study_uid.as_str(), ready.series_uid.as_str());
        let again = self.compare(&known, &view.snapshot, uids, &instance, &mut incoming)?;
        // Else a line of this very file may not have been read yet.
        let is_leftover = ready.is_leftover && view.rebuilding_percent.is_none();
        drop(view);
        // What it was before it was coerced nobody knows any more; it comes again, since it was never answered.
        let is_unknown = is_leftover && self.coercion.concerns(&instance.source_ae_title);
        let outcome = match again {
            Again::Store(outcome) if !is_unknown => outcome,
            here => {
                if is_leftover {
                    let listed = known.files(volume.id());
                    // Else it was moved back into the tree, and no line says so yet: it is no copy being made.
                    let is_there = |name: &String| !matches!(volume.entry(name), Ok(None));
                    if listed.iter().all(is_there) {
                        let names = names_of(&usual, &instance);
                        for name in names.filter(|name| !listed.contains(name)) {
                            incoming.unpublish(&name);
                        }
                    }
                }
                return Ok(Kept {
                    outcome: Outcome::Duplicate,
                    volume_id: volume.id().to_owned(),
                    study_instance_uid: ready.study_uid.clone(),
                    another_patient: None,
                    content: self.not_stored(here, &known, &instance, ready.is_leftover)?,
                    incoming,
                });
            }
        };
        instance.origin.newest = outcome == Outcome::Newest;
        let mut expected = self.arrivals.expect();
        instance.sequence = self.keeper.next_sequence();
        expected.is(&instance);
        let content = Some(ContentId {
            transfer_syntax: instance.transfer_syntax.clone(),
            data_bytes: instance.copy.data_bytes(),
            crc32: instance.copy.crc32,
        });
        let mut stored = Stored {
            study: place.study,
            series: place.series,
            instance,
        };
        loop {
            let names = known.names(volume.id());
            let made = self
                .make_durable(&volume, &mut incoming, &mut stored, &names, None)
                .and_then(|()| self.still_counts(&volume));
            match made {
                Ok(()) => {
                    let volume_id = volume.id().to_owned();
                    return Ok(Kept {
                        outcome,
                        volume_id,
                        study_instance_uid: ready.study_uid.clone(),
                        another_patient,
                        content,
                        incoming,
                    });
                }
                Err(error) if !is_the_volumes(&error) => return Err(error.into()),
                Err(error) => {
                    self.refused_by(&volume, &error, &mut refused);
                    let moved = self.move_on(&mut incoming, ready.file_crc, &mut refused);
                    match error.is_ledger_unknown() {
                        // The line may be there, so what it speaks of stays.
                        true => incoming.keep(),
                        // Nothing is done any more on a disk that was given up.
                        false if matches!(error, VolumeError::Failed { .. }) => incoming.keep(),
                        false => incoming.unpublish(&stored.instance.copy.path),
                    }
                    (volume, incoming) = moved?;
                    stored.instance.copy.volume_id = volume.id().to_owned();
                    stored.instance.copy.path = usual.clone();
                }
            }
        }
    }

    /// What an instance that is not stored is kept as; None: a correction withdrew it.
    fn not_stored(
        &self,
        again: Again,
        known: &Known,
        instance: &InstanceFacts,
        is_leftover: bool,
    ) -> Result<Option<ContentId>, IngestError> {
        match (again, &known.existing) {
            (Again::Here(content), _) => Ok(Some(content)),
            (Again::HereNotAnswered(content), Some(existing)) if !is_leftover => {
                self.go_back_to(&content, existing, &instance.source_ae_title)?;
                Ok(Some(content))
            }
            (Again::HereNotAnswered(content), _) => Ok(Some(content)),
            (Again::Withdrawn(number), _) => {
                tracing::info!(
                    sop_instance_uid = instance.sop_instance_uid,
                    correction = number,
                    "not stored again: a correction withdrew it"
                );
                Ok(None)
            }
            (Again::Store(_), _) => Ok(None),
        }
    }

    /// **The** function that makes an instance durable. What stands in front of the disks stands in front of this.
    ///
    /// Each step waits for the one before, because each is the proof of the next:
    /// 1. the bytes (`fdatasync`), so that no name in the tree ever leads to a torn file;
    /// 2. the name in the tree (`link`, which never replaces) and its folders (`fsync`), so that no ledger line ever
    ///    speaks of a file that a power cut can take away;
    /// 3. the ledger line (group flush), which is the instance's existence; its leader puts it in the index.
    ///
    /// A crash between them leaves the name in `incoming/`, where the next start looks.
    ///
    /// `names`: paths that the ledger gave to this SOP Instance UID before. None is used again, even if its file is gone:
    /// a path stands for one content for ever. `copied`: now, when it is a copy of what another volume has.
    pub(super) fn make_durable(
        &self,
        volume: &Volume<Line>,
        incoming: &mut Incoming,
        stored: &mut Stored,
        names: &[String],
        copied: Option<&str>,
    ) -> Result<(), VolumeError> {
        if copied.is_none() && self.through_journal(volume, incoming, stored, names)? {
            return Ok(());
        }
        self.make_durable_direct(volume, incoming, stored, names, copied)
    }

    /// As [`Archive::make_durable`], never through a journal.
    pub(super) fn make_durable_direct(
        &self,
        volume: &Volume<Line>,
        incoming: &mut Incoming,
        stored: &mut Stored,
        names: &[String],
        copied: Option<&str>,
    ) -> Result<(), VolumeError> {
        incoming.flush()?;
        // Not that of its series' line: a correction may have given the series another.
        let folder = folder_of(&stored.instance.copy.path).to_owned();
        let sop = stored.instance.sop_instance_uid.clone();
        let mut attempt = 0;
        while names.contains(&stored.instance.copy.path)
            || incoming.publish(&stored.instance.copy.path)? == Published::Taken
        {
            if attempt == ALTERNATIVES_MAX {
                return Err(VolumeError::NameTaken {
                    path: stored.instance.copy.path.clone(),
                });
            }
            let name = layout::alternative_file_name(&sop, stored.instance.copy.crc32, attempt);
            stored.instance.copy.path = format!("{folder}/{name}");
            attempt += 1;
        }
        let (once, line) = entry::lines(stored, volume.id(), copied);
        let change = Arc::new(Change::Stored(stored.clone()));
        let _call = volume.call();
        volume.ledger().append(&once, line, change)?;
        Ok(())
    }

    /// Start-up: an instance whose name is still in `incoming/` and that had reached its place in the tree is carried to
    /// its end; every other one was never answered and goes.
    pub(super) fn resume(&self, volume: &Arc<Volume<Line>>) -> Result<u64, VolumeError> {
        let mut carried = 0;
        let leftovers = volume.leftovers().map_err(|source| VolumeError::Io {
            path: volume.root().join(layout::INCOMING_FOLDER),
            source,
        })?;
        let mut listed = None;
        for leftover in leftovers {
            let published = leftover.links > 1 && !leftover.is_made();
            let name = leftover.path.clone();
            if published && listed.is_none() {
                listed = Some(Listed::read(volume)?);
            }
            let carried_on = listed.as_ref().filter(|_| published);
            let carried_on =
                carried_on.map(|listed| self.carry_on(volume, leftover.clone(), listed));
            match carried_on {
                Some(Ok(())) => carried += 1,
                Some(Err(reason)) => {
                    tracing::error!(path = %name.display(), reason, "an unfinished instance is left in incoming/");
                }
                None => volume.resume(&leftover)?.finish(),
            }
        }
        Ok(carried)
    }

    fn carry_on(
        &self,
        volume: &Arc<Volume<Line>>,
        leftover: crate::volume::Leftover,
        listed: &Listed,
    ) -> Result<(), String> {
        let incoming = volume
            .resume(&leftover)
            .map_err(|error| error.to_string())?;
        let mut file = volume
            .disk()
            .open_read(&leftover.path)
            .map_err(|error| error.to_string())?;
        let (meta, data_offset) =
            crate::dicom::read_meta(&mut file).map_err(|error| error.to_string())?;
        let announced = Announced {
            sop_class_uid: meta.sop_class_uid,
            sop_instance_uid: meta.sop_instance_uid,
            transfer_syntax: meta.transfer_syntax,
            calling_ae_title: meta.source_ae_title,
            prefer: None,
        };
        let mut scanner = Scanner::new(&announced.transfer_syntax, Wanted::Indexed);
        let mut data_crc = crc32fast::Hasher::new();
        let mut file_crc = crc32fast::Hasher::new();
        let mut head = vec![0; data_offset as usize];
        file.read_exact_at(&mut head, 0)
            .map_err(|error| error.to_string())?;
        file_crc.update(&head);
        let mut buffer = vec![0; 256 << 10];
        let mut at = data_offset;
        while at < incoming.len() {
            let count = buffer.len().min((incoming.len() - at) as usize);
            file.read_exact_at(&mut buffer[..count], at)
                .map_err(|error| error.to_string())?;
            scanner
                .feed(&buffer[..count])
                .map_err(|error| error.to_string())?;
            data_crc.update(&buffer[..count]);
            at += count as u64;
        }
        file_crc.combine(&data_crc);
        let crc32 = file_crc.clone().finalize();
        if listed.has(&announced.sop_instance_uid, incoming.len(), crc32) {
            // It had come to its end, and whatever happened to it since, a correction say, stands.
            incoming.finish();
            return Ok(());
        }
        let attributes = scanner.finish().map_err(|error| error.to_string())?;
        let uid = |tag, name: &str| {
            attributes
                .uid(tag)
                .ok_or_else(|| format!("{name} is missing"))
        };
        let ready = Ready {
            study_uid: uid(tags::STUDY_INSTANCE_UID, "Study Instance UID")?,
            series_uid: uid(tags::SERIES_INSTANCE_UID, "Series Instance UID")?,
            announced: &announced,
            attributes,
            data_offset,
            data_crc: data_crc.finalize(),
            file_crc: file_crc.finalize(),
            was: None,
            is_leftover: true,
        };
        let kept = self
            .settle(volume.clone(), incoming, &ready, Refusals::default())
            .map_err(|error| error.to_string())?;
        if kept.outcome == Outcome::Duplicate {
            self.take_back_name(volume, &kept.incoming, &announced.sop_instance_uid);
        }
        kept.answered();
        Ok(())
    }

    /// A copy that was being made when the power went has its name in the tree, but what it is a copy of is still there:
    /// the name is taken back, so that no file is without a ledger line.
    fn take_back_name(&self, volume: &Volume<Line>, incoming: &Incoming, sop_instance_uid: &str) {
        let entry = self.view().and_then(|view| {
            // Else a line of this very file may not have been read yet.
            match view.rebuilding_percent {
                None => view.snapshot.by_sop(sop_instance_uid),
                Some(_) => Ok(None),
            }
        });
        let Ok(Some(entry)) = entry else {
            return;
        };
        let listed = names_given(Some(&entry.record), None, volume.id());
        // As in settle: not of a file that was moved.
        let here = |copy: &&Copy| copy.volume_id == volume.id() && !copy.bad;
        let is_there = |copy: &Copy| !matches!(volume.entry(&copy.path), Ok(None));
        if !entry.record.copies.iter().filter(here).all(is_there) {
            return;
        }
        for copy in &entry.record.copies {
            if !listed.contains(&copy.path) {
                incoming.unpublish(&copy.path);
            }
        }
    }
}

/// Paths of a volume that stand for contents of an instance. Those of hidden ones too, and where they were or will be in
/// the tree: they are taken back there.
pub(super) fn names_given(
    record: Option<&InstanceRecord>,
    hidden: Option<&Hidden>,
    volume_id: &str,
) -> Vec<String> {
    let counting = record.into_iter().flat_map(|record| {
        let others = record.others.iter().flat_map(|other| &other.copies);
        record.copies.iter().chain(others)
    });
    let hidden = hidden.into_iter().flat_map(|hidden| &hidden.contents);
    let copies = counting.chain(hidden.flat_map(|content| &content.copies));
    let mut names = Vec::new();
    for copy in copies.filter(|copy| copy.volume_id == volume_id) {
        let in_tree = layout::path_in_tree(&copy.path);
        if in_tree != copy.path {
            names.push(in_tree.to_owned());
        }
        names.push(copy.path.clone());
    }
    names
}

/// Every name that an instance may have got in the folder of its usual one.
fn names_of(usual: &str, instance: &InstanceFacts) -> impl Iterator<Item = String> {
    let alternative = move |attempt| {
        let crc32 = instance.copy.crc32;
        let name = layout::alternative_file_name(&instance.sop_instance_uid, crc32, attempt);
        format!("{}/{name}", folder_of(usual))
    };
    std::iter::once(usual.to_owned()).chain((0..ALTERNATIVES_MAX).map(alternative))
}

/// The folder of a path below a volume's root.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// How long one association waits for another that stores the same instance: a few flushes, unless its disk hangs.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// Names tried for one instance before it is refused; each holds its content's checksum, so even the second is rare.
pub(super) const ALTERNATIVES_MAX: u32 = 16;
