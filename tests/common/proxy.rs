//! A bad network between two programs of this machine: a TCP proxy whose bytes come late, whose connections break, and
//! which for a while takes everything and passes on nothing.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::server::free_port;

/// Where a connection breaks: after so many bytes that went to the target, or came back from it.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Sent(usize),
    Answered(usize),
}

#[derive(Default)]
struct State {
    late: Duration,
    held: bool,
    /// Of the connections that come, one each.
    cuts: VecDeque<Cut>,
    /// Broken by those.
    cut_count: usize,
    open: Vec<Arc<Connection>>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct Connection {
    ended: AtomicBool,
    ends: Mutex<Vec<TcpStream>>,
}

/// Listens until dropped, on a port of 127.0.0.1.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

/// What is on its way, and when it is to be there.
type Late = (Instant, Vec<u8>);

impl Proxy {
    pub fn before(target: u16) -> Proxy {
        let (port, listener) = (0..100)
            .find_map(|_| {
                let port = free_port();
                Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?))
            })
            .expect("a port for the proxy");
        let shared = Arc::new(Shared::default());
        let listening = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if listening.lock().closed {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&listening);
                std::thread::spawn(move || shared.pass_on(stream, target));
            }
        });
        Proxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every byte from now on, both ways.
    pub fn late(&self, late: Duration) {
        self.shared.lock().late = late;
    }

    /// The next connections break there, one each.
    pub fn cut(&self, cuts: &[Cut]) {
        self.shared.lock().cuts.extend(cuts);
    }

    /// So many have.
    pub fn cut_count(&self) -> usize {
        self.shared.lock().cut_count
    }

    /// From now on connections are taken, and nothing is passed on.
    pub fn hold(&self) {
        self.shared.lock().held = true;
    }

    /// What comes now gets through; connections that there are break, as when a router has forgotten them.
    pub fn heal(&self) {
        let open = {
            let mut state = self.shared.lock();
            state.held = false;
            std::mem::take(&mut state.open)
        };
        open.iter().for_each(|connection| connection.end());
        self.shared.changed.notify_all();
    }

    /// As [`Proxy::heal`], but connections go on where they were.
    pub fn go_on(&self) {
        self.shared.lock().held = false;
        self.shared.changed.notify_all();
    }

    /// Connections that are there.
    pub fn open_count(&self) -> usize {
        let mut state = self.shared.lock();
        state.open.retain(|connection| !connection.has_ended());
        state.open.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.heal();
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Connection {
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for end in self.ends.lock().expect("no panic before").iter() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn keep(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let end = stream.try_clone()?;
        self.ends.lock().expect("no panic before").push(end);
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic before")
    }

    /// False: the connection has ended meanwhile.
    fn wait_while_held(&self, connection: &Connection) -> bool {
        let mut state = self.lock();
        while state.held && !connection.has_ended() {
            state = self.changed.wait(state).expect("no panic before");
        }
        !connection.has_ended()
    }

    fn pass_on(self: Arc<Shared>, client: TcpStream, target: u16) {
        let connection = Arc::new(Connection::default());
        let cut = {
            let mut state = self.lock();
            // Each holds both its ends.
            state.open.retain(|connection| !connection.has_ended());
            state.open.push(connection.clone());
            state.cuts.pop_front()
        };
        let target = connection.keep(&client).and_then(|()| {
            if !self.wait_while_held(&connection) {
                return Err(std::io::ErrorKind::NotConnected.into());
            }
            let target = TcpStream::connect(("127.0.0.1", target))?;
            connection.keep(&target)?;
            Ok(target)
        });
        let Ok(target) = target else {
            return connection.end();
        };
        let (sent, answered) = match cut {
            Some(Cut::Sent(bytes)) => (bytes, usize::MAX),
            Some(Cut::Answered(bytes)) => (usize::MAX, bytes),
            None => (usize::MAX, usize::MAX),
        };
        std::thread::scope(|scope| {
            for (from, to, limit) in [(&client, &target, sent), (&target, &client, answered)] {
                // Bounded, so that a receiver that does not read is felt by the sender.
                let (give, take) = sync_channel(256);
                let (shared, connection) = (&self, &connection);
                scope.spawn(move || shared.read(from, &give));
                scope.spawn(move || shared.write(to, take, limit, connection));
            }
        });
        connection.end();
    }

    fn read(&self, mut from: &TcpStream, give: &SyncSender<Late>) {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count) = from.read(&mut piece) {
            let due = Instant::now() + self.lock().late;
            if count == 0 || give.send((due, piece[..count].to_vec())).is_err() {
                return;
            }
        }
    }

    fn write(&self, mut to: &TcpStream, take: Receiver<Late>, limit: usize, both: &Connection) {
        let mut left = limit;
        for (due, bytes) in &take {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let some = &bytes[..bytes.len().min(left)];
            if !self.wait_while_held(both) || to.write_all(some).is_err() {
                return both.end();
            }
            left -= some.len();
            if left == 0 {
                self.lock().cut_count += 1;
                return both.end();
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}
