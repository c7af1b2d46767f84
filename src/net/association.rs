//! One association, one thread: the state that receiving and sending share, and its end.

use super::handle::{AssociationHandle, Shared};
use super::pdu::{self, AbortReason, RELEASE_RP, RELEASE_RQ};
use super::receive::Receiver;
use super::send::Taking;
use super::tls::Facts;
use super::wire::Wire;
use super::{Certificate, CommandSet, NetError, dimse};
use crate::memory::Share;
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connection, requestor only.
    pub connect: Duration,
    /// Answer to our A-ASSOCIATE-RQ.
    pub negotiation: Duration,
    /// Between messages, acceptor: a scan in progress holds its association.
    pub idle: Duration,
    /// Silence within a message. Twice this time of waiting must carry at least
    /// [`STALL_BYTES_MIN`]; of what we send, a buffer (256 KiB).
    pub stall: Duration,
    /// First byte of the answer to our request.
    pub response: Duration,
}

/// Least progress within a message, in bytes per twice `Timeouts::stall`: a peer that sends a byte
/// now and then does not hold a thread for days.
pub const STALL_BYTES_MIN: u64 = 1024;

/// After so much silence between messages large buffers are given back, at the end of the read that waits then.
const QUIET: Duration = Duration::from_secs(5);

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            negotiation: Duration::from_secs(30),
            idle: Duration::from_secs(30 * 60),
            stall: Duration::from_secs(30),
            response: Duration::from_secs(60),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// AE titles as in the A-ASSOCIATE-RQ, trimmed; any characters when the peer is odd.
    pub calling: String,
    pub called: String,
    pub address: SocketAddr,
    /// Empty when the peer did not say.
    pub implementation_class_uid: String,
    pub implementation_version_name: String,
    /// Longest P-DATA-TF variable field that we send, in bytes: the peer's maximum, cut at
    /// [`pdu::PDU_LENGTH_MAX`], and at least 128 bytes even if the peer asks for less, since
    /// a PDU must have room for its headers and some data.
    pub pdu_length_max: u32,
    /// Whose password was right (PS3.7 D.3.3.7); acceptor only.
    pub user: Option<String>,
    /// `TLS 1.3`, say; `None` without TLS.
    pub tls: Option<&'static str>,
    /// What it showed over TLS, verified.
    pub certificate: Option<Certificate>,
}

impl Peer {
    pub(super) fn over(mut self, facts: Facts) -> Peer {
        self.tls = facts.version;
        self.certificate = facts.certificate;
        self
    }
}

/// Least PDU length that we honour, in bytes.
const PEER_PDU_LENGTH_MIN: u32 = 128;

/// What we send at most, given the Maximum Length that the peer sent.
pub(super) fn usable_pdu_length(peer_maximum: u32) -> u32 {
    match peer_maximum {
        0 => pdu::PDU_LENGTH_MAX,
        some => some.clamp(PEER_PDU_LENGTH_MIN, pdu::PDU_LENGTH_MAX),
    }
}

/// An accepted presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub id: u8,
    pub abstract_syntax: String,
    pub transfer_syntax: String,
    /// The peer may act as SCP: we may send it requests of this class. The default is so for
    /// the acceptor, and for the requestor by role selection. Some requestors of C-GET never
    /// select roles, so a C-GET SCP need not insist on it.
    pub peer_is_scp: bool,
    /// Application information of [extended negotiation](super::extended) as it was answered;
    /// empty where nothing was negotiated for the class.
    pub extended: Vec<u8>,
}

/// What [`Association::next_command`] found.
#[derive(Debug)]
pub enum Received {
    Command {
        context_id: u8,
        command: CommandSet,
    },
    /// The peer asks for release; answer with [`Association::release_reply`].
    Release,
    /// The peer aborted, or closed the connection between messages.
    Abort,
}

/// A negotiated association. Blocking; used by one thread.
///
/// Dropped without a release, it aborts.
pub struct Association {
    pub(super) stream: Wire,
    pub(super) receiver: Receiver,
    /// PDUs that wait to be written are its first `out_used` bytes. It grows to 256 KiB when
    /// that much is sent, and is not cleared, so that fragments need not be zeroed first.
    pub(super) out: Vec<u8>,
    /// Of the memory for data sets in flight; while there is none, `out` stays small.
    pub(super) out_share: Option<Share>,
    pub(super) out_used: usize,
    pub(super) taking: Taking,
    pub(super) timeouts: Timeouts,
    pub(super) trace: bool,
    /// A cancel that came while we waited for something else.
    pub(super) cancelled: Option<u16>,
    peer: Peer,
    contexts: Vec<Context>,
    requestor: bool,
    next_message_id: u16,
    shared: Arc<Shared>,
    /// Nothing more may be sent: released, aborted, or a write failed in the middle.
    over: bool,
}

impl Association {
    /// Its socket is blocking; `requestor` says who opened it; `announced` is the Maximum Length
    /// Received that the peer was told.
    pub(super) fn new(
        stream: Wire,
        peer: Peer,
        contexts: Vec<Context>,
        requestor: bool,
        announced: u32,
        timeouts: Timeouts,
    ) -> Result<Association, NetError> {
        stream.socket().set_nodelay(true)?;
        let association = Association {
            receiver: Receiver::new(announced),
            out: Vec::new(),
            out_share: None,
            out_used: 0,
            taking: Taking::default(),
            timeouts,
            trace: false,
            cancelled: None,
            peer,
            contexts,
            requestor,
            next_message_id: 0,
            shared: Arc::new(Shared::new(Arc::clone(stream.socket()))),
            stream,
            over: false,
        };
        association.apply_timeouts()?;
        Ok(association)
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    pub fn context(&self, id: u8) -> Option<&Context> {
        self.contexts.iter().find(|context| context.id == id)
    }

    /// The context for sending an instance of this class in this transfer syntax, or with any
    /// when `transfer_syntax` is `None`.
    pub fn context_for(
        &self,
        abstract_syntax: &str,
        transfer_syntax: Option<&str>,
    ) -> Option<&Context> {
        self.contexts.iter().find(|context| {
            context.abstract_syntax == abstract_syntax
                && transfer_syntax.is_none_or(|syntax| context.transfer_syntax == syntax)
        })
    }

    /// A message id for a request of ours; counts up from 1.
    pub fn next_message_id(&mut self) -> u16 {
        self.next_message_id = self.next_message_id.checked_add(1).unwrap_or(1);
        self.next_message_id
    }

    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), NetError> {
        self.timeouts = timeouts;
        self.apply_timeouts()
    }

    /// Longest command set that is taken, in bytes; never more than [`dimse::COMMAND_LENGTH_MAX`].
    pub fn set_command_bytes_max(&mut self, bytes: usize) {
        self.receiver.command_max = bytes.min(dimse::COMMAND_LENGTH_MAX);
    }

    /// The kernel's timeout is the shortest of ours; the longer ones are counted by waiting
    /// again, which costs no call per message.
    fn apply_timeouts(&self) -> Result<(), NetError> {
        let t = &self.timeouts;
        let least = Duration::from_millis(10);
        let read = t.stall.min(t.idle).min(t.response).max(least);
        let socket = self.stream.socket();
        socket.set_read_timeout(Some(read))?;
        socket.set_write_timeout(Some(t.stall.max(least)))?;
        Ok(())
    }

    /// Log every command at debug level, target `association`.
    pub fn trace(&mut self, on: bool) {
        self.trace = on;
    }

    pub fn handle(&self) -> AssociationHandle {
        AssociationHandle(Arc::clone(&self.shared))
    }

    /// The next command, or the end.
    ///
    /// Waits for its first byte: the idle time on an association that we accepted, the
    /// response time on one that we requested. What is left of the data set before is skipped.
    /// On [`NetError::Protocol`] the abort has been sent.
    pub fn next_command(&mut self) -> Result<Received, NetError> {
        let (patience, idle) = if self.requestor {
            (self.timeouts.response, false)
        } else {
            (self.timeouts.idle, true)
        };
        self.next_within(patience, idle)
    }

    /// Waits at most so long for the peer to send something, or to go away: who has something to say between its messages
    /// waits with this. Counts as idle.
    pub fn comes_within(&mut self, patience: Duration) -> Result<bool, NetError> {
        if self.over {
            return Err(NetError::Closed);
        }
        let skipped = self.receiver.skip_data_set(&self.stream, &self.timeouts);
        self.checked(skipped)?;
        if !self.receiver.is_empty() {
            return Ok(true);
        }
        let stream = &self.stream;
        let mut came = false;
        self.shared.idle_while(|| {
            came = stream.comes_within(patience)?;
            Ok(())
        })?;
        Ok(came)
    }

    /// The response to our request `message_id`, waiting at most the response time.
    ///
    /// A C-CANCEL-RQ that comes instead is remembered for [`Association::pending_cancel`].
    pub fn next_response(&mut self, message_id: u16) -> Result<(u8, CommandSet), NetError> {
        loop {
            match self.next_within(self.timeouts.response, false)? {
                Received::Command {
                    context_id,
                    command,
                } => {
                    if command.command_field() == Some(dimse::C_CANCEL_RQ) {
                        self.cancelled = command.responded_id();
                    } else if command.is_response() && command.responded_id() == Some(message_id) {
                        return Ok((context_id, command));
                    } else {
                        return Err(self.violated(
                            "another message where a response was due",
                            AbortReason::NotSpecified,
                        ));
                    }
                }
                Received::Release => {
                    self.release_reply();
                    return Err(NetError::Closed);
                }
                Received::Abort => return Err(NetError::Closed),
            }
        }
    }

    fn next_within(&mut self, patience: Duration, idle: bool) -> Result<Received, NetError> {
        if self.over {
            return Err(NetError::Closed);
        }
        let received = self
            .receiver
            .skip_data_set(&self.stream, &self.timeouts)
            .and_then(|()| self.wait_for_message(patience, idle))
            .and_then(|()| self.receiver.command(&self.stream, &self.timeouts));
        let received = match received {
            Err(NetError::Closed) if !self.receiver.in_message() => Ok(Received::Abort),
            other => other,
        };
        if let Ok(Received::Command {
            context_id,
            command,
        }) = &received
            && self.context(*context_id).is_none()
        {
            if self.trace {
                tracing::debug!(target: "association", context_id, %command, "not negotiated");
            }
            return Err(self.violated(
                "message on a presentation context that was not accepted",
                AbortReason::InvalidParameter,
            ));
        }
        if self.trace {
            match &received {
                Ok(Received::Command {
                    context_id,
                    command,
                }) => {
                    tracing::debug!(target: "association", context_id, %command, "received");
                }
                Ok(end) => tracing::debug!(target: "association", ?end, "received"),
                Err(error) => tracing::debug!(target: "association", %error, "receiving failed"),
            }
        }
        if matches!(received, Ok(Received::Abort)) {
            self.over = true;
        }
        self.checked(received)
    }

    /// Waits for the first byte of a message, during which the association may count as idle.
    fn wait_for_message(&mut self, patience: Duration, idle: bool) -> Result<(), NetError> {
        if !self.receiver.is_empty() {
            return self.shared.still_wanted();
        }
        let (receiver, stream) = (&mut self.receiver, &self.stream);
        let (out, out_share) = (&mut self.out, &mut self.out_share);
        let mut wait = || {
            let quiet = QUIET.min(patience);
            match receiver.wait(stream, quiet) {
                Err(NetError::Timeout { during, .. }) => {
                    receiver.shrink();
                    // Nothing in it waits to be written between two messages.
                    *out = Vec::new();
                    *out_share = None;
                    let rest = receiver.wait(stream, patience - quiet);
                    rest.map_err(|error| match error {
                        NetError::Timeout { .. } => NetError::Timeout {
                            during,
                            after: patience,
                        },
                        other => other,
                    })
                }
                other => other,
            }
        };
        let result = if idle {
            self.shared.idle_while(wait)
        } else {
            wait()
        };
        self.shared.still_wanted()?;
        result
    }

    /// The next piece of the data set of the command just received, from the receive buffer.
    ///
    /// Never waits for a whole PDV. `None` at its end, and when no data set was announced.
    pub fn data_fragment(&mut self) -> Result<Option<&[u8]>, NetError> {
        if self.over {
            return Err(NetError::Closed);
        }
        match self.receiver.data_range(&self.stream, &self.timeouts) {
            Ok(range) => Ok(range.map(|range| self.receiver.bytes(range))),
            Err(error) => self.checked(Err(error)),
        }
    }

    /// Looks, without waiting, whether the peer wants request `message_id` stopped: by
    /// C-CANCEL-RQ, or by asking for release in the middle of it.
    ///
    /// An abort or a closed connection is an error. Other messages stay for
    /// [`Association::next_command`].
    pub fn pending_cancel(&mut self, message_id: u16) -> Result<bool, NetError> {
        if self.over {
            return Err(NetError::Closed);
        }
        if self.cancelled == Some(message_id) {
            return Ok(true);
        }
        // A response is never sent while its request is still coming in.
        if self.receiver.in_message() {
            return Ok(false);
        }
        let found = self.receiver.cancel(&self.stream, message_id);
        if matches!(found, Ok(true)) {
            self.cancelled = Some(message_id);
        }
        self.checked(found)
    }

    /// Sends the abort that a protocol violation asks for; marks the end after other errors.
    pub(super) fn checked<T>(&mut self, result: Result<T, NetError>) -> Result<T, NetError> {
        match &result {
            Ok(_) | Err(NetError::Source(_) | NetError::NoContext(_)) => {}
            Err(NetError::Protocol { reason, .. }) => self.abort_with(2, *reason),
            Err(NetError::CommandTooLong { .. }) => {
                self.abort_with(2, AbortReason::InvalidParameter);
            }
            Err(NetError::Closed | NetError::Aborted { .. }) => self.over = true,
            Err(_) => self.abort_with(2, AbortReason::NotSpecified),
        }
        result
    }

    /// Aborts for a violation that the caller of the receiver found.
    pub fn violated(&mut self, what: &'static str, reason: AbortReason) -> NetError {
        self.abort_with(2, reason);
        NetError::protocol(what, reason)
    }

    /// Answers the peer's request for release; nothing can be sent afterwards.
    pub fn release_reply(&mut self) {
        if !self.over {
            self.write_at_once(&pdu::release(RELEASE_RP));
            self.over = true;
        }
    }

    /// Asks for release and waits for the answer, at most the response time.
    pub fn release(&mut self) -> Result<(), NetError> {
        if self.over {
            return Err(NetError::Closed);
        }
        self.out_used = 0;
        self.put(&pdu::release(RELEASE_RQ));
        self.flush()?;
        let deadline = Instant::now() + self.timeouts.response;
        let result = loop {
            let step = self
                .receiver
                .skip_data_set(&self.stream, &self.timeouts)
                .and_then(|()| self.receiver.release_step(&self.stream, &self.timeouts));
            match step {
                Ok(Some(RELEASE_RP)) => break Ok(()),
                // Both asked at once: each answers the other (PS3.8 9.2, release collision).
                Ok(Some(RELEASE_RQ)) => self.write_at_once(&pdu::release(RELEASE_RP)),
                Ok(_) => {}
                // The peer closed instead of answering; nothing is lost by that.
                Err(NetError::Closed) => break Ok(()),
                Err(error) => break Err(error),
            }
            if Instant::now() > deadline {
                break Err(NetError::Timeout {
                    during: "waiting for the release",
                    after: self.timeouts.response,
                });
            }
        };
        let result = self.checked(result);
        self.over = true;
        result
    }

    /// Ends the association at once, as the service user. Does not block.
    pub fn abort(&mut self) {
        self.abort_with(0, AbortReason::NotSpecified);
    }

    fn abort_with(&mut self, source: u8, reason: AbortReason) {
        if !self.over {
            self.write_at_once(&pdu::abort(source, reason));
            self.over = true;
            self.stream.say_the_end();
            linger(self.stream.socket());
        }
    }

    /// The association cannot be used for sending any more.
    pub(super) fn lose(&mut self) {
        self.over = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// For the last words of an association: tried once, without blocking.
    fn write_at_once(&self, bytes: &[u8]) {
        self.stream.write_at_once(bytes);
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        self.abort();
        self.stream.say_the_end();
    }
}

/// Closes our half and reads away what has already come: unread bytes at the time of closing
/// would make the kernel send a reset, which can overtake the abort.
fn linger(stream: &TcpStream) {
    use rustix::net::{RecvFlags, recv};
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = [0u8; 8192];
    for _ in 0..64 {
        match recv(stream, &mut rest[..], RecvFlags::DONTWAIT) {
            Ok((_, n)) if n > 0 => {}
            _ => break,
        }
    }
}

/// Not sticky: the kernel falls back to delaying acknowledgements, and a sender with Nagle's
/// algorithm on then waits 40 ms for each. So it is set again after every read.
pub(super) fn quick_ack(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_quickack(true);
}

#[cfg(test)]
mod tests {
    use super::super::dimse::C_ECHO_RQ;
    use super::super::loopback::{half, pair, read_pdu};
    use super::*;
    use std::io::Write;

    #[test]
    fn a_release_is_answered_and_ends_both_sides() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || {
            assert!(matches!(acceptor.next_command(), Ok(Received::Release)));
            acceptor.release_reply();
            acceptor.next_command().map(drop)
        });
        requestor.release().unwrap();
        assert!(matches!(server.join().unwrap(), Err(NetError::Closed)));
        assert!(matches!(requestor.release(), Err(NetError::Closed)));
    }

    #[test]
    fn both_sides_may_ask_for_release_at_once() {
        let (mut one, mut other) = pair();
        let thread = std::thread::spawn(move || other.release().map(drop));
        one.release().unwrap();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn a_dropped_association_is_an_abort_to_the_peer() {
        let (association, mut stream) = half(0);
        stream.write_all(&[4, 0, 0, 0]).unwrap();
        drop(association);
        assert_eq!(read_pdu(&mut stream), (pdu::ABORT, vec![0, 0, 0, 0]));
    }

    #[test]
    fn only_an_association_between_messages_is_idle_and_can_be_ended_gently() {
        let (mut acceptor, mut requestor) = pair();
        let handle = acceptor.handle();
        assert!(!handle.is_idle() && !handle.shutdown_if_idle());
        let (came, first) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            acceptor.next_command().unwrap();
            came.send(()).unwrap();
            acceptor.next_command().map(drop)
        });
        requestor
            .send(1, &CommandSet::new(C_ECHO_RQ), None)
            .unwrap();
        // Before its first message has come the association is idle too.
        first.recv_timeout(Duration::from_secs(60)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !handle.shutdown_if_idle() {
            assert!(Instant::now() < deadline, "never idle");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(matches!(server.join().unwrap(), Err(NetError::Stopped)));
        assert!(matches!(requestor.next_command(), Ok(Received::Abort)));
    }

    #[test]
    fn what_comes_between_messages_can_be_waited_for() {
        let (mut acceptor, mut requestor) = pair();
        let moment = Duration::from_millis(1);
        assert!(!acceptor.comes_within(moment).unwrap());
        requestor
            .send(1, &CommandSet::new(C_ECHO_RQ), None)
            .unwrap();
        assert!(acceptor.comes_within(Duration::from_secs(60)).unwrap());
        assert!(matches!(
            acceptor.next_command(),
            Ok(Received::Command { .. })
        ));
        assert!(!acceptor.comes_within(moment).unwrap());
        drop(requestor);
        assert!(acceptor.comes_within(Duration::from_secs(60)).unwrap());
        assert!(matches!(acceptor.next_command(), Ok(Received::Abort)));
    }

    #[test]
    fn an_association_at_work_ends_after_its_message_or_at_once() {
        let (mut acceptor, mut requestor) = pair();
        let handle = acceptor.handle();
        for _ in 0..2 {
            requestor
                .send(1, &CommandSet::new(C_ECHO_RQ), None)
                .unwrap();
        }
        acceptor.next_command().unwrap();
        handle.shutdown_when_idle();
        let request = CommandSet::new(C_ECHO_RQ);
        let response = CommandSet::response_to(&request, 0);
        acceptor.send(1, &response, None).unwrap();
        assert!(matches!(acceptor.next_command(), Err(NetError::Stopped)));

        let (mut acceptor, _requestor) = pair();
        let handle = acceptor.handle();
        let server = std::thread::spawn(move || acceptor.next_command().map(drop));
        handle.shutdown_now();
        assert!(matches!(server.join().unwrap(), Err(NetError::Stopped)));
    }
}
