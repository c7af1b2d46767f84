//! Who is connected: connections on which nothing is negotiated yet, associations, and the files that both take.
//!
//! The two are counted apart. For a connection too many another one is closed, never the new one: of the address with most
//! of them the one that has waited longest. So who floods the port pushes out himself, and who comes with a request is heard.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::config::Limits;
use crate::net::AssociationHandle;
use crate::scp::limited::Exceeded;

/// An association has its connection, the file that it receives or reads, and one of these to a C-MOVE destination.
const FILES_OF_ASSOCIATION: u64 = 3;
/// For volumes, ledgers, index, page and log; where few may be open, half of them.
const FILES_OWN: u64 = 256;
/// So many connections have room however few files may be open.
const CONNECTIONS_MIN: usize = 8;

#[derive(Default)]
pub struct Places {
    open: Mutex<Open>,
    ended: Condvar,
}

#[derive(Default)]
struct Open {
    last_id: u64,
    /// By number, so the first of an address is the one that has waited longest.
    connections: BTreeMap<u64, (IpAddr, Option<oneshot::Sender<Exceeded>>)>,
    connections_of: HashMap<IpAddr, usize>,
    associations: usize,
    associations_of: HashMap<IpAddr, usize>,
    handles: HashMap<u64, AssociationHandle>,
    stopping: bool,
}

/// One place: of a connection, then of its association, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    pub address: IpAddr,
    /// The number in the log.
    pub id: u64,
    is_association: bool,
}

/// How many files may be open in all. `None`: any number.
pub fn files_max(limits: &Limits) -> Option<u64> {
    let of_process = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let both = [of_process, limits.open_files];
    both.into_iter().flatten().min()
}

/// Files that so many associations need, and the archive itself.
fn files_of(associations: usize, files_max: u64) -> u64 {
    FILES_OWN.min(files_max / 2) + FILES_OF_ASSOCIATION * associations as u64
}

/// Files that all these limits need when they are reached.
pub fn files_wanted(limits: &Limits) -> u64 {
    files_of(limits.associations, u64::MAX) + limits.connections as u64
}

/// As many open files as the system allows, and a word where the limits could use more.
pub fn raise_files(limits: &Limits) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Where it is not allowed it stays as it was.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let wanted = files_wanted(limits);
    if let Some(most) = files_max(limits).filter(|most| *most < wanted) {
        tracing::warn!(
            open_files_max = most,
            open_files_wanted = wanted,
            "too few files may be open for [limits]: associations are rejected before there are as many as configured. \
             Set LimitNOFILE={wanted} in the service, or lower [limits] associations and connections"
        );
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection; the receiver hears when it has to give way to another.
    pub fn connected(
        self: &Arc<Places>,
        address: IpAddr,
        limits: &Limits,
    ) -> (Place, oneshot::Receiver<Exceeded>) {
        let (give_way, hears) = oneshot::channel();
        let mut open = self.lock();
        open.last_id += 1;
        let id = open.last_id;
        open.connections.insert(id, (address, Some(give_way)));
        *open.connections_of.entry(address).or_default() += 1;
        if let Some((exceeded, address)) = open.too_many(address, limits) {
            open.oldest_gives_way(address, exceeded);
        }
        let place = Place {
            places: self.clone(),
            address,
            id,
            is_association: false,
        };
        (place, hears)
    }

    /// False when the server is stopping.
    pub fn register(&self, id: u64, handle: AssociationHandle) -> bool {
        let mut open = self.lock();
        if !open.stopping {
            open.handles.insert(id, handle);
        }
        !open.stopping
    }

    /// Idle associations end at once, the others after the message at hand; at the deadline, whatever they do.
    pub fn end_associations(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut open = self.lock();
        open.stopping = true;
        for handle in open.handles.values() {
            handle.shutdown_when_idle();
        }
        while !open.handles.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    associations_count = open.handles.len(),
                    "ended in the middle of a message"
                );
                for handle in open.handles.values() {
                    handle.shutdown_now();
                }
                let _ = self.ended.wait_timeout(open, Duration::from_secs(2));
                return;
            }
            open = match self.ended.wait_timeout(open, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Open {
    /// What is exceeded with the connection from `address` that has just come, and whose connections there are too many of.
    fn too_many(&self, address: IpAddr, limits: &Limits) -> Option<(Exceeded, IpAddr)> {
        if self.connections_of.get(&address).copied() > Some(limits.connections_per_address) {
            let value = limits.connections_per_address as u64;
            return Some((Exceeded::new("connections_per_address", value), address));
        }
        if self.connections.len() > limits.connections {
            let exceeded = Exceeded::new("connections", limits.connections as u64);
            return Some((exceeded, self.with_most_connections()?));
        }
        let files = files_max(limits)?;
        let needed = files_of(self.associations, files) + self.connections.len() as u64;
        let is_too_many = needed > files && self.connections.len() > CONNECTIONS_MIN;
        let exceeded = Exceeded::new("open_files", files);
        is_too_many
            .then(|| self.with_most_connections())?
            .map(|address| (exceeded, address))
    }

    fn with_most_connections(&self) -> Option<IpAddr> {
        let most = self.connections_of.iter().max_by_key(|(_, count)| **count);
        most.map(|(address, _)| *address)
    }

    fn oldest_gives_way(&mut self, address: IpAddr, exceeded: Exceeded) {
        let mut of_address = self.connections.values_mut();
        let oldest = of_address.find(|(of, give_way)| *of == address && give_way.is_some());
        if let Some(give_way) = oldest.and_then(|(_, give_way)| give_way.take()) {
            // It may have come to its end at this moment.
            let _ = give_way.send(exceeded);
        }
    }

    fn leave(of: &mut HashMap<IpAddr, usize>, address: IpAddr) {
        if let Some(count) = of.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                of.remove(&address);
            }
        }
    }

    fn end_connection(&mut self, id: u64) {
        if let Some((address, _)) = self.connections.remove(&id) {
            Open::leave(&mut self.connections_of, address);
        }
    }
}

impl Place {
    /// The connection becomes an association, unless there are too many.
    pub fn become_association(&mut self, limits: &Limits) -> Result<(), Exceeded> {
        let mut open = self.places.lock();
        let of_address = open.associations_of.get(&self.address).copied();
        let files = files_max(limits).unwrap_or(u64::MAX);
        if open.associations >= limits.associations {
            let value = limits.associations as u64;
            return Err(Exceeded::new("associations", value));
        }
        if of_address.unwrap_or(0) >= limits.associations_per_address {
            let value = limits.associations_per_address as u64;
            return Err(Exceeded::new("associations_per_address", value));
        }
        let (exceeded, needed) = (
            Exceeded::new("open_files", files),
            files_of(open.associations + 1, files),
        );
        if needed > files {
            return Err(exceeded);
        }
        open.end_connection(self.id);
        // What only waits takes no room from what works.
        let over = (needed + open.connections.len() as u64).saturating_sub(files);
        for _ in 0..over.min(FILES_OF_ASSOCIATION) {
            if let Some(address) = open.with_most_connections() {
                open.oldest_gives_way(address, exceeded);
            }
        }
        open.associations += 1;
        *open.associations_of.entry(self.address).or_default() += 1;
        self.is_association = true;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        if self.is_association {
            open.associations -= 1;
            Open::leave(&mut open.associations_of, self.address);
            open.handles.remove(&self.id);
        } else {
            open.end_connection(self.id);
        }
        self.places.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, per_address: usize) -> Limits {
        Limits {
            connections,
            connections_per_address: per_address,
            associations: 2,
            associations_per_address: 1,
            ..Limits::default()
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, last])
    }

    /// Method: one address connects again and again, others once; who has to give way is heard.
    #[test]
    fn who_floods_gives_way_to_himself_and_to_others() {
        let places = Arc::new(Places::default());
        let limits = limits(4, 3);
        let mut flood: Vec<_> = (0..3)
            .map(|_| places.connected(address(1), &limits))
            .collect();
        let (_third, mut third_hears) = flood.pop().unwrap();
        let (_second, mut second_hears) = flood.pop().unwrap();
        let (first, mut first_hears) = flood.pop().unwrap();
        let (_other, mut other_hears) = places.connected(address(2), &limits);
        assert!(first_hears.try_recv().is_err(), "there is room");
        let (_another, mut another_hears) = places.connected(address(3), &limits);
        assert_eq!(
            first_hears.try_recv().ok(),
            Some(Exceeded::new("connections", 4))
        );
        drop(first);
        let (_fourth, mut fourth_hears) = places.connected(address(1), &limits);
        assert!(second_hears.try_recv().is_ok(), "five of four");
        for hears in [
            &mut third_hears,
            &mut other_hears,
            &mut another_hears,
            &mut fourth_hears,
        ] {
            assert!(hears.try_recv().is_err());
        }
    }

    #[test]
    fn an_association_takes_no_place_of_a_connection_and_gives_its_own_back() {
        let places = Arc::new(Places::default());
        let limits = limits(1, 1);
        let (mut one, _hears) = places.connected(address(1), &limits);
        one.become_association(&limits).unwrap();
        let (mut same, mut hears) = places.connected(address(1), &limits);
        assert!(hears.try_recv().is_err(), "its place is free");
        let exceeded = Exceeded::new("associations_per_address", 1);
        assert_eq!(same.become_association(&limits), Err(exceeded));
        drop(same);
        let (mut two, _hears) = places.connected(address(2), &limits);
        two.become_association(&limits).unwrap();
        let (mut three, _hears) = places.connected(address(3), &limits);
        let exceeded = Exceeded::new("associations", 2);
        assert_eq!(three.become_association(&limits), Err(exceeded));
        drop(one);
        three.become_association(&limits).unwrap();
        drop((two, three));
        let open = places.lock();
        assert!(open.associations_of.is_empty() && open.connections_of.is_empty());
        assert_eq!((open.associations, open.connections.len()), (0, 0));
    }
}
