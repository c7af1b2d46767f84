//! What is found on a disk: ledgers, labels, intake journals.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use kura::archive::entry;
use kura::index::{SeriesFacts, StudyFacts};
use kura::volume::journal::Journal;
use kura::volume::ledger::{self, Ledger, Position};
use kura::volume::{Disk, label_of, layout};
use tempfile::TempDir;

use super::input::Input;

/// A folder in memory where there is one: disks are slow, and not what is tried out.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder")
}

/// Any bytes as a label: read, or refused.
pub fn label(data: &[u8]) {
    let folder = scratch();
    std::fs::write(folder.path().join(layout::LABEL_FILE), data).expect("a file");
    let _ = label_of(folder.path()).map_err(|error| error.to_string());
}

struct Nothing;

impl entry::Known for Nothing {
    fn study(&self, _: &str, _: u64) -> Option<StudyFacts> {
        None
    }
    fn series(&self, _: &str, _: &str, _: u64) -> Option<SeriesFacts> {
        None
    }
}

/// Lines with checksums that are right, as `ledger_read.rs` has them.
fn sealed(text: &[u8], chain: &mut u32) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let body = line.strip_suffix(b"}").unwrap_or(line);
        let mut crc = crc32fast::Hasher::new();
        crc.update(format!("{chain:08x}").as_bytes());
        crc.update(body);
        *chain = crc.finalize();
        out.extend_from_slice(body);
        out.extend_from_slice(format!(",\"crc\":\"{chain:08x}\"}}\n").as_bytes());
    }
    out
}

type Lines = Vec<(String, Position)>;

fn lines_after(folder: &Path, from: Position) -> (Lines, ledger::ReadReport) {
    let mut lines = Lines::new();
    let report = ledger::read(&Disk::default(), folder, from, &mut |line, position| {
        lines.push((line.to_owned(), position));
        ControlFlow::Continue(())
    });
    (lines, report.expect("files that can be read"))
}

/// Lines are handed out in order, and from each on the rest as from the beginning; what is opened again has lost none of
/// them, and takes another.
pub fn ledger(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let first_length = usize::from(input.word());
    let damage = (usize::from(input.word()), input.byte());
    let first = input.take(first_length);
    let second = input.rest();
    let scratch = scratch();
    let folder = scratch.path().join("v");
    std::fs::create_dir(&folder).expect("a folder");
    let mut chain = 0;
    for (number, text) in [(1, first), (2, second)] {
        if number == 2 && text.is_empty() {
            continue;
        }
        let mut bytes = match kind & 1 {
            0 => text.to_vec(),
            _ => {
                let header = format!(
                    "{{\"ledger\":1,\"volume\":\"v\",\"segment\":{number},\"previous\":\"{chain:08x}\"}}\n"
                );
                let whole = [header.as_bytes(), text].concat();
                sealed(&whole, &mut chain)
            }
        };
        if kind & 2 == 2 && !bytes.is_empty() {
            let at = damage.0 % bytes.len();
            bytes[at] ^= damage.1;
        }
        std::fs::write(folder.join(layout::segment_file(number)), bytes).expect("a file");
    }
    let (lines, report) = lines_after(&folder, Position::default());
    let mut reader = entry::Reader::new("v");
    for (line, _) in &lines {
        let _ = reader.line(line, &Nothing);
        let _ = entry::stored_of(line);
        let _ = entry::received_of(line);
        let _ = entry::listed_of(line);
        let _ = entry::gone_of(line);
    }
    if report.bad_lines == 0 {
        for at in (0..lines.len()).step_by(1 + lines.len() / 8) {
            let (rest, report) = lines_after(&folder, lines[at].1);
            assert!(!report.mismatch);
            assert!(rest == lines[at + 1..], "other lines behind {at}");
        }
    }
    let Ok(opened) = Ledger::<()>::open(&Disk::default(), &folder, Box::new(|_| {})) else {
        return;
    };
    let another = "{\"kind\":\"another\"}";
    let position = opened
        .append(&[], another.to_owned(), ())
        .expect("a disk with room");
    drop(opened);
    let (mut after, _) = lines_after(&folder, Position::default());
    assert_eq!(after.pop(), Some((another.to_owned(), position)));
    assert_eq!(after, lines, "lines are gone, or others");
}

/// Of a journal that was damaged: what is told was appended, or made to look so; all else still works.
pub fn intake_journal(data: &[u8]) {
    const OWNER: &str = "volume";
    let mut input = Input::new(data);
    let kind = input.byte();
    let folder = scratch();
    let disk = Disk::default();
    let open = || Journal::open(&disk, folder.path(), OWNER, 1).expect("a journal");
    let (journal, replay) = open();
    assert_eq!((replay.records, replay.damaged), (vec![], vec![]));
    journal.settle().expect("nothing to do");
    let mut appended: Vec<(u64, Vec<u8>)> = Vec::new();
    for _ in 0..kind & 7 {
        let (about, bytes) = (input.byte(), input.word());
        let about = input.take(usize::from(about)).to_vec();
        let bytes = vec![about.len() as u8; usize::from(bytes) % 30_000];
        let number = journal.append(&about, &[&bytes], Duration::ZERO);
        let Ok(number) = number else { break };
        appended.push((number, about));
    }
    let path = journal.path().to_owned();
    drop(journal);
    let mut file = std::fs::read(&path).expect("the file");
    let (mut damaged, mut forged) = (false, false);
    while !input.is_empty() {
        let (kind, at, by) = (input.byte(), usize::from(input.word()), input.byte());
        match kind % 4 {
            // Any byte, or one of the beginning of a block.
            0 => {
                let at = (at * 4 + usize::from(kind >> 2 & 3)) % file.len();
                file[at] ^= by;
                damaged |= by != 0;
            }
            1 => {
                let at =
                    (at % (file.len() / 4096)) * 4096 + usize::from(kind >> 2) + 64 * (at >> 14);
                file[at] ^= by;
                damaged |= by != 0;
            }
            // A checksum that is right after all: of a mark, of the head of a record.
            2 => {
                seal(&mut file[4096 * (1 + at % 2)..], 56);
                forged = true;
            }
            _ => {
                let blocks = file.len() / 4096;
                seal(&mut file[4096 * (at % blocks)..], 68);
                forged = true;
            }
        }
    }
    std::fs::write(&path, &file).expect("the file");
    let Ok(Some((journal, replay))) = Journal::open_existing(&disk, folder.path(), OWNER) else {
        assert!(damaged || forged);
        return;
    };
    let numbers: Vec<u64> = replay.records.iter().map(|one| one.number).collect();
    assert!(
        numbers.is_sorted_by(|one, other| one < other),
        "{numbers:?}"
    );
    for found in &replay.records {
        let reading = journal.reading(found.number).expect("it was found");
        let mut bytes = vec![0; found.data_bytes as usize];
        let mut at = 0;
        while at < bytes.len() {
            match reading
                .read_at(at as u64, &mut bytes[at..])
                .expect("a file")
            {
                0 => panic!("record {} ends at {at}", found.number),
                count => at += count,
            }
        }
        if !forged {
            let told = (found.number, found.about.clone());
            assert!(appended.contains(&told), "a record that nobody appended");
            assert!(bytes.iter().all(|byte| *byte == found.about.len() as u8));
        }
    }
    if !damaged && !forged {
        assert_eq!(numbers.len(), appended.len());
    }
    journal.free(&numbers).expect("a file");
    journal.settle().expect("a file");
    if !forged {
        let number = journal.append(b"more", &[b"bytes"], Duration::ZERO);
        let number = number.expect("room");
        let last = appended.last().map_or(0, |(number, _)| *number);
        assert!(damaged || number > last, "a number for two records");
    }
}

fn seal(block: &mut [u8], length: usize) {
    let crc = crc32fast::hash(&block[..length]).to_le_bytes();
    block[length..length + 4].copy_from_slice(&crc);
}
