//! Ending an association from another thread.

use super::NetError;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

pub(super) struct Shared {
    stream: Arc<TcpStream>,
    /// True while waiting between messages; whoever swaps it to false decides what follows.
    idle: AtomicBool,
    leaving: AtomicBool,
}

impl Shared {
    pub fn new(stream: Arc<TcpStream>) -> Shared {
        Shared {
            stream,
            idle: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// Runs `wait`, during which the association counts as idle and may be ended.
    pub fn idle_while(&self, wait: impl FnOnce() -> Result<(), NetError>) -> Result<(), NetError> {
        self.idle.store(true, SeqCst);
        let result = self.still_wanted().and_then(|()| wait());
        if !self.idle.swap(false, SeqCst) {
            return Err(NetError::Stopped);
        }
        result
    }

    /// An error when the association is to end.
    pub fn still_wanted(&self) -> Result<(), NetError> {
        if self.leaving.load(SeqCst) {
            Err(NetError::Stopped)
        } else {
            Ok(())
        }
    }
}

/// Lets the server end an association that another thread works on.
#[derive(Clone)]
pub struct AssociationHandle(pub(super) Arc<Shared>);

impl AssociationHandle {
    /// True while it waits between messages.
    pub fn is_idle(&self) -> bool {
        self.0.idle.load(SeqCst)
    }

    /// Ends it if it waits between messages; says whether it did. Its thread gets
    /// [`NetError::Stopped`] and has sent the abort.
    pub fn shutdown_if_idle(&self) -> bool {
        if !self.0.idle.swap(false, SeqCst) {
            return false;
        }
        self.0.leaving.store(true, SeqCst);
        // Wakes the reader; our own half stays open for the abort.
        let _ = self.0.stream.shutdown(Shutdown::Read);
        true
    }

    /// Ends it now if idle, otherwise after the message that it works on.
    pub fn shutdown_when_idle(&self) {
        self.0.leaving.store(true, SeqCst);
        self.shutdown_if_idle();
    }

    /// Ends it now, whatever it does.
    pub fn shutdown_now(&self) {
        self.0.leaving.store(true, SeqCst);
        let _ = self.0.stream.shutdown(Shutdown::Both);
    }
}
