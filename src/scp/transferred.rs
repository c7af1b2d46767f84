//! What a C-MOVE or C-GET sent, for the journal of transfers: one line for each study of a request.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::archive::Selected;
use crate::metrics::Metrics;
use crate::sending::Sent;
use crate::transfers::{Direction, Requestor, Transfer, Transfers};

use super::{Services, status};

/// Counts; writes its lines when it is dropped, however the request ended.
pub struct Transferred<'a> {
    transfers: &'a Transfers,
    metrics: &'a Metrics,
    direction: Direction,
    peer: String,
    address: String,
    asked_by: Requestor,
    /// By Study Instance UID; begun when.
    studies: BTreeMap<String, (Instant, Transfer)>,
    /// When the last instance ended: the next begins there.
    last: Instant,
}

impl<'a> Transferred<'a> {
    pub fn new(
        services: &'a Services,
        direction: Direction,
        peer: &str,
        address: String,
        asked_by: Requestor,
    ) -> Transferred<'a> {
        let mut line = Transferred::of(
            &services.transfers,
            &services.metrics,
            direction,
            peer,
            address,
        );
        line.asked_by = asked_by;
        line
    }

    fn of(
        transfers: &'a Transfers,
        metrics: &'a Metrics,
        direction: Direction,
        peer: &str,
        address: String,
    ) -> Transferred<'a> {
        Transferred {
            transfers,
            metrics,
            direction,
            peer: peer.to_owned(),
            address,
            asked_by: Requestor::default(),
            studies: BTreeMap::new(),
            last: Instant::now(),
        }
    }

    pub fn count(&mut self, instance: &Selected, sent: &Sent, bytes: u64) {
        let begun = self.last;
        match self.direction {
            Direction::Got => self.metrics.counters.got(begun.elapsed()),
            _ => self.metrics.counters.moved(begun.elapsed()),
        }
        let study = &instance.study_instance_uid;
        if !self.studies.contains_key(study) {
            let transfer = Transfer {
                at: String::new(),
                direction: self.direction,
                peer: self.peer.clone(),
                address: self.address.clone(),
                study_instance_uid: study.clone(),
                instances_count: 0,
                failed_count: 0,
                bytes: 0,
                seconds: 0.0,
                status: status::SUCCESS,
                reason: String::new(),
                asked_by: Some(Box::new(self.asked_by.clone())),
            };
            self.studies.insert(study.clone(), (begun, transfer));
        }
        let Some((begun, transfer)) = self.studies.get_mut(study) else {
            return;
        };
        self.last = Instant::now();
        transfer.at = jiff::Timestamp::now().to_string();
        transfer.seconds = self.last.duration_since(*begun).as_secs_f64();
        if sent.is_stored() {
            transfer.instances_count += 1;
            transfer.bytes += bytes;
        } else {
            transfer.failed_count += 1;
        }
        let (code, reason) = worst(sent);
        let had_failed = transfer.status != status::SUCCESS && transfer.failed_count > 1;
        // The first failure counts more than a warning before it, and than other failures after it.
        let is_worse = match sent.is_stored() {
            true => transfer.status == status::SUCCESS && code != status::SUCCESS,
            false => !had_failed,
        };
        if is_worse {
            transfer.status = code;
            transfer.reason = reason;
        }
    }
}

/// The status that stands for what became of an instance, and in words.
fn worst(sent: &Sent) -> (u16, String) {
    match sent {
        Sent::Stored { status, comment } | Sent::Refused { status, comment } => {
            (*status, comment.clone())
        }
        Sent::NotTaken(reason) => (status::SOP_CLASS_NOT_SUPPORTED, reason.clone()),
        Sent::NotOurs(reason) | Sent::Broken(reason) => {
            (status::SUB_OPERATIONS_FAILED, reason.clone())
        }
    }
}

/// What a requestor is told of an instance that it does not get.
pub fn reason(sent: &Sent) -> Option<String> {
    match sent {
        Sent::Stored { .. } => None,
        Sent::Refused { status, comment } => Some(format!("refused with {status:04X}H {comment}")),
        Sent::NotTaken(reason) | Sent::NotOurs(reason) | Sent::Broken(reason) => {
            Some(reason.clone())
        }
    }
}

impl Drop for Transferred<'_> {
    fn drop(&mut self) {
        for (_, transfer) in std::mem::take(&mut self.studies).into_values() {
            self.transfers.note(transfer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(status: u16) -> Sent {
        Sent::Stored {
            status,
            comment: String::new(),
        }
    }

    /// What becomes of the instances of a study in turn, and what the line says then: status, sent, failed.
    #[test]
    fn a_line_says_the_first_failure_or_else_the_first_warning() {
        let refused = |status| Sent::Refused {
            status,
            comment: "full".to_owned(),
        };
        let instance = Selected {
            study_instance_uid: "1.2".to_owned(),
            sop_instance_uid: "1.2.3".to_owned(),
            sop_class_uid: "1.2.4".to_owned(),
            transfer_syntax: "1.2.5".to_owned(),
            length: 10,
            crc32: 0,
        };
        for (sent, expected) in [
            (vec![stored(0), stored(0)], (0, 2, 0)),
            (
                vec![stored(0), stored(0xB000), stored(0xB007)],
                (0xB000, 3, 0),
            ),
            (
                vec![stored(0xB000), refused(0xA700), stored(0)],
                (0xA700, 2, 1),
            ),
            (
                vec![refused(0xA700), Sent::Broken("gone".to_owned())],
                (0xA700, 0, 2),
            ),
            (vec![Sent::NotTaken(String::new())], (0x0122, 0, 1)),
        ] {
            let transfers = Transfers::default();
            let metrics = Metrics::new();
            let mut line =
                Transferred::of(&transfers, &metrics, Direction::Moved, "A", String::new());
            for sent in &sent {
                line.count(&instance, sent, 10);
            }
            let (_, transfer) = &line.studies["1.2"];
            let found = (
                transfer.status,
                transfer.instances_count,
                transfer.failed_count,
            );
            assert_eq!(found, expected, "{sent:?}");
            assert_eq!(transfer.bytes, 10 * transfer.instances_count);
        }
    }
}
