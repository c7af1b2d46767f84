//! Is a peer there, and what does it hold?

use std::net::ToSocketAddrs;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::config::PeerEntry;
use crate::dicom::{AeTitle, sop, ts};
use crate::net::{Association, NetError, Timeouts};
use crate::scu;

use super::Forwarder;
use super::kept::Key;
use super::queue::Receipt;

/// Matches of one query that are counted.
const MATCHES_MAX: u64 = 100_000;
/// A workstation may take a moment to file what it has confirmed.
const LATER: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(300),
];
/// For the answer to a query: nothing depends on it.
const QUERY_PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn open(
    calling: &AeTitle,
    peer: &PeerEntry,
    abstract_syntax: &str,
    patience: Duration,
) -> Result<Association, NetError> {
    let addresses: Vec<_> = (peer.host.as_str(), peer.port).to_socket_addrs()?.collect();
    let contexts = vec![(
        abstract_syntax.to_owned(),
        vec![ts::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
    )];
    scu::associate(
        peer,
        &addresses,
        calling,
        contexts,
        Timeouts {
            response: patience,
            ..Timeouts::default()
        },
        &[],
    )
}

/// C-ECHO; the error says why it cannot be reached. A peer that does not know C-ECHO but takes our association is there.
pub fn echo(calling: &AeTitle, peer: &PeerEntry) -> Result<(), String> {
    let mut association = open(calling, peer, sop::VERIFICATION, QUERY_PATIENCE)
        .map_err(|error| error.to_string())?;
    if association.context_for(sop::VERIFICATION, None).is_none() {
        drop(association.release());
        return Ok(());
    }
    let answered = scu::echo(&mut association);
    match answered {
        Ok(_) => {
            drop(association.release());
            Ok(())
        }
        Err(error) => {
            association.abort();
            Err(error.to_string())
        }
    }
}

impl Forwarder {
    /// Asks a peer how many instances it holds of a study, and writes that down. `tries`: how often it was asked before.
    pub(super) fn ask_what_is_there(&self, peer: &PeerEntry, key: &Key, tries: u32) {
        let counted = self.count_there(peer, &key.study);
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(&*key.peer) else {
            return;
        };
        let count = match counted {
            Ok(count) => {
                queue.receipt = Receipt::Answers;
                count
            }
            Err(Unanswered::Never(reason)) if queue.receipt == Receipt::Unknown => {
                tracing::info!(
                    peer = &*key.peer,
                    reason,
                    "a peer does not say what it holds"
                );
                queue.receipt = Receipt::DoesNot;
                queue.receipts.clear();
                return;
            }
            Err(Unanswered::Never(reason) | Unanswered::Now(reason)) => {
                tracing::debug!(peer = &*key.peer, reason, "what a peer holds is not known");
                return;
            }
        };
        drop(queues);
        let written = self.outbox.change(key, |kept| {
            kept.delivered = Some(count);
            count < kept.confirmed.count()
        });
        if written == Ok(true)
            && let Some(pause) = LATER.get(tries as usize)
            && let Some(queue) = self.queues().get_mut(&*key.peer)
        {
            queue.ask_later(key.study.clone(), Instant::now() + *pause, tries + 1);
        }
    }

    fn count_there(&self, peer: &PeerEntry, study: &str) -> Result<u64, Unanswered> {
        let mut association = open(&self.calling, peer, sop::STUDY_ROOT_FIND, QUERY_PATIENCE)?;
        let Some(context_id) = association
            .context_for(sop::STUDY_ROOT_FIND, None)
            .map(|context| context.id)
        else {
            drop(association.release());
            return Err(Unanswered::Never("it has no such service".to_owned()));
        };
        let counted = count(&mut association, context_id, study);
        match &counted {
            Ok(_) => drop(association.release()),
            Err(_) => association.abort(),
        }
        counted
    }
}

enum Unanswered {
    /// It has no such service, or none that works.
    Never(String),
    Now(String),
}

impl From<NetError> for Unanswered {
    fn from(error: NetError) -> Unanswered {
        match error {
            NetError::Timeout { .. } | NetError::Protocol { .. } => {
                Unanswered::Never(error.to_string())
            }
            error => Unanswered::Now(error.to_string()),
        }
    }
}

fn count(association: &mut Association, context_id: u8, study: &str) -> Result<u64, Unanswered> {
    // Number of Study Related Instances, an optional key: PS3.4 C.6.2.1.2.
    let mut said = None;
    let mut matches = 0;
    let status = scu::find(
        association,
        context_id,
        &identifier("STUDY", study, false),
        &mut |answer| {
            matches += 1;
            said = said.or_else(|| number(answer, (0x0020, 0x1208)));
            ControlFlow::Continue(())
        },
    )?;
    if status == 0 && matches == 0 {
        return Ok(0);
    }
    if let (0, Some(said)) = (status, said) {
        return Ok(said);
    }
    let mut images = 0;
    let status = scu::find(
        association,
        context_id,
        &identifier("IMAGE", study, true),
        &mut |_| {
            images += 1;
            match images < MATCHES_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        },
    )?;
    match status {
        0 => Ok(images),
        status => Err(Unanswered::Now(format!("status {status:04X}H"))),
    }
}

/// Implicit VR Little Endian; below the study everything, as relational queries do.
fn identifier(level: &str, study: &str, images: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |group: u16, element: u16, value: &str, padding: u8| {
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        let odd = value.len() % 2;
        bytes.extend(((value.len() + odd) as u32).to_le_bytes());
        bytes.extend(value.as_bytes());
        bytes.extend(std::iter::repeat_n(padding, odd));
    };
    if images {
        put(0x0008, 0x0018, "", 0);
    }
    put(0x0008, 0x0052, level, b' ');
    put(0x0020, 0x000D, study, 0);
    if !images {
        put(0x0020, 0x1208, "", b' ');
    }
    bytes
}

/// The value of an element at the top of an answer. Lengths are a stranger's.
fn number(answer: &[u8], wanted: (u16, u16)) -> Option<u64> {
    let mut rest = answer;
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let tag = (
            u16::from_le_bytes([header[0], header[1]]),
            u16::from_le_bytes([header[2], header[3]]),
        );
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        if tag == wanted {
            let text = std::str::from_utf8(value).ok()?;
            return text.trim_matches([' ', '\0']).parse().ok();
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_in_an_answer_and_a_false_length_finds_nothing() {
        let mut answer = identifier("STUDY", "1.2.3", true);
        answer.extend(b"\x20\x00\x08\x12\x02\x00\x00\x0012");
        assert_eq!(number(&answer, (0x0020, 0x1208)), Some(12));
        assert_eq!(number(&answer, (0x0020, 0x1206)), None);
        for end in 0..answer.len() {
            assert_eq!(number(&answer[..end], (0x0020, 0x1208)), None);
        }
        answer[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(number(&answer, (0x0020, 0x1208)), None);
    }
}
