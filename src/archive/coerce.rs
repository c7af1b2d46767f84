//! Coercion on receive: values of a sender that are to be others here (`[[coerce]]`), before anything is stored.
//!
//! The data set goes once more from file to file, in pieces and with the same checks as when it came. What stood there
//! before is written down in it (Original Attributes Sequence, PS3.3 C.12.1.1.9, COERCE). What cannot be coerced is
//! stored as it came: a modality must not lose its images over a number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{Coerce, CoercedAttribute, Live};
use crate::dicom::amend::{AmendError, Amendment, Reason, Rewriter, Value};
use crate::dicom::{Attributes, ScanError, Scanner, Tag, Wanted, tags};
use crate::index::{ContentId, IndexError, Ruling, Snapshot, Verdict};
use crate::volume::{Incoming, Volume, VolumeError};

use super::content::contents;
use super::ingest::{Announced, IngestError};
use super::placing::Refusals;
use super::{Archive, Line};

/// The rules of the configuration, ready for use.
#[derive(Default)]
pub struct Coercion {
    rules: Live<Vec<Rule>>,
    /// Modifying System (0400,0563): our AE title.
    system: String,
    /// Instances that could not be coerced, since the start.
    failed: AtomicU64,
}

pub struct Rule {
    config: Coerce,
    map: HashMap<String, String>,
}

/// Reads the maps. The error is a sentence.
pub fn rules(config: &[Coerce]) -> Result<Vec<Rule>, String> {
    let rule = |config: &Coerce| {
        let map = config.read_map();
        Ok(Rule {
            map: map.map_err(|reason| format!("[[coerce]] {reason}"))?,
            config: config.clone(),
        })
    };
    config.iter().map(rule).collect()
}

impl Coercion {
    /// Reads the maps. The error is a sentence.
    pub fn open(config: &[Coerce], ae_title: &str) -> Result<Coercion, String> {
        Ok(Coercion {
            rules: Live::new(rules(config)?),
            system: ae_title.to_owned(),
            failed: AtomicU64::new(0),
        })
    }

    /// From now on these.
    pub fn set(&self, rules: Vec<Rule>) {
        self.rules.set(rules);
    }

    /// Whether anything of that sender may be coerced.
    pub fn concerns(&self, calling: &str) -> bool {
        self.rules
            .now()
            .iter()
            .any(|rule| rule.config.fits(calling))
    }

    pub fn failed_count(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// What becomes of an instance; None: it stays as it is.
    pub fn amendment(&self, calling: &str, attributes: &Attributes) -> Option<Amendment> {
        let rules = self.rules.now();
        if rules.is_empty() {
            return None;
        }
        let mut changes: Vec<(Tag, Value)> = Vec::new();
        let mut change = |tag, new: String| {
            if attributes.text(tag).unwrap_or_default() != new {
                changes.push((tag, Value::Text(new)));
            }
        };
        for attribute in [
            CoercedAttribute::PatientId,
            CoercedAttribute::AccessionNumber,
        ] {
            let fits =
                |rule: &&Rule| rule.config.attribute == attribute && rule.config.fits(calling);
            let tag = match attribute {
                CoercedAttribute::PatientId => tags::PATIENT_ID,
                CoercedAttribute::AccessionNumber => tags::ACCESSION_NUMBER,
            };
            let Some(rule) = rules.iter().find(fits) else {
                continue;
            };
            // A prefix alone would make one patient of all who have no number.
            let Some(old) = attributes.text(tag) else {
                continue;
            };
            change(tag, rule.new_value(&old));
            if let Some(issuer) = &rule.config.issuer {
                change(tags::ISSUER_OF_PATIENT_ID, issuer.trim().to_owned());
            }
        }
        (!changes.is_empty()).then(|| Amendment {
            changes,
            modified_at: jiff::Zoned::now()
                .strftime("%Y%m%d%H%M%S.%6f%z")
                .to_string(),
            modifying_system: self.system.clone(),
            previous_source: calling.trim().to_owned(),
            reason: Reason::Coerce,
            allow_utf8: false,
        })
    }
}

impl Rule {
    fn new_value(&self, old: &str) -> String {
        self.config.new_value(old, &self.map).0
    }
}

/// An instance after it was coerced: all that is known of the file that it is now.
pub struct Coerced {
    pub volume: Arc<Volume<Line>>,
    pub incoming: Incoming,
    pub attributes: Attributes,
    pub data_crc: u32,
    pub file_crc: u32,
}

/// Why an instance was not coerced.
#[derive(Debug, thiserror::Error)]
pub enum NotCoerced {
    /// It is stored as it came.
    #[error(transparent)]
    Amend(#[from] AmendError),
    /// It cannot be stored at all.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// The whole file as it came.
pub struct AsReceived<'a> {
    pub incoming: &'a mut Incoming,
    /// Where the data set begins, bytes.
    pub data_offset: u64,
    /// Of the whole file.
    pub crc32: u32,
}

impl Archive {
    /// Counts and tells what could not be coerced.
    pub(super) fn not_coerced(&self, announced: &Announced, error: &AmendError) {
        self.coercion.failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            sop_instance_uid = announced.sop_instance_uid,
            calling = announced.calling_ae_title,
            reason = error.without_values(),
            "an instance could not be coerced; it is stored as it came"
        );
    }

    /// Writes an instance anew with other values, to a volume that has room.
    pub(super) fn coerce(
        &self,
        mut from: AsReceived,
        transfer_syntax: &str,
        amendment: &Amendment,
        refused: &mut Refusals,
    ) -> Result<Coerced, NotCoerced> {
        let prefer = from.incoming.volume_id().to_owned();
        loop {
            let (volume, to) = self.begin_somewhere(refused, Some(&prefer))?;
            match rewrite(&mut from, to, transfer_syntax, amendment) {
                Ok((incoming, attributes, data_crc, file_crc)) => {
                    return Ok(Coerced {
                        volume,
                        incoming,
                        attributes,
                        data_crc,
                        file_crc,
                    });
                }
                Err(Failed::Target(error)) => self.refused_by(&volume, &error, refused),
                Err(Failed::Source(reason)) => {
                    return Err(IngestError::NotRecovered(reason).into());
                }
                Err(Failed::Amend(error)) => return Err(error.into()),
            }
        }
    }

    /// What is to be ruled besides, so that a correction also names coerced contents as their sender has them: what is
    /// sent again is known by that, also when no file of it is left.
    pub(super) fn rulings_as_received(
        &self,
        snapshot: &Snapshot,
        rulings: &[Ruling],
    ) -> Result<Vec<Ruling>, IndexError> {
        let mut more = Vec::new();
        for ruling in rulings.iter().filter(|r| r.verdict == Verdict::Withdrawn) {
            let Some(entry) = snapshot.by_sop(&ruling.sop_instance_uid)? else {
                continue;
            };
            for content in contents(&entry) {
                let id = |(data_bytes, crc32)| ContentId {
                    transfer_syntax: content.transfer_syntax.clone(),
                    data_bytes,
                    crc32,
                };
                let own = content.copies.first();
                let own = own.map(|copy| id((copy.data_bytes(), copy.crc32)));
                if own.as_ref() == Some(&ruling.content)
                    && let Some(was) = content.origin.was
                {
                    more.push(Ruling {
                        sequence: self.keeper.next_sequence(),
                        content: id(was),
                        ..ruling.clone()
                    });
                }
            }
        }
        Ok(more)
    }
}

enum Failed {
    Source(String),
    Target(VolumeError),
    Amend(AmendError),
}

impl From<AmendError> for Failed {
    fn from(error: AmendError) -> Failed {
        Failed::Amend(error)
    }
}

impl From<ScanError> for Failed {
    fn from(error: ScanError) -> Failed {
        Failed::Amend(error.into())
    }
}

/// The new file, what is in it, and the CRC-32 of its data set and of all of it.
fn rewrite(
    from: &mut AsReceived,
    mut to: Incoming,
    transfer_syntax: &str,
    amendment: &Amendment,
) -> Result<(Incoming, Attributes, u32, u32), Failed> {
    let mut rewriter = Rewriter::new(transfer_syntax, amendment)?;
    let mut scanner = Scanner::new(transfer_syntax, Wanted::Indexed);
    let mut came = crc32fast::Hasher::new();
    let mut data = crc32fast::Hasher::new();
    let mut file = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut out = Vec::new();
    let mut done = 0;
    while done < from.incoming.len() {
        // The file meta information goes over as it is: the UIDs stay.
        let is_meta = done < from.data_offset;
        let want = match is_meta {
            true => piece.len().min((from.data_offset - done) as usize),
            false => piece.len(),
        };
        let count = from
            .incoming
            .read_at(done, &mut piece[..want])
            .map_err(|error| Failed::Source(error.to_string()))?;
        if count == 0 {
            break;
        }
        came.update(&piece[..count]);
        done += count as u64;
        if is_meta {
            file.update(&piece[..count]);
            to.write(&piece[..count]).map_err(Failed::Target)?;
            continue;
        }
        out.clear();
        rewriter.feed(&piece[..count], &mut out)?;
        scanner.feed(&out)?;
        data.update(&out);
        to.write(&out).map_err(Failed::Target)?;
    }
    // Larger instances are read back from the disk here.
    if came.finalize() != from.crc32 {
        return Err(Failed::Source("the disk gave other bytes back".to_owned()));
    }
    out.clear();
    rewriter.finish(&mut out)?;
    scanner.feed(&out)?;
    data.update(&out);
    to.write(&out).map_err(Failed::Target)?;
    file.combine(&data);
    Ok((to, scanner.finish()?, data.finalize(), file.finalize()))
}

/// Read and written at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(change: impl FnOnce(&mut Coerce)) -> Rule {
        let mut config = Coerce {
            calling: "*".to_owned(),
            attribute: CoercedAttribute::PatientId,
            strip_zeros: false,
            map: None,
            pad: 0,
            prefix: String::new(),
            suffix: String::new(),
            issuer: None,
        };
        change(&mut config);
        let map = [("47", "NEW"), ("0047", "OTHER")];
        let map = map.map(|(old, new)| (old.to_owned(), new.to_owned()));
        Rule {
            config,
            map: map.into(),
        }
    }

    /// Method: rows as the documentation shows them; the map has 47 and 0047.
    #[test]
    fn the_steps_go_in_their_order() {
        let strip = |config: &mut Coerce| config.strip_zeros = true;
        for (rule, old, new) in [
            (rule(strip), "0012", "12"),
            (rule(strip), "0000", "0"),
            (rule(strip), "0047", "NEW"),
            (rule(|_| ()), "0047", "OTHER"),
            (rule(|c| c.pad = 8), "123", "00000123"),
            (rule(|c| c.pad = 8), "47", "00000NEW"),
            (rule(|c| c.pad = 2), "123", "123"),
            (
                rule(|c| {
                    c.strip_zeros = true;
                    c.pad = 4;
                    c.prefix = "H1-".to_owned();
                    c.suffix = "-X".to_owned();
                }),
                "000012",
                "H1-0012-X",
            ),
        ] {
            assert_eq!(rule.new_value(old), new, "{old}");
        }
    }
}
