//! One data set on its way from a good copy through the amendment into the files of a correction.

use std::sync::Arc;

use dicom_dictionary_std::tags;

use crate::dicom::amend::{Rewriter, meta_after};
use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{Attributes, FileMeta, Level};
use crate::index::{Copy, IndexError, InstanceFacts, Origin, SeriesFacts, Values};
use crate::volume::{Incoming, Volume};

use super::super::content::{Content, contents};
use super::super::places::{is_another_patient, key, patient_of};
use super::super::{Archive, Line};
use super::CorrectionError;
use super::asked::without_empty;
use super::making::{Failed, Making};
use super::plan::{cannot, first_attributes, new_uid, refused};

/// A data set on its way; its files are in the lists of their volumes, at the same place.
pub(super) struct Poured {
    pub(super) series: Arc<SeriesFacts>,
    pub(super) instance: InstanceFacts,
}

impl Making<'_> {
    /// Amends a content into `incoming/` of the targets, from its first good copy; None: nothing of it becomes another.
    pub(super) fn pour(
        &mut self,
        content: &Content,
        targets: &[Arc<Volume<Line>>],
        buffer: &mut [u8],
    ) -> Result<Option<(Poured, Vec<Incoming>)>, Failed> {
        let sop = &content.sop_instance_uid;
        let mut reasons = Vec::new();
        let mut sources = content.good_copies().cloned().collect();
        let mut tried: Vec<Copy> = Vec::new();
        while let Some(source) = self
            .archive
            .next_source(content, &mut sources, &mut tried)?
        {
            let source = &source;
            let mut files = Vec::new();
            for target in targets {
                let begun = target.begin_made();
                files.push(begun.map_err(|error| Failed::Volume(target.clone(), error))?);
            }
            match self.pour_from(content, source, (targets, &mut files), buffer) {
                Ok(poured) => return Ok(poured.map(|poured| (poured, files))),
                Err(Pouring::Source(reason)) => reasons.push(reason),
                Err(Pouring::Failed(failed)) => return Err(failed),
            }
        }
        let reason = match reasons.is_empty() {
            true => "it has no good copy".to_owned(),
            false => reasons.join("; "),
        };
        // In the end: a file that was only moved is not looked into.
        for source in &tried {
            self.archive.suspect(sop, source);
        }
        Err(Failed::Refused(refused(format!(
            "instance {sop} cannot be read: {reason}; nothing was changed; kura status says how its disks are"
        ))))
    }

    fn pour_from(
        &mut self,
        content: &Content,
        source: &Copy,
        (targets, files): (&[Arc<Volume<Line>>], &mut [Incoming]),
        buffer: &mut [u8],
    ) -> Result<Option<Poured>, Pouring> {
        let sop = &content.sop_instance_uid;
        let series = self.series_of(&content.series_instance_uid)?;
        let new_sop = self.plan.ask.new_uids.then(|| {
            let new = self.new_sops.entry(sop.clone()).or_insert_with(new_uid);
            new.clone()
        });
        let not_read = |error: std::io::Error| Pouring::Source(error.to_string());
        let (file, volume) = self.archive.open_checked(source).map_err(not_read)?;
        let there = first_attributes(&file, &volume, source, &content.transfer_syntax);
        let there = there.map_err(not_read)?;
        let system = &self.archive.corrections.modifying_system;
        let new = new_sop.as_deref();
        let amendment = (self.plan).amendment(content, &there, &series, new, system);
        let amended = |error| Pouring::Failed(cannot(Some(sop), &error).into());
        let meta = FileMeta {
            sop_class_uid: content.sop_class_uid.clone(),
            sop_instance_uid: sop.clone(),
            transfer_syntax: content.transfer_syntax.clone(),
            source_ae_title: content.source_ae_title.clone(),
        };
        let mut out = meta_after(&meta, &amendment).encode();
        let data_offset = out.len() as u64;
        let mut file_crc = crc32fast::Hasher::new();
        let mut write = |bytes: &[u8]| {
            file_crc.update(bytes);
            for (volume, file) in targets.iter().zip(files.iter_mut()) {
                let written = file.write(bytes);
                written.map_err(|error| Failed::Volume(volume.clone(), error))?;
            }
            Ok::<(), Failed>(())
        };
        write(&out)?;
        out.clear();

        let mut rewriter = Rewriter::new(&content.transfer_syntax, &amendment).map_err(amended)?;
        let mut scanner = Scanner::new(&content.transfer_syntax, Wanted::Indexed);
        let mut data_crc = crc32fast::Hasher::new();
        let mut data_bytes = 0;
        let mut put = |out: &mut Vec<u8>, scanner: &mut Scanner| {
            data_crc.update(out);
            data_bytes += out.len() as u64;
            write(out)?;
            let scanned = scanner.feed(out);
            out.clear();
            scanned.map_err(|error| Failed::Refused(unsound(sop, &error.to_string())))
        };
        let mut read_crc = crc32fast::Hasher::new();
        let mut at = source.data_offset;
        // Bytes that are not what they were may look like anything.
        let or_bad = |error| match self.archive.is_good(source) {
            true => amended(error),
            false => Pouring::Source("it is not what the ledger says".to_owned()),
        };
        while at < source.size_bytes {
            let count = buffer.len().min((source.size_bytes - at) as usize);
            let piece = &mut buffer[..count];
            {
                let _call = volume.call();
                file.read_exact_at(piece, at).map_err(not_read)?;
            }
            read_crc.update(piece);
            rewriter.feed(piece, &mut out).map_err(or_bad)?;
            put(&mut out, &mut scanner)?;
            at += count as u64;
            self.progress.read(count as u64);
        }
        rewriter.finish(&mut out).map_err(or_bad)?;
        put(&mut out, &mut scanner)?;
        if read_crc.finalize() != source.crc32 {
            return Err(Pouring::Source(
                "its checksum is not the ledger's".to_owned(),
            ));
        }
        let data_crc = data_crc.finalize();
        if (data_bytes, data_crc) == (source.data_bytes(), source.crc32) {
            return Ok(None);
        }
        let file_crc = file_crc.finalize();
        let attributes = scanner.finish();
        let attributes = attributes.map_err(|error| unsound(sop, &error.to_string()))?;
        let instance = InstanceFacts {
            sequence: self.archive.keeper.next_sequence(),
            sop_instance_uid: new_sop.unwrap_or_else(|| sop.clone()),
            sop_class_uid: content.sop_class_uid.clone(),
            transfer_syntax: content.transfer_syntax.clone(),
            values: self.values_of(content, &attributes),
            received: content.received.clone(),
            source_ae_title: content.source_ae_title.clone(),
            origin: Origin {
                by: self.number,
                ..Origin::default()
            },
            copy: Copy {
                volume_id: String::new(),
                path: String::new(),
                data_offset,
                size_bytes: data_offset + data_bytes,
                crc32: data_crc,
                file_crc32: file_crc,
                bad: false,
            },
        };
        let expected = [
            (tags::STUDY_INSTANCE_UID, &series.study_instance_uid),
            (tags::SERIES_INSTANCE_UID, &series.series_instance_uid),
            (tags::SOP_INSTANCE_UID, &instance.sop_instance_uid),
        ];
        for (tag, uid) in expected {
            if attributes.uid(tag).as_ref() != Some(uid) {
                return Err(unsound(sop, &format!("{tag} is not {uid}")).into());
            }
        }
        for (volume, file) in targets.iter().zip(files.iter_mut()) {
            let written = file.write_out();
            written.map_err(|error| Failed::Volume(volume.clone(), error))?;
        }
        Ok(Some(Poured { series, instance }))
    }

    /// What the index keeps of the instance itself: also its patient, where that was another than its study's and still is.
    fn values_of(&self, content: &Content, attributes: &Attributes) -> Values {
        let mut values = attributes.values(Level::Instance);
        let told = [tags::PATIENT_ID, tags::PATIENT_NAME].map(key);
        if !told.iter().any(|tag| content.values.contains_key(tag)) {
            return values;
        }
        let patient = attributes.values(Level::Patient);
        if is_another_patient(&without_empty(&self.plan.study.values), &patient) {
            values.extend(patient_of(&patient));
        }
        values
    }
}

impl Archive {
    /// The next copy of a content to be read: those that are known, then where they lie now, if that is elsewhere.
    pub(super) fn next_source(
        &self,
        content: &Content,
        known: &mut Vec<Copy>,
        tried: &mut Vec<Copy>,
    ) -> Result<Option<Copy>, IndexError> {
        if known.is_empty() {
            let entry = self.view()?.snapshot.by_sop(&content.sop_instance_uid)?;
            let mut all = entry.iter().flat_map(contents);
            let now = all.find(|one| one.is(content));
            let now = now.iter().flat_map(Content::good_copies);
            known.extend(now.filter(|copy| !tried.contains(copy)).cloned());
        }
        if known.is_empty() {
            return Ok(None);
        }
        let next = known.remove(0);
        tried.push(next.clone());
        Ok(Some(next))
    }
}

/// Why a content was not poured.
enum Pouring {
    /// This copy; another one may be good.
    Source(String),
    Failed(Failed),
}

impl From<Failed> for Pouring {
    fn from(failed: Failed) -> Pouring {
        Pouring::Failed(failed)
    }
}

impl From<CorrectionError> for Pouring {
    fn from(error: CorrectionError) -> Pouring {
        Pouring::Failed(Failed::Refused(error))
    }
}

fn unsound(sop: &str, reason: &str) -> CorrectionError {
    refused(format!(
        "instance {sop} would not be sound afterwards: {reason}; nothing was changed; please report it"
    ))
}
