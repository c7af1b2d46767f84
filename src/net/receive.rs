//! Receiving: PDUs and PDVs are taken apart in one fixed buffer, as far as they have come.
//!
//! The kernel's copy into that buffer is the only one: fragments are handed out in place.
//! Only the few bytes of a header that was cut by the end of the buffer are ever moved.

use super::NetError;
use super::association::{Received, STALL_BYTES_MIN, Timeouts, quick_ack};
use super::dimse::{self, COMMAND_LENGTH_MAX, CommandSet};
use super::pdu::{
    ABORT, AbortReason, Header, P_DATA_TF, PDU_HEADER_LENGTH, PDV_HEADER_LENGTH, RELEASE_RP,
    RELEASE_RQ,
};
use super::wire::Wire;
use crate::memory::{self, Share};
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Size of the receive buffer in bytes: two PDUs of the greatest length, so one read takes
/// what has queued up while a write went on. Larger ones were measured to gain nothing.
pub const BUFFER_LENGTH: usize = 256 * 1024;

/// The same until more has come at once than that: commands, most queries, associations that wait.
const SMALL_LENGTH: usize = 16 * 1024;

/// By how many bytes a P-DATA PDU may exceed the length we announced: some senders count
/// their headers differently, and since nothing waits for a whole PDU it costs nothing.
const PDU_LENGTH_SLACK: u32 = 12;

/// Longest body of a PDU other than P-DATA, in bytes; by the standard they have 4.
const SMALL_PDU_LENGTH_MAX: u32 = 1024;

/// How the bytes in the buffer are to be read; copied to come back to where a look began.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// First byte that is not used yet.
    start: usize,
    /// Bytes left of the variable field of the current P-DATA PDU.
    pdu_left: u32,
    /// Bytes left of the fragment of the current PDV.
    pdv_left: u32,
    context_id: u8,
    is_command: bool,
    is_last: bool,
}

/// How long to wait for bytes.
#[derive(Clone, Copy)]
enum Wait<'a> {
    /// Within a message.
    Stall(&'a Timeouts),
    /// Not at all; the answer is [`Cut::NotYet`], and no byte is given up.
    Never,
}

/// Why there is no more to be read at the moment.
enum Cut {
    /// `Wait::Never` only.
    NotYet,
    Failed(NetError),
}

impl From<NetError> for Cut {
    fn from(error: NetError) -> Cut {
        Cut::Failed(error)
    }
}

impl Cut {
    fn error(self) -> NetError {
        match self {
            Cut::NotYet => NetError::Io(io::ErrorKind::WouldBlock.into()),
            Cut::Failed(error) => error,
        }
    }
}

/// What starts at the current position.
enum Next {
    Fragment,
    ReleaseRequest,
    ReleaseReply,
    Abort { source_code: u8, reason_code: u8 },
}

pub(super) struct Receiver {
    buffer: Box<[u8]>,
    /// Of the memory for data sets in flight; a small buffer has none.
    share: Option<Share>,
    /// The last read filled the buffer.
    was_full: bool,
    /// End of the received bytes.
    end: usize,
    state: State,
    /// The command set that is being put together.
    command: Vec<u8>,
    /// Context of the data set that is due or under way.
    data_context: Option<u8>,
    /// In the middle of a command set.
    in_command: bool,
    /// Longest command set, in bytes.
    pub command_max: usize,
    /// Longest P-DATA variable field that the peer was told it may send, in bytes.
    announced: u32,
    /// Time spent waiting within messages, and bytes that came meanwhile; the least progress
    /// is checked with them. Our own slowness between two reads does not count.
    waited: Duration,
    waited_bytes: u64,
}

impl Receiver {
    /// `announced` is the Maximum Length Received that we sent.
    pub fn new(announced: u32) -> Receiver {
        Receiver {
            buffer: vec![0; SMALL_LENGTH].into_boxed_slice(),
            share: None,
            was_full: false,
            end: 0,
            state: State::default(),
            command: Vec::new(),
            data_context: None,
            in_command: false,
            command_max: COMMAND_LENGTH_MAX,
            announced,
            waited: Duration::ZERO,
            waited_bytes: 0,
        }
    }

    /// True when a message has begun and has not ended.
    pub fn in_message(&self) -> bool {
        self.in_command || self.data_context.is_some()
    }

    /// True when no received byte is left.
    pub fn is_empty(&self) -> bool {
        self.state.start == self.end
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// A large buffer, where there is memory for it.
    fn grow(&mut self) {
        if self.share.is_none()
            && let Some(share) = memory::take_spare(BUFFER_LENGTH)
        {
            let mut larger = vec![0; BUFFER_LENGTH].into_boxed_slice();
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
            self.share = Some(share);
        }
    }

    /// Gives a large buffer back. Nothing is in it.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.share.take().is_some() {
            self.buffer = vec![0; SMALL_LENGTH].into_boxed_slice();
            (self.state.start, self.end, self.was_full) = (0, 0, false);
        }
    }

    /// Waits for the first byte of a message.
    pub fn wait(&mut self, stream: &Wire, patience: Duration) -> Result<(), NetError> {
        let since = Instant::now();
        while self.is_empty() {
            if !self.read_some(stream)? && since.elapsed() >= patience {
                return Err(NetError::Timeout {
                    during: "waiting for a message",
                    after: patience,
                });
            }
        }
        Ok(())
    }

    /// The next command set, or the end of the association.
    pub fn command(&mut self, stream: &Wire, timeouts: &Timeouts) -> Result<Received, NetError> {
        self.waited = Duration::ZERO;
        self.waited_bytes = 0;
        self.command_as(stream, Wait::Stall(timeouts))
            .map_err(Cut::error)
    }

    fn command_as(&mut self, stream: &Wire, wait: Wait) -> Result<Received, Cut> {
        self.command.clear();
        let mut context_id = None;
        loop {
            match self.next_fragment(stream, wait)? {
                Next::Fragment => {}
                Next::ReleaseRequest if context_id.is_none() => return Ok(Received::Release),
                Next::ReleaseRequest | Next::ReleaseReply => {
                    return Err(unexpected("release in the middle of a message"));
                }
                Next::Abort { .. } if context_id.is_none() => return Ok(Received::Abort),
                Next::Abort {
                    source_code,
                    reason_code,
                } => return Err(aborted(source_code, reason_code)),
            }
            if !self.state.is_command {
                return Err(unexpected("data set without a command"));
            }
            if *context_id.get_or_insert(self.state.context_id) != self.state.context_id {
                return Err(unexpected("command set changes its presentation context"));
            }
            self.in_command = true;
            if self.command.len() + self.state.pdv_left as usize > self.command_max {
                let most = self.command_max;
                return Err(Cut::Failed(NetError::CommandTooLong { most }));
            }
            while self.state.pdv_left > 0 {
                let range = self.take_fragment(stream, wait)?;
                self.command.extend_from_slice(&self.buffer[range]);
            }
            if self.state.is_last {
                break;
            }
        }
        self.in_command = false;
        let command = CommandSet::decode(&self.command).map_err(invalid)?;
        let context_id = self.state.context_id;
        if command.has_data_set() {
            self.data_context = Some(context_id);
        }
        Ok(Received::Command {
            context_id,
            command,
        })
    }

    /// Where in the buffer the next piece of the data set is; `None` at its end.
    pub fn data_range(
        &mut self,
        stream: &Wire,
        timeouts: &Timeouts,
    ) -> Result<Option<Range<usize>>, NetError> {
        let wait = Wait::Stall(timeouts);
        let Some(context_id) = self.data_context else {
            return Ok(None);
        };
        while self.state.pdv_left == 0 {
            // The state still describes the PDV before: the end of the data set, if it was
            // the last of a data set and not that of the command.
            if !self.state.is_command && self.state.is_last {
                self.data_context = None;
                return Ok(None);
            }
            match self.next_fragment(stream, wait).map_err(Cut::error)? {
                Next::Fragment => {}
                Next::Abort {
                    source_code,
                    reason_code,
                } => return Err(aborted(source_code, reason_code).error()),
                Next::ReleaseRequest | Next::ReleaseReply => {
                    return Err(unexpected("release in the middle of a message").error());
                }
            }
            if self.state.is_command {
                return Err(unexpected("command where a data set was due").error());
            }
            if self.state.context_id != context_id {
                return Err(unexpected("data set on another context than its command").error());
            }
        }
        let range = self.take_fragment(stream, wait).map_err(Cut::error)?;
        Ok(Some(range))
    }

    /// Reads away what is left of a data set.
    pub fn skip_data_set(&mut self, stream: &Wire, timeouts: &Timeouts) -> Result<(), NetError> {
        while self.data_range(stream, timeouts)?.is_some() {}
        Ok(())
    }

    /// Whether a C-CANCEL-RQ for `message_id` or a release request has come. Does not wait;
    /// anything else, and a message that is not complete yet, stays as it is.
    pub fn cancel(&mut self, stream: &Wire, message_id: u16) -> Result<bool, NetError> {
        loop {
            self.compact();
            let before = self.state;
            let found = self.command_as(stream, Wait::Never);
            let rewind = |receiver: &mut Receiver| {
                receiver.state = before;
                receiver.in_command = false;
                receiver.data_context = None;
            };
            match found {
                Ok(Received::Command { command, .. })
                    if command.command_field() == Some(dimse::C_CANCEL_RQ) =>
                {
                    // One for an earlier request came too late: it is over and forgotten.
                    if command.responded_id() == Some(message_id) {
                        return Ok(true);
                    }
                }
                Ok(Received::Command { .. }) | Err(Cut::NotYet) => {
                    rewind(self);
                    return Ok(false);
                }
                Ok(Received::Release) => {
                    rewind(self);
                    return Ok(true);
                }
                Ok(Received::Abort) => return Err(NetError::Closed),
                Err(Cut::Failed(error)) => return Err(error),
            }
        }
    }

    /// While we wait for the answer to our release: the type of a release PDU that came, or
    /// `None` after something else, which is read away.
    pub fn release_step(
        &mut self,
        stream: &Wire,
        timeouts: &Timeouts,
    ) -> Result<Option<u8>, NetError> {
        let wait = Wait::Stall(timeouts);
        match self.next_fragment(stream, wait).map_err(Cut::error)? {
            Next::ReleaseReply => Ok(Some(RELEASE_RP)),
            Next::ReleaseRequest => Ok(Some(RELEASE_RQ)),
            Next::Abort {
                source_code,
                reason_code,
            } => Err(aborted(source_code, reason_code).error()),
            Next::Fragment => {
                while self.state.pdv_left > 0 {
                    self.take_fragment(stream, wait).map_err(Cut::error)?;
                }
                Ok(None)
            }
        }
    }

    /// Takes what has come of the current fragment, at least one byte. Precondition: some of
    /// the fragment is left.
    fn take_fragment(&mut self, stream: &Wire, wait: Wait) -> Result<Range<usize>, Cut> {
        self.need(stream, 1, wait)?;
        let length = (self.end - self.state.start).min(self.state.pdv_left as usize);
        let start = self.state.start;
        self.state.start += length;
        self.state.pdv_left -= length as u32;
        self.state.pdu_left -= length as u32;
        Ok(start..start + length)
    }

    /// Goes to the next PDV, or says which other PDU came.
    fn next_fragment(&mut self, stream: &Wire, wait: Wait) -> Result<Next, Cut> {
        loop {
            if self.state.pdu_left > 0 {
                self.pdv_header(stream, wait)?;
                return Ok(Next::Fragment);
            }
            self.need(stream, PDU_HEADER_LENGTH, wait)?;
            let header = Header::parse(self.array());
            match header.pdu_type {
                P_DATA_TF => {
                    if header.length > self.announced.saturating_add(PDU_LENGTH_SLACK) {
                        return Err(invalid("P-DATA PDU longer than the announced maximum"));
                    }
                    if header.length < PDV_HEADER_LENGTH as u32 {
                        return Err(invalid("P-DATA PDU without a presentation data value"));
                    }
                    self.state.start += PDU_HEADER_LENGTH;
                    self.state.pdu_left = header.length;
                }
                RELEASE_RQ | RELEASE_RP | ABORT => {
                    if header.length > SMALL_PDU_LENGTH_MAX {
                        return Err(invalid("release or abort PDU of an impossible length"));
                    }
                    let length = PDU_HEADER_LENGTH + header.length as usize;
                    self.need(stream, length, wait)?;
                    let body = &self.buffer[self.state.start..self.state.start + length];
                    let (source_code, reason_code) = match body {
                        [_, _, _, _, _, _, _, _, source, reason, ..] => (*source, *reason),
                        _ => (0, 0),
                    };
                    self.state.start += length;
                    return Ok(match header.pdu_type {
                        RELEASE_RQ => Next::ReleaseRequest,
                        RELEASE_RP => Next::ReleaseReply,
                        _ => Next::Abort {
                            source_code,
                            reason_code,
                        },
                    });
                }
                other => {
                    return Err(Cut::Failed(NetError::protocol(
                        "PDU of an unknown type, or A-ASSOCIATE on an association",
                        AbortReason::misplaced(other),
                    )));
                }
            }
        }
    }

    fn pdv_header(&mut self, stream: &Wire, wait: Wait) -> Result<(), Cut> {
        if self.state.pdu_left < PDV_HEADER_LENGTH as u32 {
            return Err(invalid(
                "PDU ends within the header of a presentation data value",
            ));
        }
        self.need(stream, PDV_HEADER_LENGTH, wait)?;
        let &[a, b, c, d, context_id, control] = self.array();
        let length = u32::from_be_bytes([a, b, c, d]);
        // The length counts context id and control, but not itself.
        if length < 2 || length > self.state.pdu_left - 4 {
            return Err(invalid("presentation data value exceeds its PDU"));
        }
        self.state.start += PDV_HEADER_LENGTH;
        self.state.pdu_left -= PDV_HEADER_LENGTH as u32;
        self.state.pdv_left = length - 2;
        self.state.context_id = context_id;
        self.state.is_command = control & 1 != 0;
        self.state.is_last = control & 2 != 0;
        Ok(())
    }

    /// The six bytes at the current position, which [`Receiver::need`] has provided.
    fn array(&self) -> &[u8; 6] {
        const NOTHING: &[u8; 6] = &[0; 6];
        self.buffer[self.state.start..self.end]
            .first_chunk()
            .unwrap_or(NOTHING)
    }

    /// Makes sure that `count` bytes (of a header, or one of a fragment) are in the buffer.
    fn need(&mut self, stream: &Wire, count: usize, wait: Wait) -> Result<(), Cut> {
        if self.end - self.state.start >= count {
            return Ok(());
        }
        match wait {
            Wait::Stall(timeouts) => {
                self.compact();
                let mut silence = Duration::ZERO;
                while self.end < count {
                    let since = Instant::now();
                    let before = self.end;
                    let any = self.read_some(stream)?;
                    let waited = since.elapsed();
                    silence = if any {
                        Duration::ZERO
                    } else {
                        silence + waited
                    };
                    self.waited += waited;
                    self.waited_bytes += self.end.saturating_sub(before) as u64;
                    if self.waited_bytes >= STALL_BYTES_MIN {
                        self.waited = Duration::ZERO;
                        self.waited_bytes = 0;
                    }
                    if silence >= timeouts.stall || self.waited >= timeouts.stall * 2 {
                        return Err(stalled(timeouts.stall));
                    }
                }
                Ok(())
            }
            Wait::Never => {
                while self.end - self.state.start < count {
                    if self.end == self.buffer.len() {
                        self.grow();
                    }
                    if self.end == self.buffer.len() {
                        return Err(invalid("command set in too many fragments"));
                    }
                    self.read_without_waiting(stream)?;
                }
                Ok(())
            }
        }
    }

    /// Moves what is left to the front of the buffer: nothing, or a part of a header.
    fn compact(&mut self) {
        if self.state.start > 0 {
            self.buffer.copy_within(self.state.start..self.end, 0);
            self.end -= self.state.start;
            self.state.start = 0;
        }
    }

    /// One read into the free end of the buffer. False when the socket's timeout passed.
    fn read_some(&mut self, stream: &Wire) -> Result<bool, NetError> {
        if self.is_empty() {
            self.state.start = 0;
            self.end = 0;
        }
        if self.was_full {
            self.grow();
        }
        let room = self.buffer.len() - self.end;
        match stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(NetError::Closed),
            Ok(count) => {
                self.end += count;
                self.was_full = count == room;
                // A full buffer means that more is queued: the next read acknowledges it.
                if count < room {
                    quick_ack(stream.socket());
                }
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
                io::ErrorKind::Interrupted => Ok(true),
                _ => Err(NetError::from_io(error)),
            },
        }
    }

    fn read_without_waiting(&mut self, stream: &Wire) -> Result<(), Cut> {
        match stream.read_at_once(&mut self.buffer[self.end..]) {
            Ok(0) => Err(Cut::Failed(NetError::Closed)),
            Ok(count) => {
                self.end += count;
                quick_ack(stream.socket());
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Err(Cut::NotYet),
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(Cut::Failed(NetError::from_io(error))),
            },
        }
    }
}

fn unexpected(what: &'static str) -> Cut {
    Cut::Failed(NetError::protocol(what, AbortReason::UnexpectedParameter))
}

fn invalid(what: &'static str) -> Cut {
    Cut::Failed(NetError::protocol(what, AbortReason::InvalidParameter))
}

fn aborted(source_code: u8, reason_code: u8) -> Cut {
    Cut::Failed(NetError::Aborted {
        source_code,
        reason_code,
    })
}

fn stalled(after: Duration) -> Cut {
    Cut::Failed(NetError::Timeout {
        during: "in the middle of a message",
        after,
    })
}

#[cfg(test)]
mod tests {
    use super::super::loopback::{half, p_data, read_pdu};
    use super::super::{Association, dimse::C_STORE_RQ, pdu};
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::net::Shutdown;

    /// A C-STORE message in awkward pieces: split command, empty PDVs, several PDVs in a PDU.
    fn message() -> (Vec<u8>, Vec<u8>) {
        let mut command = CommandSet::new(C_STORE_RQ);
        command
            .set_message_id(1)
            .set_affected_sop_instance_uid("1.2.3")
            .set_data_set_type(dimse::HAS_DATA_SET);
        let command = command.encode();
        let data: Vec<u8> = (0..=255).collect();
        let mut raw = p_data(&[(5, 1, &command[..11]), (5, 1, &[])]);
        raw.extend(p_data(&[(5, 3, &command[11..]), (5, 0, &data[..1])]));
        raw.extend(p_data(&[(5, 0, &[]), (5, 0, &data[1..200])]));
        raw.extend(p_data(&[(5, 0, &data[200..]), (5, 2, &[])]));
        (raw, data)
    }

    fn receive(association: &mut Association) -> Vec<u8> {
        let Received::Command {
            context_id,
            command,
        } = association.next_command().unwrap()
        else {
            panic!("no command");
        };
        assert_eq!(context_id, 5);
        assert_eq!(command.command_field(), Some(C_STORE_RQ));
        let mut data = Vec::new();
        while let Some(fragment) = association.data_fragment().unwrap() {
            data.extend_from_slice(fragment);
        }
        data
    }

    /// Method: the same message again and again on one association, cut at every byte.
    #[test]
    fn a_message_may_be_split_at_every_byte() {
        let (raw, data) = message();
        let (mut association, mut stream) = half(0);
        let to_send = raw.clone();
        let sender = std::thread::spawn(move || {
            for cut in 0..to_send.len() {
                stream.write_all(&to_send[..cut]).unwrap();
                std::thread::sleep(Duration::from_micros(300));
                stream.write_all(&to_send[cut..]).unwrap();
            }
            for byte in &to_send {
                stream.write_all(std::slice::from_ref(byte)).unwrap();
            }
            stream
        });
        for _ in 0..=raw.len() {
            assert_eq!(receive(&mut association), data);
        }
        drop(sender.join().unwrap());
        assert!(matches!(association.next_command(), Ok(Received::Abort)));
    }

    #[test]
    fn more_messages_than_the_buffer_holds_come_through_unharmed() {
        let mut command = CommandSet::new(C_STORE_RQ);
        command.set_data_set_type(dimse::HAS_DATA_SET);
        let data: Vec<u8> = (0..300_001u32).map(|n| (n % 251) as u8).collect();
        let mut raw = p_data(&[(5, 3, &command.encode())]);
        for piece in data.chunks(33_333) {
            raw.extend(p_data(&[(5, 0, piece)]));
        }
        raw.extend(p_data(&[(5, 2, &[])]));
        let (mut association, mut stream) = half(0);
        let sender = std::thread::spawn(move || {
            for _ in 0..20 {
                stream.write_all(&raw).unwrap();
            }
            stream.write_all(&pdu::release(RELEASE_RQ)).unwrap();
            read_pdu(&mut stream).0
        });
        for _ in 0..19 {
            assert!(receive(&mut association) == data);
        }
        // The last one is not read by its user, and skipped.
        assert!(matches!(
            association.next_command(),
            Ok(Received::Command { .. })
        ));
        assert!(matches!(association.next_command(), Ok(Received::Release)));
        association.release_reply();
        assert_eq!(sender.join().unwrap(), RELEASE_RP);
    }

    /// What is wrong, and the reason in the abort that the peer gets.
    #[test]
    fn violations_are_answered_with_an_abort() {
        let mut announcing = CommandSet::new(C_STORE_RQ);
        announcing.set_data_set_type(dimse::HAS_DATA_SET);
        let announcing = p_data(&[(5, 3, &announcing.encode())]);
        let command = CommandSet::new(C_STORE_RQ).encode();
        let mut too_long = p_data(&[(5, 1, &[])]);
        too_long[3] = 3;
        let mut pdv_too_long = p_data(&[(5, 1, &command)]);
        pdv_too_long[8] = 1;
        let big = vec![0; 40_000];
        let mut big_command = p_data(&[(5, 1, &big)]);
        big_command.extend(p_data(&[(5, 1, &big)]));
        let cases: &[(&str, Vec<u8>, u8)] = &[
            ("unknown PDU", vec![9, 0, 0, 0, 0, 0], 1),
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1),
            ("second request", vec![1, 0, 0, 0, 0, 0], 2),
            ("PDU too long", too_long, 6),
            ("PDU without PDV", vec![4, 0, 0, 0, 0, 0], 6),
            ("PDV too long", pdv_too_long, 6),
            (
                "PDV of length 1",
                vec![4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 5, 3],
                6,
            ),
            ("data first", p_data(&[(5, 2, b"data")]), 5),
            ("unknown context", p_data(&[(99, 3, &command)]), 6),
            ("endless command", big_command, 6),
            ("no command set", p_data(&[(5, 3, b"nonsense")]), 6),
            (
                "data on another context",
                [&announcing[..], &p_data(&[(3, 2, &[])])].concat(),
                5,
            ),
            (
                "command instead of data",
                [&announcing[..], &p_data(&[(5, 3, &command)])].concat(),
                5,
            ),
        ];
        for (name, bytes, reason) in cases {
            let (mut association, mut stream) = half(0);
            stream.write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let error = loop {
                match association.next_command() {
                    Ok(Received::Command { .. }) => {}
                    Ok(other) => panic!("{name}: {other:?}"),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(
                    error,
                    NetError::Protocol { .. } | NetError::CommandTooLong { .. }
                ),
                "{name}: {error}"
            );
            let (kind, body) = read_pdu(&mut stream);
            assert_eq!((kind, body[2], body[3]), (pdu::ABORT, 2, *reason), "{name}");
        }
    }

    #[test]
    fn a_silent_and_a_stalling_peer_are_told_apart() {
        let short = Timeouts {
            idle: Duration::from_millis(300),
            stall: Duration::from_millis(100),
            ..Timeouts::default()
        };
        let (raw, _) = message();
        for (bytes, expected) in [
            (&raw[..0], "waiting for a message"),
            (&raw[..3], "in the middle of a message"),
            (&raw[..40], "in the middle of a message"),
        ] {
            let (mut association, mut stream) = half(0);
            association.set_timeouts(short).unwrap();
            stream.write_all(bytes).unwrap();
            match association.next_command() {
                Err(NetError::Timeout { during, .. }) => assert_eq!(during, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Method: a byte every 20 ms is never silent for 100 ms, yet makes no progress.
    #[test]
    fn a_trickling_peer_does_not_hold_its_thread() {
        let (mut association, mut stream) = half(0);
        association
            .set_timeouts(Timeouts {
                stall: Duration::from_millis(100),
                ..Timeouts::default()
            })
            .unwrap();
        let (raw, _) = message();
        let sender = std::thread::spawn(move || {
            for byte in &raw {
                if stream.write_all(std::slice::from_ref(byte)).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let error = association.next_command().unwrap_err();
        assert!(matches!(error, NetError::Timeout { .. }), "{error}");
        drop(association);
        sender.join().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Method: a good message with one changed byte, or plain noise; the end must come.
        #[test]
        fn garbage_ends_the_association_and_never_panics(
            at in 0usize..420, value in any::<u8>(),
            noise in proptest::collection::vec(any::<u8>(), 0..64), cancel in any::<bool>(),
        ) {
            let (mut raw, _) = message();
            let at = at % raw.len();
            raw[at] = value;
            raw.extend(noise);
            let (mut association, mut stream) = half(0);
            stream.write_all(&raw).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            loop {
                if cancel && association.pending_cancel(1).is_err() {
                    break;
                }
                match association.next_command() {
                    Ok(Received::Command { .. }) => {}
                    _ => break,
                }
            }
        }
    }
}
