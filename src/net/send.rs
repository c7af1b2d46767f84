//! Sending: command and data set as P-DATA PDUs, put together in one buffer, few writes.

use super::NetError;
use super::association::Association;
use super::dimse::{CommandSet, HAS_DATA_SET, NO_DATA_SET};
use super::pdu::{P_DATA_TF, PDU_HEADER_LENGTH, PDV_HEADER_LENGTH};
use crate::memory;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

/// Bytes that are collected before a write; one PDU more may follow.
const OUT_LENGTH: usize = 256 * 1024;

/// The same where no memory is left for more.
const OUT_SMALL: usize = 32 * 1024;

/// A data set of so many bytes is written from where it is, the headers between its fragments; one of less is put
/// behind its command.
const IN_PLACE_LENGTH: usize = 32 * 1024;

/// Of one write: a system takes 1,024 pieces at once (IOV_MAX), two for each.
const FRAGMENTS_MAX: usize = 500;

/// Both headers in front of a fragment, in bytes; each of our PDUs has one PDV.
const HEADERS_LENGTH: usize = PDU_HEADER_LENGTH + PDV_HEADER_LENGTH;

/// A write that takes no longer was not waited for.
const AT_ONCE: Duration = Duration::from_millis(10);

/// How readily the peer takes what we send. Thousands of short answers must not be taken one by one at leisure: that
/// would hold a thread, and what it reads from, for days.
#[derive(Debug, Default)]
pub(super) struct Taking {
    waited: Duration,
    /// Since `waited` was zero.
    bytes: usize,
}

impl Taking {
    /// False when twice the stall time of waiting has carried less than a buffer.
    fn goes_on(&mut self, bytes: usize, took: Duration, stall: Duration) -> bool {
        self.bytes += bytes;
        if took > AT_ONCE {
            // More than that is the machine asleep, not the peer.
            self.waited += took.min(stall);
        }
        if self.bytes >= OUT_LENGTH {
            *self = Taking::default();
        }
        self.waited <= stall * 2
    }
}

impl Association {
    /// Sends a message in one write (or a few when `data` is long, which is not copied then).
    ///
    /// (0000,0800) is set here, by whether there is a data set.
    pub fn send(
        &mut self,
        context_id: u8,
        command: &CommandSet,
        data: Option<&[u8]>,
    ) -> Result<(), NetError> {
        self.begin(context_id, command, data.is_some())?;
        match data {
            Some(data) if data.len() >= IN_PLACE_LENGTH => self.write_in_place(context_id, data),
            Some(mut data) => {
                let len = data.len() as u64;
                self.put_data(context_id, len, &mut |into| io::Read::read(&mut data, into))?;
                self.flush()
            }
            None => self.flush(),
        }
    }

    /// Sends a message whose data set of `len` bytes comes from `read`, which fills a part of
    /// the buffer that it gets and says how much; the bytes are not copied again.
    ///
    /// The last fragment is only marked as such when all `len` bytes have come. An error of
    /// `read`, or its end before `len`, is [`NetError::Source`]: the message is then
    /// incomplete, and all that the caller may do is [`Association::abort`].
    pub fn send_stream(
        &mut self,
        context_id: u8,
        command: &CommandSet,
        len: u64,
        read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Result<(), NetError> {
        self.begin(context_id, command, true)?;
        self.put_data(context_id, len, read)?;
        self.flush()
    }

    /// Puts the command set into the buffer.
    fn begin(
        &mut self,
        context_id: u8,
        command: &CommandSet,
        has_data: bool,
    ) -> Result<(), NetError> {
        if self.is_over() {
            return Err(NetError::Closed);
        }
        if self.context(context_id).is_none() {
            return Err(NetError::NoContext(context_id));
        }
        if self.trace {
            tracing::debug!(target: "association", context_id, %command, has_data, "sending");
        }
        let data_set_type = if has_data { HAS_DATA_SET } else { NO_DATA_SET };
        let encoded = if command.data_set_type() == Some(data_set_type) {
            command.encode()
        } else {
            let mut command = command.clone();
            command.set_data_set_type(data_set_type);
            command.encode()
        };
        self.out_used = 0;
        let length = self.fragment_length();
        let mut rest = encoded.as_slice();
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(length));
            let control = 1 | if after.is_empty() { 2 } else { 0 };
            let headers = headers(context_id, control, fragment.len());
            self.put(&headers);
            self.put(fragment);
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Longest fragment for this peer, in bytes; even, as PS3.8 E.1 asks for.
    fn fragment_length(&self) -> usize {
        (self.peer().pdu_length_max as usize - PDV_HEADER_LENGTH) & !1
    }

    /// How much is collected before a write, for a data set of `len` bytes.
    fn out_length(&mut self, len: u64) -> usize {
        if self.out_share.is_none() && len > OUT_SMALL as u64 {
            self.out_share = memory::take_spare(OUT_LENGTH);
            if self.out_share.is_some() {
                self.out
                    .reserve_exact(OUT_LENGTH.saturating_sub(self.out.len()));
            }
        }
        match self.out_share {
            Some(_) => OUT_LENGTH,
            None => OUT_SMALL,
        }
    }

    fn put_data(
        &mut self,
        context_id: u8,
        len: u64,
        read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Result<(), NetError> {
        let out_length = self.out_length(len);
        let length = self.fragment_length().min(out_length);
        let mut left = len;
        loop {
            let fragment = left.min(length as u64) as usize;
            if self.out_used > 0 && self.out_used + HEADERS_LENGTH + fragment > out_length {
                self.flush()?;
            }
            left -= fragment as u64;
            let control = if left == 0 { 2 } else { 0 };
            self.put(&headers(context_id, control, fragment));
            if let Err(error) = fill(self.room(fragment), read) {
                self.out_used = 0;
                return Err(NetError::Source(error));
            }
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Writes what waits, and behind it a data set from where it is.
    fn write_in_place(&mut self, context_id: u8, data: &[u8]) -> Result<(), NetError> {
        let length = self.fragment_length();
        let at_once = (OUT_LENGTH / length).clamp(1, FRAGMENTS_MAX);
        for batch in data.chunks(length * at_once) {
            let is_last = std::ptr::eq(batch.as_ptr_range().end, data.as_ptr_range().end);
            let fragments = batch.chunks(length);
            let count = fragments.len();
            let headers: Vec<_> = fragments
                .clone()
                .zip(1..)
                .map(|(fragment, number)| {
                    let control = if is_last && number == count { 2 } else { 0 };
                    headers(context_id, control, fragment.len())
                })
                .collect();
            let mut slices = Vec::with_capacity(1 + 2 * count);
            slices.push(IoSlice::new(&self.out[..self.out_used]));
            for (headers, fragment) in headers.iter().zip(fragments) {
                slices.extend([IoSlice::new(headers), IoSlice::new(fragment)]);
            }
            let begun = Instant::now();
            let result = self.stream.write_all(&mut slices, self.timeouts.stall);
            let bytes = self.out_used + headers.len() * HEADERS_LENGTH + batch.len();
            self.written(bytes, begun.elapsed(), result)?;
        }
        Ok(())
    }

    /// Puts bytes behind those that wait to be written.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// The next `length` bytes to be written, for the caller to fill.
    fn room(&mut self, length: usize) -> &mut [u8] {
        let start = self.out_used;
        self.out_used += length;
        if self.out.len() < self.out_used {
            self.out.resize(self.out_used, 0);
        }
        &mut self.out[start..self.out_used]
    }

    /// Writes what has been collected.
    pub(super) fn flush(&mut self) -> Result<(), NetError> {
        let begun = Instant::now();
        let mut waiting = [IoSlice::new(&self.out[..self.out_used])];
        let result = self.stream.write_all(&mut waiting, self.timeouts.stall);
        self.written(self.out_used, begun.elapsed(), result)
    }

    /// What follows from how a write ended.
    fn written(
        &mut self,
        bytes: usize,
        took: Duration,
        mut result: io::Result<()>,
    ) -> Result<(), NetError> {
        if result.is_ok() && !self.taking.goes_on(bytes, took, self.timeouts.stall) {
            result = Err(io::ErrorKind::TimedOut.into());
        }
        self.out_used = 0;
        let result = result.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NetError::Timeout {
                during: "sending",
                after: self.timeouts.stall,
            },
            _ => NetError::from_io(error),
        });
        // A part of a PDU may have gone out: not even an abort would be understood any more.
        if result.is_err() {
            self.lose();
        }
        result
    }
}

/// Headers of a PDU with one PDV. `control` has bit 0 for a command, bit 1 for the last.
fn headers(context_id: u8, control: u8, fragment: usize) -> [u8; HEADERS_LENGTH] {
    // A fragment is never longer than PDU_LENGTH_MAX.
    let pdv = fragment as u32 + 2;
    let [a, b, c, d] = (pdv + 4).to_be_bytes();
    let [e, f, g, h] = pdv.to_be_bytes();
    [P_DATA_TF, 0, a, b, c, d, e, f, g, h, context_id, control]
}

fn fill(
    mut into: &mut [u8],
    read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    while !into.is_empty() {
        match read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let count = count.min(into.len());
                into = &mut into[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::dimse::{C_CANCEL_RQ, C_FIND_RQ, C_STORE_RQ, command_name};
    use super::super::loopback::{half, p_data, pair, read_pdu};
    use super::super::pdu::{ABORT, release};
    use super::super::{Received, pdu::RELEASE_RQ};
    use super::*;

    /// The peer's maximum, and the greatest PDU that we then send.
    #[test]
    fn no_pdu_is_longer_than_the_peer_takes() {
        for (maximum, expected) in [(1, 128), (129, 128), (1000, 1000), (16_384, 16_384)] {
            let (mut association, mut stream) = half(maximum);
            let mut command = CommandSet::new(C_STORE_RQ);
            command
                .set_affected_sop_class_uid(&"1.2".repeat(20))
                .set_affected_sop_instance_uid(&"3.4".repeat(20));
            let data: Vec<u8> = (0..50_001u32).map(|n| n as u8).collect();
            let sent = data.clone();
            let sender = std::thread::spawn(move || {
                association.send(5, &command, Some(&sent)).unwrap();
                association
            });
            let (mut received, mut raw_command) = (Vec::new(), Vec::new());
            loop {
                let (kind, body) = read_pdu(&mut stream);
                assert_eq!(kind, P_DATA_TF);
                assert!(body.len() <= expected, "{} > {expected}", body.len());
                let control = body[5];
                if control & 1 == 1 {
                    raw_command.extend_from_slice(&body[6..]);
                } else {
                    received.extend_from_slice(&body[6..]);
                }
                if control == 2 {
                    break;
                }
            }
            assert!(received == data);
            let command = CommandSet::decode(&raw_command).unwrap();
            assert!(command.has_data_set());
            sender.join().unwrap().abort();
        }
    }

    /// Bytes of each write, how long it took in seconds, and after how many it is enough.
    #[test]
    fn a_peer_that_takes_short_messages_at_leisure_is_given_up() {
        let stall = Duration::from_secs(30);
        for (bytes, seconds, enough) in [
            (500, 1, Some(61)),
            (500, 29, Some(3)),
            (500, 100, Some(3)),
            (100_000, 20, None),
            (500, 0, None),
        ] {
            let mut taking = Taking::default();
            let took = Duration::from_secs(seconds);
            let ended = (1..10_000).find(|_| !taking.goes_on(bytes, took, stall));
            assert_eq!(ended, enough, "{bytes} bytes in {seconds} s");
        }
    }

    /// Method: lengths around those of a fragment and of a batch; a peer with small PDUs and one with the greatest.
    #[test]
    fn data_sets_sent_from_where_they_are_arrive_whole() {
        for maximum in [0, 200, 16_384] {
            let (mut association, mut stream) = half(maximum);
            let lengths = [32_768, 32_769, 98_304, 131_066, 131_067, 262_144, 1_000_003];
            let sender = std::thread::spawn(move || {
                for length in lengths {
                    let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
                    let command = CommandSet::new(C_STORE_RQ);
                    association.send(5, &command, Some(&data)).unwrap();
                }
                association
            });
            for length in lengths {
                let mut received = Vec::new();
                loop {
                    let (kind, body) = read_pdu(&mut stream);
                    assert_eq!((kind, body[4]), (P_DATA_TF, 5));
                    assert!(maximum == 0 || body.len() <= maximum as usize);
                    if body[5] & 1 == 0 {
                        received.extend_from_slice(&body[6..]);
                    }
                    if body[5] == 2 {
                        break;
                    }
                }
                assert_eq!(received.len(), length);
                let expected = (0..length).map(|n| (n % 251) as u8);
                assert!(expected.eq(received), "{length} to {maximum}");
            }
            sender.join().unwrap().abort();
        }
    }

    #[test]
    fn streamed_data_sets_of_every_awkward_length_arrive_whole() {
        let (mut acceptor, mut requestor) = pair();
        let lengths = [0u64, 1, 131_065, 131_066, 131_067, 262_144, 1_000_003];
        let sender = std::thread::spawn(move || {
            for len in lengths {
                let mut at = 0u64;
                // A source that gives what it likes, as files and pipes do.
                let mut read = |into: &mut [u8]| {
                    let count = into.len().min(10_007);
                    for byte in &mut into[..count] {
                        *byte = at as u8;
                        at += 1;
                    }
                    Ok(count)
                };
                requestor
                    .send_stream(5, &CommandSet::new(C_STORE_RQ), len, &mut read)
                    .unwrap();
            }
            requestor.next_command().map(drop)
        });
        for len in lengths {
            let received = acceptor.next_command().unwrap();
            assert!(matches!(received, Received::Command { context_id: 5, .. }));
            let mut at = 0u64;
            while let Some(fragment) = acceptor.data_fragment().unwrap() {
                for &byte in fragment {
                    assert_eq!(byte, at as u8);
                    at += 1;
                }
            }
            assert_eq!(at, len);
        }
        acceptor.abort();
        sender.join().unwrap().unwrap();
    }

    /// A broken disk in the middle of sending must not look like a complete instance.
    #[test]
    fn a_failing_source_never_sends_a_last_fragment() {
        for at_end in [true, false] {
            let (mut acceptor, mut requestor) = pair();
            let mut calls = 0;
            let result =
                requestor.send_stream(5, &CommandSet::new(C_STORE_RQ), 600_000, &mut |into| {
                    calls += 1;
                    match (calls, at_end) {
                        (1..5, _) => Ok(into.len()),
                        (_, true) => Ok(0),
                        (_, false) => Err(io::Error::other("bad sector")),
                    }
                });
            assert!(matches!(result, Err(NetError::Source(_))), "{result:?}");
            requestor.abort();
            acceptor.next_command().unwrap();
            let end = loop {
                match acceptor.data_fragment() {
                    Ok(Some(_)) => {}
                    end => break end.map(|_| ()),
                }
            };
            assert!(matches!(end, Err(NetError::Aborted { .. })), "{end:?}");
        }
    }

    #[test]
    fn an_unknown_context_is_refused_and_the_association_lives() {
        let (mut acceptor, mut requestor) = pair();
        let command = CommandSet::new(C_STORE_RQ);
        let result = requestor.send(77, &command, None);
        assert!(matches!(result, Err(NetError::NoContext(77))));
        requestor.send(5, &command, None).unwrap();
        acceptor.next_command().unwrap();
    }

    /// Method: the cancel comes byte by byte between our answers; then one for another
    /// request, then one which is followed by the next request at once.
    #[test]
    fn a_cancel_is_seen_while_sending() {
        use std::io::Write;
        let (mut association, mut stream) = half(0);
        let answer = CommandSet::new(0x8020);
        let cancel = |id| {
            let mut cancel = CommandSet::new(C_CANCEL_RQ);
            cancel.set_responded_id(id).set_data_set_type(NO_DATA_SET);
            p_data(&[(3, 3, &cancel.encode())])
        };
        stream.write_all(&cancel(8)).unwrap();
        let bytes = cancel(9);
        for byte in &bytes {
            association.send(3, &answer, Some(b"one")).unwrap();
            assert!(!association.pending_cancel(9).unwrap());
            stream.write_all(std::slice::from_ref(byte)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(association.pending_cancel(9).unwrap());
        assert!(association.pending_cancel(9).unwrap(), "it stays seen");

        let mut next = CommandSet::new(C_FIND_RQ);
        next.set_message_id(10).set_data_set_type(NO_DATA_SET);
        stream
            .write_all(&p_data(&[(3, 3, &next.encode())]))
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!association.pending_cancel(11).unwrap());
        let Ok(Received::Command { command, .. }) = association.next_command() else {
            panic!("the request got lost");
        };
        let name = command_name(command.command_field().unwrap());
        assert_eq!((name, command.message_id()), ("C-FIND-RQ", Some(10)));

        stream.write_all(&release(RELEASE_RQ)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(association.pending_cancel(10).unwrap());
        assert!(matches!(association.next_command(), Ok(Received::Release)));
    }

    #[test]
    fn an_abort_and_a_dropped_connection_are_seen_while_sending() {
        use std::io::Write;
        let (mut association, mut stream) = half(0);
        stream
            .write_all(&[ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0])
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(association.pending_cancel(1).is_err());
        let (mut association, stream) = half(0);
        drop(stream);
        std::thread::sleep(Duration::from_millis(20));
        assert!(matches!(
            association.pending_cancel(1),
            Err(NetError::Closed)
        ));
    }
}
