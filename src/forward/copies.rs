//! What waits is not lost with the state folder: a copy of it lies beside the ledgers of every volume,
//! `ledgers/outbox.jsonl`, and stands in for an outbox that is missing or damaged.
//!
//! A line for each study that is not done or came in the last day, one for each peer, how far the ledgers were looked at
//! (before the studies, so that what comes meanwhile is noted again from them), and at the end the CRC-32 of all lines
//! before. It is a few minutes old: what was sent since goes once more.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Marks};

use super::kept::{Kept, KeptPeer, Key};
use super::{Forwarder, now_ms, text_of};

const NAME: &str = "outbox.jsonl";
const VERSION: u32 = 1;
/// Between two copies, as long as something changes.
const EVERY: Duration = Duration::from_secs(300);
/// After the start.
const FIRST: Duration = Duration::from_secs(30);
/// How far the ledgers were looked at lags behind: what is noted again from them must be known as sent. Milliseconds.
const LAG_MS: i64 = 24 * 60 * 60 * 1_000;
/// For disks, at the end.
const END_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Row {
    Begin {
        version: u32,
        /// Milliseconds since 1970.
        at: i64,
    },
    Marks(Marks),
    Peer {
        peer: String,
        kept: KeptPeer,
    },
    Study {
        peer: String,
        study: String,
        kept: Box<Kept>,
    },
    End {
        crc32: u32,
    },
}

/// An outbox as it was.
pub struct Copy {
    pub at: i64,
    pub volume: String,
    pub marks: Option<Marks>,
    pub peers: Vec<(String, KeptPeer)>,
    pub items: Vec<(Key, Kept)>,
}

impl Copy {
    /// Where it is from, in words.
    pub fn origin(&self) -> String {
        format!("the copy of {} on volume {}", text_of(self.at), self.volume)
    }

    /// Of study and peer, what is not done.
    pub fn open_count(&self) -> usize {
        self.items
            .iter()
            .filter(|(_, kept)| !kept.is_done())
            .count()
    }

    /// The newest that can be read.
    pub fn newest(archive: &Archive) -> Option<Copy> {
        let mut newest: Option<Copy> = None;
        archive.kept_beside(NAME, &mut |volume, bytes| match Copy::of(volume, &bytes) {
            Some(copy) if newest.as_ref().is_none_or(|other| other.at < copy.at) => {
                newest = Some(copy);
            }
            Some(_) => {}
            None => tracing::warn!(
                volume,
                "the copy of the outbox there is not whole, or newer"
            ),
        });
        newest
    }

    fn of(volume: &str, bytes: &[u8]) -> Option<Copy> {
        let mut copy = Copy {
            at: 0,
            volume: volume.to_owned(),
            marks: None,
            peers: Vec::new(),
            items: Vec::new(),
        };
        let mut crc = crc32fast::Hasher::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice(line).ok()? {
                Row::Begin { version, at } if version == VERSION => copy.at = at,
                Row::Begin { .. } => return None,
                Row::Marks(marks) => copy.marks = Some(marks),
                Row::Peer { peer, kept } => copy.peers.push((peer, kept)),
                Row::Study { peer, study, kept } => {
                    copy.items.push((Key::new(&peer, &study), *kept));
                }
                Row::End { crc32 } => return (crc.finalize() == crc32).then_some(copy),
            }
            crc.update(line);
        }
        None
    }
}

/// Lines and their checksum.
struct Lines<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
}

impl Lines<'_> {
    fn put(&mut self, row: &Row) -> io::Result<()> {
        let mut line = serde_json::to_vec(row).map_err(io::Error::other)?;
        line.push(b'\n');
        self.crc.update(&line);
        self.out.write_all(&line)
    }
}

/// What the clerk knows of the copies.
pub struct Copies {
    next: Instant,
    /// Of the outbox, what was copied last.
    generation: Option<u64>,
}

impl Copies {
    pub fn new() -> Copies {
        Copies {
            next: Instant::now() + FIRST,
            generation: None,
        }
    }
}

impl Forwarder {
    /// Copies the outbox where it has changed and it is time for it, or where this is the end.
    pub(super) fn copy_outbox(self: &Arc<Self>, copies: &mut Copies, is_end: bool) {
        let generation = self.outbox.generation();
        let is_time = is_end || copies.next <= Instant::now();
        if !is_time || generation.is_none() || generation == copies.generation {
            return;
        }
        copies.generation = generation;
        copies.next = Instant::now() + EVERY;
        let this = self.clone();
        let content: Arc<crate::archive::BesideContent> = Arc::new(move |out| this.write_copy(out));
        if is_end {
            self.archive.wait_for_beside(END_PATIENCE);
        }
        self.archive.keep_beside(NAME, &content);
        if is_end {
            self.archive.wait_for_beside(END_PATIENCE);
        }
    }

    fn write_copy(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = Lines {
            out,
            crc: crc32fast::Hasher::new(),
        };
        let (version, at) = (VERSION, now_ms());
        lines.put(&Row::Begin { version, at })?;
        if let Some(marks) = self.outbox.marks().map_err(io::Error::other)? {
            lines.put(&Row::Marks(marks))?;
        }
        for peer in self.peers.all() {
            let peer = peer.ae_title.as_str().to_owned();
            let kept = self.outbox.peer(&peer).map_err(io::Error::other)?;
            lines.put(&Row::Peer { peer, kept })?;
        }
        let mut written = Ok(());
        let read = self.outbox.each(&mut |key, kept| {
            if kept.is_done() && kept.noted < at - LAG_MS {
                return true;
            }
            written = lines.put(&Row::Study {
                peer: key.peer.to_string(),
                study: key.study.to_string(),
                kept: Box::new(kept),
            });
            written.is_ok()
        });
        read.map_err(io::Error::other)?;
        written?;
        let crc32 = lines.crc.clone().finalize();
        lines.put(&Row::End { crc32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method: a copy is cut at every byte, and every byte is changed in turn.
    #[test]
    fn only_a_whole_copy_counts() {
        let mut bytes = Vec::new();
        let mut lines = Lines {
            out: &mut bytes,
            crc: crc32fast::Hasher::new(),
        };
        lines.put(&Row::Begin { version: 1, at: 7 }).unwrap();
        lines.put(&Row::Marks(Marks::default())).unwrap();
        let mut kept = Kept::default();
        kept.wanted.insert(5);
        lines
            .put(&Row::Study {
                peer: "HOROS".to_owned(),
                study: "1.2".to_owned(),
                kept: Box::new(kept.clone()),
            })
            .unwrap();
        let crc32 = lines.crc.clone().finalize();
        lines.put(&Row::End { crc32 }).unwrap();
        let whole = Copy::of("A", &bytes).expect("whole");
        assert_eq!(whole.items, [(Key::new("HOROS", "1.2"), kept)]);
        assert_eq!((whole.at, whole.marks), (7, Some(Marks::default())));
        for end in 0..bytes.len() - 1 {
            assert!(Copy::of("A", &bytes[..end]).is_none(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                Copy::of("A", &changed).is_none() || at + 1 == bytes.len(),
                "{at}"
            );
        }
    }
}
