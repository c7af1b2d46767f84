//! What was received, for who looks at every new instance once: forwarding.
//!
//! While the process lives each is told as it comes. What a process that was killed had not been asked for is found in the
//! ledgers: [`Marks`] say up to where they were looked at. A number is given to an instance before it is durable, and
//! several are under way at once, so "all up to the highest number seen" would pass over one that comes late. Marks are
//! therefore taken in two steps: where the ledgers are at one moment counts when all that were under way then have come,
//! or failed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::index::{IndexError, InstanceEntry, InstanceFacts};
use crate::volume::Volume;
use crate::volume::ledger::{self, Position};

use super::shipping::own_source;
use super::{Archive, Line, entry, keeper};

/// More are not told one by one, they are read from the ledgers; some 40 MB.
const TOLD_MAX: usize = 200_000;

/// An instance that was received: neither a copy, nor made by a correction, nor found on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Archive-wide number of its ledger line.
    pub sequence: u64,
    pub sop_instance_uid: String,
    /// Length and CRC-32 of its data set as it is stored.
    pub data_bytes: u64,
    pub crc32: u32,
}

impl Arrival {
    /// Whether this is what the index answers with, under whatever number: what a failing disk kept of a first attempt has
    /// another than what was stored when it was sent again.
    pub fn has_bytes_of(&self, entry: &InstanceEntry) -> bool {
        let copy = entry.record.copies.first();
        entry.record.origin.by == 0
            && copy.is_some_and(|copy| {
                (copy.data_bytes(), copy.crc32) == (self.data_bytes, self.crc32)
            })
    }
}

/// Up to where the ledgers were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// All up to this number were looked at, or come in a ledger after its position.
    pub sequence: u64,
    /// By volume id; of one that is away as it was when it went.
    pub positions: BTreeMap<String, Position>,
}

/// Marks that count when everything has come that was under way when they were taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub marks: Marks,
    ticket: u64,
}

/// When a volume was opened. One that went and came back between two looks has another, and its ledger may have a line that
/// a flush had failed for.
#[derive(Clone)]
pub struct Coming(Weak<Volume<Line>>);

impl PartialEq for Coming {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

#[derive(Default)]
pub(super) struct Arrivals {
    inner: Mutex<Inner>,
    came: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Somebody asks.
    wanted: bool,
    told: Vec<Arrival>,
    too_many: bool,
    ticket: u64,
    under_way: BTreeSet<u64>,
}

/// One that is under way. It is told when this is dropped, also where it came to nothing: whether the index knows it says
/// more than what this process was answered by its disk.
pub(super) struct Expected<'a> {
    arrivals: &'a Arrivals,
    ticket: u64,
    arrival: Option<Arrival>,
}

impl Expected<'_> {
    pub fn is(&mut self, instance: &InstanceFacts) {
        self.arrival = Some(Arrival {
            sequence: instance.sequence,
            sop_instance_uid: instance.sop_instance_uid.clone(),
            data_bytes: instance.copy.data_bytes(),
            crc32: instance.copy.crc32,
        });
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut inner = self.arrivals.lock();
        inner.under_way.remove(&self.ticket);
        if let Some(arrival) = self.arrival.take()
            && inner.wanted
        {
            if inner.told.len() < TOLD_MAX {
                inner.told.push(arrival);
            } else {
                inner.too_many = true;
            }
            if inner.told.len() == 1 {
                self.arrivals.came.notify_all();
            }
        }
    }
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before the instance gets its number.
    pub fn expect(&self) -> Expected<'_> {
        let mut inner = self.lock();
        inner.ticket += 1;
        let ticket = inner.ticket;
        inner.under_way.insert(ticket);
        Expected {
            arrivals: self,
            ticket,
            arrival: None,
        }
    }
}

impl Archive {
    /// From now on what comes is told by [`Archive::take_arrivals`].
    pub fn listen_for_arrivals(&self) {
        self.arrivals.lock().wanted = true;
    }

    /// Returns when something came, or after that time.
    pub fn wait_for_arrivals(&self, patience: Duration) {
        let inner = self.arrivals.lock();
        if inner.told.is_empty() {
            drop(self.arrivals.came.wait_timeout(inner, patience));
        }
    }

    pub fn wake_for_arrivals(&self) {
        self.arrivals.came.notify_all();
    }

    /// What came since the last call; `None`: too many, they are to be read from the ledgers.
    pub fn take_arrivals(&self) -> Option<Vec<Arrival>> {
        let mut inner = self.arrivals.lock();
        let told = std::mem::take(&mut inner.told);
        match std::mem::take(&mut inner.too_many) {
            true => None,
            false => Some(told),
        }
    }

    /// Where the ledgers of the volumes are that are here. `None`: the index is not complete.
    pub fn take_marks(&self) -> Result<Option<Taken>, IndexError> {
        let sequence = self.keeper.sequence();
        let view = self.keeper.view()?;
        if view.rebuilding_percent.is_some() {
            return Ok(None);
        }
        // After the view: what is under way by now may be in it, what comes later is not.
        let ticket = self.arrivals.lock().ticket;
        let mut positions = BTreeMap::new();
        for member in self.shelf.all() {
            if member.here().is_some() {
                let position = view.snapshot.position(&member.volume_id)?;
                let position = position.and_then(|bytes| keeper::decode(&bytes));
                positions.insert(member.volume_id.clone(), position.unwrap_or_default());
            }
        }
        Ok(Some(Taken {
            marks: Marks {
                sequence,
                positions,
            },
            ticket,
        }))
    }

    /// Whether everything that was under way then has come. Ask before [`Archive::take_arrivals`], whose answer then has it.
    pub fn has_all_until(&self, taken: &Taken) -> bool {
        let inner = self.arrivals.lock();
        inner
            .under_way
            .first()
            .is_none_or(|ticket| *ticket > taken.ticket)
    }

    /// Ids of the volumes that are here, each with its coming.
    pub fn volumes_here(&self) -> BTreeMap<String, Coming> {
        let members = self.shelf.all();
        let here = members.iter().filter_map(|member| {
            let coming = Coming(Arc::downgrade(member.here()?));
            Some((member.volume_id.clone(), coming))
        });
        here.collect()
    }

    /// Reads in a volume's ledger what came after the marks. Of a ledger that they do not know, or that is another by now,
    /// all with a higher number than theirs.
    pub fn arrivals_after(
        &self,
        marks: &Marks,
        volume_id: &str,
        f: &mut dyn FnMut(Arrival) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let Some(volume) = self.shelf.here(volume_id) else {
            return Err("the volume is away".to_owned());
        };
        let source = own_source(&volume);
        drop(volume);
        let read =
            |from: Position, above: u64, f: &mut dyn FnMut(Arrival) -> ControlFlow<()>| {
                ledger::read(&source.disk, &source.folder, from, &mut |json, _| {
                    match entry::received_of(json) {
                        Some(arrival) if arrival.sequence > above => f(arrival),
                        _ => ControlFlow::Continue(()),
                    }
                })
            };
        let known = marks.positions.get(volume_id).copied();
        let report = match known {
            Some(position) if position.segment > 0 => read(position, 0, f),
            _ => read(Position::default(), marks.sequence, f),
        };
        let report = report.map_err(|error| error.to_string())?;
        if report.mismatch {
            let again = read(Position::default(), marks.sequence, f);
            again.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
