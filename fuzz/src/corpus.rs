//! What the fuzzer begins with: made of this project's own images (`testdata/`), of what is written here by hand, and of
//! a folder of DICOM files where there is one. It is in no repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::data_set::seed_syntax;
use super::images::choices as image_choices;
use super::query::stored;
use super::wire::association_rq;
use super::{INPUT_BYTES_MAX, TARGETS};
use kura::archive::entry;
use kura::dicom::elements::put;
use kura::dicom::fragments::Fragments;
use kura::dicom::{Attributes, Encoding, Tag, VR, Wanted, encoding_of, read_start, scan, tags};
use kura::net::dimse::{self, CommandSet};

/// Files of the samples that are taken at most: a fuzzer is slow with many large ones.
const FILES_MAX: usize = 400;
/// Largest input of a target but those of images, in bytes.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// Fills a folder for each target below `corpus`; returns how many inputs there are.
pub fn make(corpus: &Path, testdata: &Path, samples: Option<&Path>) -> usize {
    for target in TARGETS {
        fs::create_dir_all(corpus.join(target.name)).expect("a folder");
    }
    let mut out = Corpus {
        corpus: corpus.to_owned(),
        count: 0,
    };
    by_hand(&mut out);
    let mut files = files_below(testdata);
    if let Some(samples) = samples {
        let mut found = files_below(samples);
        found.sort_by_key(|path| fs::metadata(path).map_or(0, |found| found.len()));
        found.truncate(FILES_MAX);
        files.extend(found);
    }
    for file in files {
        if let Ok(bytes) = fs::read(&file) {
            of_file(&bytes, &mut out);
        }
    }
    out.count
}

struct Corpus {
    corpus: PathBuf,
    count: usize,
}

impl Corpus {
    fn put(&mut self, target: &str, parts: &[&[u8]]) {
        let bytes = parts.concat();
        if bytes.len() > INPUT_BYTES_MAX {
            return;
        }
        let name = format!("{:08x}", crc32fast::hash(&bytes));
        fs::write(self.corpus.join(target).join(name), bytes).expect("a file");
        self.count += 1;
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn of_file(bytes: &[u8], out: &mut Corpus) {
    let Ok((meta, offset)) = read_start(&mut &bytes[..]) else {
        return;
    };
    let data_set = &bytes[offset as usize..];
    let syntax = meta.transfer_syntax.as_str();
    if bytes.len() <= SMALL_BYTES_MAX {
        out.put("part10", &[bytes]);
        let which = [seed_syntax(syntax)];
        out.put("data_set_scan", &[&which, &[1, 3, 1], data_set]);
        out.put("convert", &[&which, &[0, 3, 1], data_set]);
        out.put(
            "amend",
            &[
                &which,
                &[
                    3, 3, 1, 0x17, b'D', b'O', b'E', b'^', b'X', 0x0B, b'4', b'7',
                ],
                data_set,
            ],
        );
        out.put("thumbnail", &[&[0, 64], data_set]);
        out.put("association", &[&[2, 3, 1], &[0; 64], data_set]);
        if seed_syntax(syntax) < 2 {
            out.put("references", &[&which, &[3, 1], data_set]);
        }
    }
    if encoding_of(syntax) != Encoding::DeflatedLittle {
        compressed(data_set, syntax, out);
    }
}

/// The frames of a compressed image, each in front of it what it is.
fn compressed(data_set: &[u8], syntax: &str, out: &mut Corpus) {
    let target = match syntax
        .strip_prefix("1.2.840.10008.1.2.")
        .unwrap_or_default()
    {
        "5" => "rle",
        "4.50" | "4.51" | "4.57" | "4.70" => "jpeg",
        "4.80" | "4.81" => "jpeg_ls",
        "4.90" | "4.91" | "4.201" | "4.202" | "4.203" => "jpeg_2000",
        _ => return,
    };
    let Ok(attributes) = scan(data_set, syntax, Wanted::All) else {
        return;
    };
    let Ok(found) = Fragments::of(data_set, syntax) else {
        return;
    };
    let number = |tag| number(&attributes, tag);
    let color = attributes.text(tags::PHOTOMETRIC_INTERPRETATION);
    let choices = image_choices(
        number(tags::ROWS),
        number(tags::COLUMNS),
        number(tags::SAMPLES_PER_PIXEL),
        number(tags::BITS_ALLOCATED),
        &color.unwrap_or_default(),
    );
    if let (Some(choices), Some(first)) = (choices, found.fragments.first()) {
        out.put(target, &[&choices, &data_set[first.clone()]]);
        let kind = match target {
            "rle" => 4,
            "jpeg" => 5,
            "jpeg_ls" => 6,
            _ => return,
        };
        out.put(
            "thumbnail",
            &[&[1 | kind << 1, 64], &choices, &data_set[first.clone()]],
        );
    }
}

fn number(attributes: &Attributes, tag: Tag) -> u16 {
    let raw = attributes.raw(tag).unwrap_or_default();
    raw.first_chunk().map_or(0, |two| u16::from_le_bytes(*two))
}

fn by_hand(out: &mut Corpus) {
    wire(out);
    queries(out);
    disks(out);
    for (kind, bytes) in [
        (1, &b"M\xFCller^J\xF6rg"[..]),
        (2, b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B"),
        (3, b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J"),
    ] {
        for term in 0..19 {
            out.put("charset", &[&[kind, term, 12, 13], bytes]);
        }
    }
    for text in [
        "KURA",
        "StudyDescription",
        "[{\"00400009\":\"S1\"}]",
        "DOE^JOHN\nDoe^John^^",
        "19700101\n1970",
    ] {
        out.put("texts", &[text.as_bytes()]);
    }
    let template = "ae_title = \"KURA\"\nport = 11112\nstate = \"/srv/state\"\n\n[[volume]]\nname = \"A\"\npath = \"/srv/a\"\n\n[[peer]]\nae_title = \"WS\"\nhost = \"ws.example\"\nport = 104\n";
    out.put("config", &[&[2], template.as_bytes()]);
    out.put(
        "config",
        &[
            &[0],
            b"/* map */\nVIEWER01 127.0.0.1 5678 un\nMOD* 10.1.*.* 104 j2\n",
        ],
    );
    out.put("config", &[&[1], b"[sscscp]\nMyACRNema = ARCHIVE\nTCPPort = 5678\nMAGDeviceThreshhold = 40\nMAGDevices = 1\nMAGDevice0 = /srv/dicom/\n"]);
    images(out);
}

fn wire(out: &mut Corpus) {
    let request = association_rq();
    out.put("pdu", &[&request[6..]]);
    out.put("association", &[&[0], &request]);
    let mut command = CommandSet::new(dimse::C_STORE_RQ);
    command
        .set_message_id(1)
        .set_affected_sop_class_uid("1.2.840.10008.5.1.4.1.1.2")
        .set_affected_sop_instance_uid("1.2.3")
        .set_data_set_type(dimse::HAS_DATA_SET);
    let encoded = command.encode();
    out.put("command_set", &[&encoded]);
    let mut value = vec![4, 0];
    value.extend((encoded.len() as u32 + 6).to_be_bytes());
    value.extend((encoded.len() as u32 + 2).to_be_bytes());
    value.extend([1, 3]);
    let data = [4, 0, 0, 0, 0, 10, 0, 0, 0, 6, 1, 2, 8, 0, 5, 0];
    let release = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    out.put("association", &[&[1], &value, &encoded, &data, &release]);
    out.put(
        "association",
        &[&[2, 7, 0], &[1; 64], b"a data set", &release],
    );
}

fn queries(out: &mut Corpus) {
    for (level, keys) in [
        ("PATIENT", &[(tags::PATIENT_NAME, VR::PN, "yamada*")][..]),
        (
            "STUDY",
            &[
                (tags::STUDY_DATE, VR::DA, "20260101-"),
                (tags::MODALITIES_IN_STUDY, VR::CS, "CT\\MR"),
            ],
        ),
        (
            "STUDY",
            &[
                (tags::ACCESSION_NUMBER, VR::SH, "*A?1"),
                (tags::PATIENT_BIRTH_DATE, VR::DA, "-1980"),
            ],
        ),
        (
            "SERIES",
            &[
                (tags::MODALITY, VR::CS, "CT"),
                (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.0"),
            ],
        ),
        (
            "IMAGE",
            &[
                (tags::SOP_INSTANCE_UID, VR::UI, "1.2.0.1.3\\1.2.0.0.1"),
                (tags::INSTANCE_NUMBER, VR::IS, ""),
            ],
        ),
    ] {
        for explicit in [true, false] {
            let mut all = vec![(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level)];
            all.extend(keys);
            all.sort_by_key(|(tag, ..)| *tag);
            let mut bytes = Vec::new();
            for (tag, vr, text) in all {
                put(&mut bytes, explicit, tag, vr, text.as_bytes());
            }
            out.put("identifier", &[&[u8::from(!explicit) | 6, 3, 1], &bytes]);
        }
    }
    out.put("index_record", &[&[0x10, 5, 3, 0, 1]]);
    out.put("index_record", &[&[1, 20, 4, 0, 1, 2, 3, 4, 3, 2]]);
}

fn disks(out: &mut Corpus) {
    let label = r#"{"format":1,"archive_id":"6f1c","volume_id":"0b6d","name":"A","role":"archive","created":"2026-01-15T00:00:00Z"}"#;
    out.put("label", &[label.as_bytes()]);
    let (mut lines, own) = entry::lines(&stored(1), "A", None);
    lines.push((0, own));
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    let lines = lines.join("\n");
    for kind in [0, 1, 3] {
        out.put("ledger", &[&[kind, 200, 0, 40, 0, 1], lines.as_bytes()]);
    }
    out.put(
        "intake_journal",
        &[&[2, 3, 200, 0, b'a', b'b', b'c', 2, 0, 40, b'd', b'e']],
    );
    out.put(
        "intake_journal",
        &[&[1, 3, 200, 0, b'a', b'b', b'c', 1, 3, 0, 9, 3, 3, 0, 0]],
    );
}

/// A lossless JPEG, and bytes that are run lengths and nothing else.
fn images(out: &mut Corpus) {
    let choices = image_choices(16, 16, 1, 8, "MONOCHROME2").expect("a shape");
    let mut rle = vec![0; 64];
    (rle[0], rle[4]) = (1, 64);
    rle.extend([0x81, 7, 0x81, 9]);
    out.put("rle", &[&choices, &rle]);
    // SOI, DHT of one code, SOF3, SOS, data, EOI.
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xC4, 0, 20, 0, 1];
    jpeg.extend([0; 15]);
    jpeg.push(0);
    jpeg.extend([0xFF, 0xC3, 0, 11, 8, 0, 16, 0, 16, 1, 1, 0x11, 0]);
    jpeg.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0]);
    jpeg.extend([0; 33]);
    jpeg.extend([0xFF, 0xD9]);
    out.put("jpeg", &[&choices, &jpeg]);
    let mut jpeg_ls = vec![
        0xFF, 0xD8, 0xFF, 0xF7, 0, 11, 8, 0, 16, 0, 16, 1, 1, 0x11, 0,
    ];
    jpeg_ls.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0]);
    jpeg_ls.extend([0xF8; 40]);
    jpeg_ls.extend([0xFF, 0xD9]);
    out.put("jpeg_ls", &[&choices, &jpeg_ls]);
}
