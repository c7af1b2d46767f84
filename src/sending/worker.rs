//! Decoding in a process of its own, which may be slow, hungry, or die: the same program, started once more. It makes whole
//! data sets without compression, and thumbnails; each kind has its own workers, so that no page holds up a peer.
//!
//! The server writes a `Job` and the data set; the worker answers in `Say`s. What it needs too long for, or dies of,
//! costs that one instance. It ends when it hears no more, and when the server is gone.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getppid, nice, setrlimit};
use serde::{Deserialize, Serialize};

use crate::memory::{self, Share};
use crate::pixels::{PixelError, Plain, thumbnail};

/// The hidden verb of the command line that is a worker.
pub const VERB: &str = "transcode-worker";

/// Address space of a worker, bytes: the data set, some decoded frames, and what a codec needs for one.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Longest data set that is decompressed, bytes: the worker holds it.
pub const DATA_SET_BYTES_MAX: u64 = 1 << 30;
/// So long a worker may say nothing: one frame.
const SILENCE: Duration = Duration::from_secs(60);
/// Until all frames of an instance are decoded.
const JOB_TIME: Duration = Duration::from_secs(10 * 60);
/// At the same moment.
const WORKERS_MAX: usize = 4;

/// As [`MEMORY_BYTES_MAX`], of one that makes thumbnails.
const THUMBNAIL_MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Longest data set of which a thumbnail is made, bytes.
pub const THUMBNAIL_DATA_SET_BYTES_MAX: u64 = 256 << 20;
/// A person waits for it: from the first byte of the data set to the last of the picture.
const THUMBNAIL_TIME: Duration = Duration::from_secs(10);
/// That make thumbnails, at the same moment.
pub const THUMBNAIL_WORKERS_MAX: usize = 2;
/// Longest picture that is believed, bytes.
const PICTURE_BYTES_MAX: u64 = 4 << 20;
/// How much work for others goes before it.
const THUMBNAIL_NICE: i32 = 10;
/// So long an instance waits for a worker.
const WAIT: Duration = Duration::from_secs(5 * 60);
/// A worker ends after so many instances: what a codec forgot to free is freed then.
const JOBS_MAX: u32 = 1000;
/// What was decoded up to this length is taken from the worker at once, bytes.
const AT_ONCE_BYTES_MAX: u64 = 64 << 20;
/// Longest payload of one `Say`, bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// Work for a worker: a line of JSON, then `length` bytes of data set.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    transfer_syntax: String,
    explicit: bool,
    length: u64,
    /// Wanted is a picture of at most so many pixels in width and height.
    #[serde(default)]
    edge: Option<u16>,
}

/// What a worker says: one byte, the length of what follows as four bytes little endian, that.
mod say {
    /// It lives, has read the job, and reads the data set.
    pub const READY: u8 = b'R';
    /// It goes on: a frame was decoded.
    pub const FRAME: u8 = b'P';
    /// All frames were; so long the data set is, eight bytes little endian.
    pub const LENGTH: u8 = b'L';
    /// The next bytes of it.
    pub const BYTES: u8 = b'D';
    pub const END: u8 = b'E';
    /// There is no data set, and why.
    pub const FAILED: u8 = b'F';
}

/// What the worker's end of the pipes does; comes back when nobody asks any more.
pub fn work() -> io::Result<()> {
    let parent = getppid();
    // Nobody would end a worker whose server was killed while it decodes.
    std::thread::spawn(move || {
        while getppid() == parent {
            std::thread::sleep(Duration::from_secs(2));
        }
        std::process::exit(1);
    });
    limit(Resource::As, MEMORY_BYTES_MAX);
    limit(Resource::Core, 0);
    limit(Resource::Fsize, 0);
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut line = String::new();
    let mut makes_thumbnails = false;
    loop {
        line.clear();
        if input.by_ref().take(4096).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let job: Job = serde_json::from_str(&line)?;
        if job.edge.is_some() && !makes_thumbnails {
            makes_thumbnails = true;
            limit(Resource::As, THUMBNAIL_MEMORY_BYTES_MAX);
            // Else it is only less polite.
            let _ = nice(THUMBNAIL_NICE);
        }
        tell(&mut output, say::READY, &[])?;
        output.flush()?;
        let mut data_set = vec![0; usize::try_from(job.length).map_err(io::Error::other)?];
        input.read_exact(&mut data_set)?;
        match answer(&job, &data_set, &mut output) {
            Ok(()) => {}
            Err(Stopped::Pixels(error)) => {
                tell(&mut output, say::FAILED, error.to_string().as_bytes())?
            }
            Err(Stopped::Pipe(error)) => return Err(error),
        }
        output.flush()?;
    }
}

enum Stopped {
    Pixels(PixelError),
    Pipe(io::Error),
}

fn answer(job: &Job, data_set: &[u8], output: &mut impl Write) -> Result<(), Stopped> {
    if let Some(edge) = job.edge {
        let picture = thumbnail(data_set, &job.transfer_syntax, usize::from(edge));
        let picture = picture.map_err(Stopped::Pixels)?;
        let length = (picture.len() as u64).to_le_bytes();
        tell(output, say::LENGTH, &length).map_err(Stopped::Pipe)?;
        for piece in picture.chunks(PIECE_BYTES) {
            tell(output, say::BYTES, piece).map_err(Stopped::Pipe)?;
        }
        return tell(output, say::END, &[]).map_err(Stopped::Pipe);
    }
    let mut frame_done = || {
        tell(output, say::FRAME, &[])?;
        output.flush()
    };
    let plain = Plain::of(
        data_set,
        &job.transfer_syntax,
        job.explicit,
        &mut frame_done,
    )
    .map_err(Stopped::Pixels)?;
    tell(output, say::LENGTH, &plain.length().to_le_bytes()).map_err(Stopped::Pipe)?;
    plain
        .write(&mut |bytes| {
            bytes
                .chunks(PIECE_BYTES)
                .try_for_each(|piece| tell(output, say::BYTES, piece))
        })
        .map_err(Stopped::Pipe)?;
    tell(output, say::END, &[]).map_err(Stopped::Pipe)
}

fn tell(output: &mut impl Write, what: u8, payload: &[u8]) -> io::Result<()> {
    // No payload is longer than a piece.
    let [a, b, c, d] = (payload.len() as u32).to_le_bytes();
    output.write_all(&[what, a, b, c, d])?;
    output.write_all(payload)
}

fn limit(resource: Resource, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // Without it the worker is less bounded, and works all the same.
    let _ = setrlimit(resource, limit);
}

/// A worker process, at the server's end.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    jobs: u32,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The workers there are of one kind: those at rest, and how many are at work.
struct Pool {
    state: Mutex<(Vec<Worker>, usize)>,
    free: Condvar,
    most: usize,
}

impl Pool {
    const fn of(most: usize) -> Pool {
        Pool {
            state: Mutex::new((Vec::new(), 0)),
            free: Condvar::new(),
            most,
        }
    }
}

static POOL: Pool = Pool::of(WORKERS_MAX);
static THUMBNAILS: Pool = Pool::of(THUMBNAIL_WORKERS_MAX);

/// A worker at work; its place is free again when this is dropped. It is ended unless it was put back to rest.
struct Lent {
    worker: Option<Worker>,
    pool: &'static Pool,
}

impl Lent {
    fn take(pool: &'static Pool) -> Result<Lent, String> {
        let deadline = Instant::now() + WAIT;
        let mut state = pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        let most = std::thread::available_parallelism().map_or(2, usize::from);
        while state.1 >= most.clamp(2, pool.most) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("no decoder became free in five minutes".to_owned());
            }
            let waited = pool.free.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.1 += 1;
        let worker = state.0.pop();
        Ok(Lent { worker, pool })
    }

    /// Gives the job to the worker, and to a new one where there is none or the one at rest has died meanwhile.
    fn begin(&mut self, job: &Job, deadline: Instant) -> Result<&mut Worker, String> {
        let mut line = serde_json::to_string(job).map_err(|error| error.to_string())?;
        line.push('\n');
        let rested = self.worker.take();
        if let Some(mut worker) = rested
            && worker.begin(&line, deadline).is_ok()
        {
            return Ok(self.worker.insert(worker));
        }
        let cannot = |error| format!("no decoder could be started: {error}");
        let worker = self.worker.insert(Worker::start().map_err(cannot)?);
        worker.begin(&line, deadline).map_err(cannot)?;
        Ok(worker)
    }

    fn worker(&mut self) -> io::Result<&mut Worker> {
        self.worker
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// It is done, and can be asked again.
    fn rest(mut self) {
        if let Some(worker) = self.worker.take().filter(|worker| worker.jobs < JOBS_MAX) {
            let mut state = self
                .pool
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            state.0.push(worker);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = self
            .pool
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.1 -= 1;
        drop(state);
        self.pool.free.notify_one();
    }
}

impl Worker {
    fn start() -> io::Result<Worker> {
        // Not by its path: the program may have been replaced since it was started.
        let mut child = Command::new("/proc/self/exe")
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let Some((input, output)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        for pipe in [input.as_fd(), output.as_fd()] {
            let flags = rustix::fs::fcntl_getfl(pipe)?;
            rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        Ok(Worker {
            child,
            input,
            output,
            jobs: 0,
        })
    }

    fn put(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.input.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&self.input, PollFlags::OUT, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn get(&mut self, mut into: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !into.is_empty() {
            match self.output.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => into = &mut into[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&self.output, PollFlags::IN, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn begin(&mut self, line: &str, deadline: Instant) -> io::Result<()> {
        self.jobs += 1;
        self.put(line.as_bytes(), deadline)?;
        match self.hear(deadline)? {
            (say::READY, 0) => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What it says next.
    fn hear(&mut self, deadline: Instant) -> io::Result<(u8, usize)> {
        let mut head = [0; 5];
        self.get(&mut head, deadline.min(Instant::now() + SILENCE))?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        match length <= PIECE_BYTES {
            true => Ok((head[0], length)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn wait_for(pipe: &impl AsFd, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(pipe, flags)], Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A data set without compression.
pub enum Decompressed {
    Whole(io::Cursor<Vec<u8>>, Share),
    /// Too large to be held, or for the memory that is left: its worker writes it while it is sent.
    Coming(Coming),
}

pub struct Coming {
    lent: Lent,
    length: u64,
    read: u64,
    /// Of the piece at hand.
    left: usize,
}

/// Decompresses a data set of so many bytes, which `read` gives; the error is a sentence.
pub fn decompress(
    transfer_syntax: &str,
    explicit: bool,
    length: u64,
    read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<Decompressed, String> {
    if length > DATA_SET_BYTES_MAX {
        return Err("its data set is too large to be decompressed".to_owned());
    }
    let job = Job {
        transfer_syntax: transfer_syntax.to_owned(),
        explicit,
        length,
        edge: None,
    };
    let lent = Lent::take(&POOL)?;
    let coming = have_done(lent, &job, Instant::now() + JOB_TIME, read)?;
    let share = (coming.length <= AT_ONCE_BYTES_MAX)
        .then(|| memory::take(coming.length as usize))
        .flatten();
    match share {
        None => Ok(Decompressed::Coming(coming)),
        Some(share) => Ok(Decompressed::Whole(io::Cursor::new(coming.whole()?), share)),
    }
}

/// A PNG of an instance, at most `edge` pixels in width and height; the error is a sentence.
pub fn picture(
    transfer_syntax: &str,
    edge: u16,
    length: u64,
    read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<Vec<u8>, String> {
    if length > THUMBNAIL_DATA_SET_BYTES_MAX {
        return Err(TOO_LARGE_FOR_A_THUMBNAIL.to_owned());
    }
    let job = Job {
        transfer_syntax: transfer_syntax.to_owned(),
        explicit: true,
        length,
        edge: Some(edge),
    };
    let lent = Lent::take(&THUMBNAILS)?;
    let coming = have_done(lent, &job, Instant::now() + THUMBNAIL_TIME, read)?;
    match coming.length > PICTURE_BYTES_MAX {
        true => Err(SENSELESS.to_owned()),
        false => coming.whole(),
    }
}

pub const TOO_LARGE_FOR_A_THUMBNAIL: &str = "its data set is too large for a thumbnail";
const SENSELESS: &str = "the decoder said what makes no sense";

fn died(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "its compressed image took too long to decode".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            "the decoder died of its compressed image".to_owned()
        }
        _ => format!("the decoder: {error}"),
    }
}

/// Gives a worker its job, and waits until it knows how long the result is.
fn have_done(
    mut lent: Lent,
    job: &Job,
    deadline: Instant,
    read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<Coming, String> {
    let worker = lent.begin(job, deadline)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut given = 0;
    while given < job.length {
        let count = piece
            .len()
            .min(usize::try_from(job.length - given).unwrap_or(usize::MAX));
        let count = read(&mut piece[..count]).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("its stored data set ended too early".to_owned());
        }
        worker.put(&piece[..count], deadline).map_err(died)?;
        given += count as u64;
    }
    loop {
        match worker.hear(deadline).map_err(died)? {
            (say::FRAME, 0) => {}
            (say::LENGTH, 8) => {
                let mut bytes = [0; 8];
                worker.get(&mut bytes, deadline).map_err(died)?;
                return Ok(Coming {
                    lent,
                    length: u64::from_le_bytes(bytes),
                    read: 0,
                    left: 0,
                });
            }
            (say::FAILED, count) => {
                let mut words = vec![0; count];
                worker.get(&mut words, deadline).map_err(died)?;
                lent.rest();
                return Err(String::from_utf8_lossy(&words).into_owned());
            }
            _ => return Err(SENSELESS.to_owned()),
        }
    }
}

impl Decompressed {
    /// Of the data set, bytes.
    pub fn length(&self) -> u64 {
        match self {
            Decompressed::Whole(whole, _) => whole.get_ref().len() as u64,
            Decompressed::Coming(coming) => coming.length,
        }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressed::Whole(whole, _) => whole.read(buffer),
            Decompressed::Coming(coming) => coming.read(buffer),
        }
    }
}

impl Coming {
    /// All of it at once; the caller has looked how long it is.
    fn whole(mut self) -> Result<Vec<u8>, String> {
        let mut whole = vec![0; self.length as usize];
        let mut at = 0;
        while at < whole.len() {
            at += self.read(&mut whole[at..]).map_err(died)?;
        }
        self.end().map_err(died)?;
        Ok(whole)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = Instant::now() + SILENCE;
        let worker = self.lent.worker()?;
        while self.left == 0 {
            match worker.hear(deadline)? {
                (say::BYTES, count) => self.left = count,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let left = usize::try_from(self.length - self.read).unwrap_or(usize::MAX);
        let count = buffer.len().min(self.left).min(left);
        worker.get(&mut buffer[..count], deadline)?;
        self.left -= count;
        self.read += count as u64;
        Ok(count)
    }

    /// The worker has said all, and rests.
    fn end(mut self) -> io::Result<()> {
        match self.lent.worker()?.hear(Instant::now() + SILENCE)? {
            (say::END, 0) if self.left == 0 => {
                self.lent.rest();
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
