//! An instance of 3 GiB costs no more memory than a small one, and comes back byte for byte. Long: KURA_LONG=1.

mod common;

use std::time::{Duration, Instant};

use common::build::{CT_IMAGE_STORAGE, Ct, by_uids};
use common::images::{Image, send_all};
use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_GET};
use common::{Client, Random, Server};

/// Pixel data, bytes: even, and below the 32-bit length of an explicit OW.
const PIXEL_BYTES: u64 = 3 << 30;
const BLOCK_BYTES: usize = 1 << 20;
/// What the server may need more for the large one, bytes.
const GROWTH_MAX: u64 = 16 << 20;

/// The pixel data, made as it is needed: random bytes that each block numbers, so none can stand for another.
struct Pixels(Vec<u8>);

impl Pixels {
    fn new() -> Pixels {
        let mut random = Random::new(3);
        let words = (0..BLOCK_BYTES / 8).flat_map(|_| random.next().to_le_bytes());
        Pixels(words.collect())
    }

    fn block(&mut self, number: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
        &self.0
    }
}

/// Everything up to the pixel data's bytes.
fn head() -> Vec<u8> {
    let mut head = Ct {
        explicit: true,
        pixel_bytes: 0,
        ..Ct::new("2.25.31", "2.25.32", "2.25.33")
    }
    .encode();
    let length_at = head.len() - 4;
    head[length_at..].copy_from_slice(&(PIXEL_BYTES as u32).to_le_bytes());
    head
}

/// A line of `/proc/<pid>/status`, in bytes.
fn memory(server: &Server, field: &str) -> u64 {
    let path = format!("/proc/{}/status", server.pid());
    let text = std::fs::read_to_string(path).expect("/proc");
    let line = text
        .lines()
        .find(|line| line.starts_with(field))
        .expect("a line of /proc/<pid>/status");
    let kib = line.split_whitespace().nth(1);
    let kib: u64 = kib
        .and_then(|number| number.parse().ok())
        .expect("a number of kB");
    kib * 1024
}

fn patient(client: &mut Client) {
    let limit = Some(Duration::from_secs(600));
    client.stream().set_read_timeout(limit).expect("timeout");
    client.pdu_size = client.peer_pdu_max() as usize;
}

fn report(what: &str, start: Instant, grown: u64) {
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "{what}: {seconds:.1} s, {:.0} MB/s, VmHWM + {} KiB",
        PIXEL_BYTES as f64 / 1e6 / seconds,
        grown / 1024
    );
}

/// Method: the pixel data is made while it is sent and made again while it is read; VmHWM of the server after a small
/// instance, after the large one, and after the large one was fetched.
#[test]
fn an_instance_of_three_gigabytes_is_kept_in_little_memory_and_comes_back() {
    if !common::long() {
        eprintln!("skipped: a long test (KURA_LONG=1)");
        return;
    }
    let space = rustix::fs::statvfs(std::env::temp_dir()).expect("statvfs");
    if space.f_bavail * space.f_frsize < 3_700_000_000 {
        eprintln!("skipped: less than 3.7 GB free in the temporary folder");
        return;
    }
    let server = Server::start();
    let small = Image::new(1, 1, 100_000);
    send_all(&server, &[small]);
    let before = memory(&server, "VmHWM:");

    let (head, mut pixels) = (head(), Pixels::new());
    let start = Instant::now();
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[EXPLICIT_LITTLE])]);
    patient(&mut client);
    client
        .begin_store(1, CT_IMAGE_STORAGE, "2.25.33")
        .expect("command");
    client
        .send_fragment(1, false, &head, false)
        .expect("everything before the pixels");
    let blocks = PIXEL_BYTES / BLOCK_BYTES as u64;
    for number in 0..blocks {
        client
            .send_fragment(1, false, pixels.block(number), number + 1 == blocks)
            .expect("pixels");
    }
    let (status, comment) = client.store_response().expect("an answer");
    assert_eq!(status, 0, "{comment:?}");
    client.release().expect("release");
    let grown = memory(&server, "VmHWM:") - before;
    report("stored", start, grown);
    assert!(grown < GROWTH_MAX, "{grown} bytes");

    let start = Instant::now();
    let mut client = server.associate(&[
        (1, STUDY_ROOT_GET, &[IMPLICIT_LITTLE]),
        (3, CT_IMAGE_STORAGE, &[EXPLICIT_LITTLE]),
    ]);
    patient(&mut client);
    let mut at = 0;
    let status = client
        .c_get_in_pieces(
            1,
            &by_uids("STUDY", "2.25.31", None, None),
            &mut |mut piece| {
                while !piece.is_empty() {
                    let expected = if at < head.len() as u64 {
                        &head[at as usize..]
                    } else {
                        let pixel = at - head.len() as u64;
                        let block = pixels.block(pixel / BLOCK_BYTES as u64);
                        &block[(pixel % BLOCK_BYTES as u64) as usize..]
                    };
                    let count = piece.len().min(expected.len());
                    assert!(piece[..count] == expected[..count], "other bytes at {at}");
                    at += count as u64;
                    piece = &piece[count..];
                }
            },
        )
        .expect("C-GET");
    assert_eq!(status, 0);
    assert_eq!(at, head.len() as u64 + PIXEL_BYTES);
    client.release().expect("release");
    let grown = memory(&server, "VmHWM:") - before;
    report("fetched", start, grown);
    assert!(grown < GROWTH_MAX, "{grown} bytes");
}
