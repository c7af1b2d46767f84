//! The connection below an association: TCP, or TLS over it. Blocking, for one thread; only the socket is shared.
//!
//! Plain bytes go straight to the system. Over TLS a read hands out what has been decrypted so far, and a write returns
//! when everything has gone to the system, as with TCP; the socket's own time-outs count for both.

use super::NetError;
use super::association::quick_ack;
use super::tls::TlsError;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Encrypted bytes taken from the system at once: four records of the greatest length.
const CAME_LENGTH: usize = 64 * 1024;

/// Encrypted bytes that wait for the system at most: what one write puts together.
const WAITING_LENGTH_MAX: usize = 256 * 1024;

pub(super) struct Wire {
    socket: Arc<TcpStream>,
    tls: Option<Box<RefCell<Tls>>>,
}

/// One end of a TLS connection whose handshake is over.
pub(super) struct Tls {
    connection: rustls::Connection,
    /// As it came; `start..end` has not been given to rustls.
    came: Box<[u8]>,
    start: usize,
    end: usize,
    /// Decrypted bytes that rustls holds.
    plain: usize,
    /// The peer will send nothing more, with or without saying so.
    ended: bool,
    /// What broke it; said again by whatever is tried afterwards.
    failed: Option<TlsError>,
}

impl Wire {
    pub fn plain(socket: TcpStream) -> Wire {
        Wire {
            socket: Arc::new(socket),
            tls: None,
        }
    }

    pub fn tls(socket: TcpStream, tls: Tls) -> Wire {
        Wire {
            socket: Arc::new(socket),
            tls: Some(Box::new(RefCell::new(tls))),
        }
    }

    /// For whoever ends the connection from another thread, and for time-outs.
    pub fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Takes what has come, and waits for it at most the socket's time-out; `WouldBlock` when that passes, over TLS also
    /// when what came is no whole record yet. 0 is the end.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&*self.socket).read(into),
            Some(tls) => {
                let receive = |came: &mut [u8]| (&*self.socket).read(came);
                tls.borrow_mut().read(into, &self.socket, receive)
            }
        }
    }

    /// As [`Wire::read`], without waiting.
    pub fn read_at_once(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => receive_at_once(&self.socket, into),
            Some(tls) => {
                let receive = |came: &mut [u8]| receive_at_once(&self.socket, came);
                tls.borrow_mut().read(into, &self.socket, receive)
            }
        }
    }

    /// Whether a read would find something, or the end, within this time.
    pub fn comes_within(&self, patience: Duration) -> Result<bool, NetError> {
        let Some(tls) = &self.tls else {
            return poll(&self.socket, patience);
        };
        let mut tls = tls.borrow_mut();
        let until = Instant::now() + patience;
        loop {
            // What is broken or over is found by the read.
            if tls.advance(&self.socket).is_err() || tls.plain > 0 || tls.ended {
                return Ok(true);
            }
            if !poll(
                &self.socket,
                until.saturating_duration_since(Instant::now()),
            )? {
                return Ok(false);
            }
            match tls.fill(|came| receive_at_once(&self.socket, came)) {
                Ok(()) => {}
                Err(error) if is_for_now(&error) => {}
                Err(_) => return Ok(true),
            }
        }
    }

    /// Writes everything. One call may block for the socket's time-out and then have taken a part: a peer that reads a
    /// little now and then, or only fills its system's buffers, must not hold this thread for longer than twice `stall`.
    pub fn write_all(&self, mut rest: &mut [IoSlice], stall: Duration) -> io::Result<()> {
        let begun = Instant::now();
        let in_time = |is_left: bool| -> io::Result<()> {
            match is_left && begun.elapsed() > stall * 2 {
                true => Err(io::ErrorKind::TimedOut.into()),
                false => Ok(()),
            }
        };
        // Also takes away what is empty.
        IoSlice::advance_slices(&mut rest, 0);
        let mut tls = self.tls.as_ref().map(|tls| tls.borrow_mut());
        let waits = |tls: &Option<RefMut<Tls>>| {
            let tls = tls.as_ref();
            tls.is_some_and(|tls| tls.connection.wants_write())
        };
        while !rest.is_empty() {
            let written = match &mut tls {
                None => (&*self.socket).write_vectored(rest),
                Some(tls) => tls.connection.writer().write_vectored(rest),
            };
            match written {
                // Over TLS there may be no room until what waits has gone out.
                Ok(0) if !waits(&tls) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(tls) = &mut tls
                && tls.connection.wants_write()
            {
                match tls.connection.write_tls(&mut &*self.socket) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                in_time(tls.connection.wants_write())?;
            }
            in_time(!rest.is_empty())?;
        }
        Ok(())
    }

    /// For the last words of an association: tried once, without blocking.
    pub fn write_at_once(&self, bytes: &[u8]) {
        match &self.tls {
            None => drop(send_at_once(&self.socket, bytes)),
            Some(tls) => {
                let mut tls = tls.borrow_mut();
                drop(tls.connection.writer().write(bytes));
                tls.flush_at_once(&self.socket);
            }
        }
    }

    /// Tells the peer that nothing more comes from us (close_notify); TCP says so by itself.
    pub fn say_the_end(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            // What was given up in the middle must not go out after all.
            if tls.failed.is_none() && !tls.connection.wants_write() {
                tls.connection.send_close_notify();
                tls.flush_at_once(&self.socket);
            }
        }
    }
}

impl Tls {
    /// `connection` may hold what was read with the end of its handshake.
    pub fn new(mut connection: rustls::Connection) -> Result<Tls, TlsError> {
        connection.set_buffer_limit(Some(WAITING_LENGTH_MAX));
        let state = connection.process_new_packets();
        let plain = state.map_err(|error| TlsError::later(&error))?;
        Ok(Tls {
            plain: plain.plaintext_bytes_to_read(),
            ended: plain.peer_has_closed(),
            connection,
            came: vec![0; CAME_LENGTH].into_boxed_slice(),
            start: 0,
            end: 0,
            failed: None,
        })
    }

    fn read(
        &mut self,
        into: &mut [u8],
        socket: &TcpStream,
        receive: impl Fn(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let held = self.take(into, socket)?;
        if held > 0 || self.ended || into.is_empty() {
            return Ok(held);
        }
        self.fill(receive)?;
        // A full buffer means that more is queued: the next read acknowledges it.
        if self.end < self.came.len() {
            quick_ack(socket);
        }
        match self.take(into, socket)? {
            0 if !self.ended => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// One read of encrypted bytes. Precondition: those before are used up.
    fn fill(&mut self, receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        (self.start, self.end) = (0, 0);
        self.end = receive(&mut self.came)?;
        self.ended |= self.end == 0;
        Ok(())
    }

    /// Everything that has come, decrypted, as far as there is room.
    fn take(&mut self, into: &mut [u8], socket: &TcpStream) -> io::Result<usize> {
        let mut count = 0;
        while count < into.len() {
            self.advance(socket)?;
            if self.plain == 0 {
                break;
            }
            let read = self.connection.reader().read(&mut into[count..])?;
            self.plain -= read.min(self.plain);
            count += read;
        }
        Ok(count)
    }

    /// Decrypts until there is something to be read, or all that came is used up.
    fn advance(&mut self, socket: &TcpStream) -> io::Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into());
        }
        while self.plain == 0 && self.start < self.end {
            let mut rest = &self.came[self.start..self.end];
            let count = self.connection.read_tls(&mut rest)?;
            // After the end was said nothing counts.
            if count == 0 {
                self.ended = true;
                self.start = self.end;
                break;
            }
            self.start += count;
            match self.connection.process_new_packets() {
                Ok(state) => {
                    self.plain = state.plaintext_bytes_to_read();
                    self.ended |= state.peer_has_closed();
                }
                Err(error) => {
                    let failed = TlsError::later(&error);
                    self.failed = Some(failed.clone());
                    // The alert that says why.
                    self.flush_at_once(socket);
                    return Err(failed.into());
                }
            }
            // An answer of TLS itself; what does not fit goes out with the next write.
            if self.connection.wants_write() {
                self.flush_at_once(socket);
            }
        }
        Ok(())
    }

    fn flush_at_once(&mut self, socket: &TcpStream) {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut AtOnce(socket)) {
                Ok(count) if count > 0 => {}
                _ => break,
            }
        }
    }
}

/// A socket that is written to without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send_at_once(self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send_at_once(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    send(socket, bytes, flags).map_err(io::Error::from)
}

fn receive_at_once(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let received = recv(socket, into, RecvFlags::DONTWAIT);
    received.map(|(_, count)| count).map_err(io::Error::from)
}

fn is_for_now(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::Interrupted
}

/// Whether there is something to read, or the connection ended, within this time.
fn poll(socket: &TcpStream, patience: Duration) -> Result<bool, NetError> {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let mut waiting = [PollFd::new(socket, PollFlags::IN)];
    let time = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    match rustix::event::poll(&mut waiting, Some(&time)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(NetError::Io(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::{Identity, Roots, TlsAcceptor, TlsRequestor};
    use super::*;
    use std::net::{Shutdown, TcpListener};

    /// Acceptor and requestor.
    fn pair() -> (Wire, Wire) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["kura.test".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let identity = Identity::of(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let acceptor = TlsAcceptor::new(identity, None, false).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(acceptor.config).unwrap();
            while connection.is_handshaking() {
                connection.complete_io(&mut socket).unwrap();
            }
            Wire::tls(
                socket,
                Tls::new(rustls::Connection::Server(connection)).unwrap(),
            )
        });
        let socket = TcpStream::connect(address).unwrap();
        let roots = Roots::of(pem.as_bytes()).unwrap();
        let tls = TlsRequestor::new(None, None, Some(roots), None).unwrap();
        let patience = Duration::from_secs(60);
        let until = Instant::now() + patience;
        let (wire, _) = tls
            .shake(socket, Some("kura.test"), until, patience)
            .unwrap();
        (server.join().unwrap(), wire)
    }

    fn read_all(wire: &Wire, count: usize, at_once: usize) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), vec![0; at_once]);
        while all.len() < count {
            match wire.read(&mut some) {
                Ok(0) => break,
                Ok(count) => all.extend_from_slice(&some[..count]),
                Err(error) => assert!(is_for_now(&error), "{error}"),
            }
        }
        all
    }

    /// Method: far more than fits the system's buffers, in awkward slices, read in small and in large pieces.
    #[test]
    fn what_is_written_comes_whole_and_in_order() {
        let data: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
        for (is_up, at_once) in [(true, 7), (false, 256 << 10)] {
            let (acceptor, requestor) = pair();
            let (from, to) = match is_up {
                true => (requestor, acceptor),
                false => (acceptor, requestor),
            };
            let sent = data.clone();
            let writer = std::thread::spawn(move || {
                let mut slices: Vec<IoSlice> = sent.chunks(99_991).map(IoSlice::new).collect();
                slices.insert(1, IoSlice::new(&[]));
                let written = from.write_all(&mut slices, Duration::from_secs(60));
                written.map(|()| from)
            });
            let all = read_all(&to, data.len(), at_once);
            assert!(all == data);
            drop(writer.join().unwrap().unwrap());
        }
    }

    #[test]
    fn bytes_that_are_decrypted_already_are_something_to_read() {
        let (acceptor, requestor) = pair();
        let none = Duration::ZERO;
        assert!(!acceptor.comes_within(none).unwrap());
        let mut slices = [IoSlice::new(&[7; 1000])];
        requestor
            .write_all(&mut slices, Duration::from_secs(60))
            .unwrap();
        assert!(acceptor.comes_within(Duration::from_secs(60)).unwrap());
        let mut some = [0; 999];
        assert_eq!(acceptor.read_at_once(&mut some).unwrap(), 999);
        assert!(acceptor.comes_within(none).unwrap());
        assert_eq!(acceptor.read_at_once(&mut some).unwrap(), 1);
        assert!(!acceptor.comes_within(none).unwrap());
        let error = acceptor.read_at_once(&mut some).unwrap_err();
        assert!(is_for_now(&error), "{error}");
    }

    /// Method: the record comes a byte at a time, and in between nobody waits longer than the socket's time-out.
    #[test]
    fn a_record_in_pieces_is_nothing_until_it_is_whole() {
        let (acceptor, requestor) = pair();
        let socket = requestor.socket().try_clone().unwrap();
        let mut record = Vec::new();
        {
            let mut tls = requestor.tls.as_ref().unwrap().borrow_mut();
            tls.connection.writer().write_all(b"whole").unwrap();
            tls.connection.write_tls(&mut record).unwrap();
        }
        let mut some = [0; 64];
        for (at, byte) in record.iter().enumerate() {
            (&socket).write_all(std::slice::from_ref(byte)).unwrap();
            poll(acceptor.socket(), Duration::from_secs(60)).unwrap();
            match acceptor.read_at_once(&mut some) {
                Ok(count) => {
                    assert_eq!((&some[..count], at + 1), (&b"whole"[..], record.len()));
                }
                Err(error) => assert!(is_for_now(&error) && at + 1 < record.len(), "{error}"),
            }
        }
    }

    /// Method: with close_notify, without, and with a record that is cut off or changed.
    #[test]
    fn the_end_is_told_from_bytes_that_nobody_wrote() {
        for how in ["notice", "none", "cut", "changed"] {
            let (acceptor, requestor) = pair();
            let socket = requestor.socket().try_clone().unwrap();
            let mut record = Vec::new();
            if how != "notice" {
                let mut tls = requestor.tls.as_ref().unwrap().borrow_mut();
                tls.connection.writer().write_all(&[1; 500]).unwrap();
                tls.connection.write_tls(&mut record).unwrap();
            }
            match how {
                "notice" => requestor.say_the_end(),
                "cut" => (&socket).write_all(&record[..record.len() - 1]).unwrap(),
                "changed" => {
                    record[300] ^= 1;
                    (&socket).write_all(&record).unwrap();
                }
                _ => {}
            }
            socket.shutdown(Shutdown::Write).unwrap();
            let mut some = [0; 64];
            let read = loop {
                match acceptor.read(&mut some) {
                    Err(error) if is_for_now(&error) => {}
                    read => break read,
                }
            };
            match how {
                "changed" => assert!(TlsError::within(&read.unwrap_err()).is_some()),
                _ => assert_eq!(read.unwrap(), 0, "{how}"),
            }
            assert!(acceptor.comes_within(Duration::ZERO).unwrap(), "{how}");
        }
    }
}
