//! What a modality sends, and how: images made at the moment they are sent, without copying their pixels.

// Each bench uses a part of this.
#![allow(dead_code)]

use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

use socket2::SockRef;

use super::common::build::{CT_IMAGE_STORAGE, Tag, put};
use super::common::elements::{self, Syntax};
use super::common::{Client, Random, wire};

/// Columns of an image of 16 bits.
const COLUMNS: u16 = 512;

/// The only presentation context.
pub const CONTEXT_ID: u8 = 1;

/// To be offered.
pub const OFFER: [(u8, &str, &[&str]); 1] =
    [(CONTEXT_ID, CT_IMAGE_STORAGE, &[wire::EXPLICIT_LITTLE])];

pub struct Modality {
    rows: u16,
    /// Of one image.
    pub pixel_bytes: usize,
    pixels: Vec<u8>,
    /// Part of every UID, so that two runs never send the same instance.
    run_id: u128,
}

/// Where an image belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub study: usize,
    /// From 1.
    pub series: usize,
    /// From 1, at most 9998.
    pub number: usize,
}

impl Modality {
    /// `rows`: of 512 columns of 16 bits.
    pub fn new(rows: u16, run_id: u128) -> Modality {
        let pixel_bytes = usize::from(rows) * usize::from(COLUMNS) * 2;
        Modality {
            rows,
            pixel_bytes,
            pixels: pixels(pixel_bytes),
            run_id,
        }
    }

    pub fn study_uid(&self, study: usize) -> String {
        self.uid(study, 0, 0)
    }

    pub fn series_uid(&self, study: usize, series: usize) -> String {
        self.uid(study, series, 0)
    }

    fn uid(&self, study: usize, series: usize, instance: usize) -> String {
        let run_id = self.run_id;
        format!("2.25.1{run_id:014}{study:07}{series:04}{instance:04}")
    }
}

/// Patient's Name of a study.
pub fn name(study: usize) -> String {
    format!("BENCH{study:07}^IMAGES")
}

/// Patient ID of a study.
pub fn patient_id(study: usize) -> String {
    format!("B{study:07}")
}

/// `YYYYMMDD`; a study a day, for twelve months of 28.
pub fn study_date(study: usize) -> String {
    format!("2026{:02}{:02}", 1 + study / 28 % 12, 1 + study % 28)
}

/// Noise of 12 bits, twice as much as one image takes: each image is another window of it.
fn pixels(pixel_bytes: usize) -> Vec<u8> {
    let mut random = Random::new(4711);
    (0..pixel_bytes)
        .flat_map(|_| ((random.next() >> 52) as u16).to_le_bytes())
        .collect()
}

/// One CT image; all have the same length, and no two the same bytes.
pub struct Image<'a> {
    pub sop: String,
    number: usize,
    /// The data set up to the value of Pixel Data.
    pub header: Vec<u8>,
    pub pixels: &'a [u8],
}

impl Image<'_> {
    pub fn new(modality: &Modality, place: Place) -> Image<'_> {
        let Place {
            study,
            series,
            number,
        } = place;
        let sop = modality.uid(study, series, number);
        // Padded to one width: all images have the same length.
        let position = format!("-250.0\\-250.0\\{:<6.2}", number as f64 * 1.25);
        let mut header = Vec::with_capacity(2048);
        let mut text = |group, element, vr: &str, value: &str| {
            let syntax = Syntax::EXPLICIT_LITTLE;
            put(
                &mut header,
                syntax,
                Tag(group, element),
                vr,
                value.as_bytes(),
            );
        };
        text(0x0008, 0x0005, "CS", "ISO_IR 100");
        text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
        text(0x0008, 0x0016, "UI", CT_IMAGE_STORAGE);
        text(0x0008, 0x0018, "UI", &sop);
        text(0x0008, 0x0020, "DA", &study_date(study));
        text(0x0008, 0x0021, "DA", &study_date(study));
        text(0x0008, 0x0022, "DA", &study_date(study));
        text(0x0008, 0x0030, "TM", "101500");
        text(0x0008, 0x0031, "TM", "101730");
        text(0x0008, 0x0050, "SH", &patient_id(study));
        text(0x0008, 0x0060, "CS", "CT");
        text(0x0008, 0x0070, "LO", "SYNTHETIC");
        text(0x0008, 0x0090, "PN", "");
        text(0x0008, 0x1030, "LO", "CT of noise");
        text(0x0008, 0x103E, "LO", "axial 1.25 mm");
        text(0x0010, 0x0010, "PN", &name(study));
        text(0x0010, 0x0020, "LO", &patient_id(study));
        text(0x0010, 0x0030, "DA", "19500101");
        text(0x0010, 0x0040, "CS", "O");
        text(0x0018, 0x0050, "DS", "1.25");
        text(0x0018, 0x0060, "DS", "120");
        text(0x0020, 0x000D, "UI", &modality.study_uid(study));
        text(0x0020, 0x000E, "UI", &modality.series_uid(study, series));
        text(0x0020, 0x0010, "SH", "1");
        text(0x0020, 0x0011, "IS", &format!("{series:<4}"));
        text(0x0020, 0x0012, "IS", "1");
        text(0x0020, 0x0013, "IS", &format!("{number:<4}"));
        text(0x0020, 0x0032, "DS", &position);
        text(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0");
        text(0x0020, 0x0052, "UI", &modality.uid(study, 0, 9999));
        text(0x0020, 0x1040, "LO", "");
        for (element, vr, value) in [
            (0x0002, "US", &1u16.to_le_bytes()[..]),
            (0x0004, "CS", b"MONOCHROME2"),
            (0x0010, "US", &modality.rows.to_le_bytes()),
            (0x0011, "US", &COLUMNS.to_le_bytes()),
            (0x0030, "DS", b"0.9765625\\0.9765625"),
            (0x0100, "US", &16u16.to_le_bytes()),
            (0x0101, "US", &12u16.to_le_bytes()),
            (0x0102, "US", &11u16.to_le_bytes()),
            (0x0103, "US", &0u16.to_le_bytes()),
            (0x1050, "DS", b"40"),
            (0x1051, "DS", b"400"),
            (0x1052, "DS", b"-1024"),
            (0x1053, "DS", b"1"),
        ] {
            let tag = Tag(0x0028, element);
            put(&mut header, Syntax::EXPLICIT_LITTLE, tag, vr, value);
        }
        // Pixel Data (7FE0,0010), OW, in little endian.
        header.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
        header.extend((modality.pixel_bytes as u32).to_le_bytes());
        let from = (study * 104_729 + series * 7_919 + number * 1_009) * 2 % modality.pixel_bytes;
        Image {
            sop,
            number,
            header,
            pixels: &modality.pixels[from..from + modality.pixel_bytes],
        }
    }

    pub fn bytes(&self) -> usize {
        self.header.len() + self.pixels.len()
    }

    /// The command of its C-STORE, as one P-DATA-TF PDU (PS3.7 9.3.1.1).
    fn command(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        let mut element = |element, value: &[u8]| {
            let syntax = Syntax::IMPLICIT_LITTLE;
            put(&mut body, syntax, Tag(0, element), "UI", value);
        };
        element(0x0002, CT_IMAGE_STORAGE.as_bytes());
        element(0x0100, &wire::C_STORE_RQ.to_le_bytes());
        element(0x0110, &(self.number as u16).to_le_bytes());
        element(0x0700, &0u16.to_le_bytes());
        element(0x0800, &1u16.to_le_bytes());
        element(0x1000, self.sop.as_bytes());
        let mut command = vec![0, 0, 0, 0, 4, 0, 0, 0];
        command.extend((body.len() as u32).to_le_bytes());
        command.extend(body);
        wire::pdv(CONTEXT_ID, true, true, &command)
    }

    pub fn wire_bytes(&self, pdu_max: usize) -> usize {
        let pdus = self.bytes().div_ceil(pdu_max - PDV_HEADER);
        self.command().len() + self.bytes() + pdus * (PDU_HEADER + PDV_HEADER)
    }
}

const PDU_HEADER: usize = 6;
const PDV_HEADER: usize = 6;

/// One connection that images go out on: no copy of the pixels, one `writev` for an image.
pub struct Link {
    stream: TcpStream,
    /// Longest P-DATA-TF variable field that the peer takes, in bytes.
    pdu_max: usize,
}

impl Link {
    pub fn new(stream: TcpStream, pdu_max: usize) -> Link {
        Link { stream, pdu_max }
    }

    /// Over an association that is there.
    pub fn of(client: &mut Client) -> Link {
        assert_eq!(client.accepted(CONTEXT_ID), Some(wire::EXPLICIT_LITTLE));
        let pdu_max = client.peer_pdu_max() as usize;
        let stream = client.stream().try_clone().expect("the socket");
        Link::new(stream, if pdu_max == 0 { 131_072 } else { pdu_max })
    }

    /// Sends a C-STORE and waits for its answer, which must be 0000H; [`io::ErrorKind::Other`]: it is another.
    pub fn store(&mut self, image: &Image) -> io::Result<()> {
        let command = image.command();
        let room = self.pdu_max - PDV_HEADER;
        let mut left = image.bytes();
        let mut heads = Vec::with_capacity(16);
        while left > 0 {
            let piece = left.min(room);
            left -= piece;
            let mut head = [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, CONTEXT_ID, 0];
            head[2..6].copy_from_slice(&((piece + PDV_HEADER) as u32).to_be_bytes());
            head[6..10].copy_from_slice(&((piece + 2) as u32).to_be_bytes());
            head[11] = if left == 0 { 2 } else { 0 };
            heads.push((head, piece));
        }
        let mut slices = Vec::with_capacity(3 * heads.len() + 1);
        slices.push(IoSlice::new(&command));
        let (mut header, mut pixels) = (&image.header[..], image.pixels);
        for (head, piece) in &heads {
            slices.push(IoSlice::new(head));
            let (first, rest) = header.split_at(header.len().min(*piece));
            header = rest;
            if !first.is_empty() {
                slices.push(IoSlice::new(first));
            }
            let (second, rest) = pixels.split_at(piece - first.len());
            pixels = rest;
            slices.push(IoSlice::new(second));
        }
        write_all(&mut self.stream, &mut slices)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        let mut filled = 0;
        let end = loop {
            // It does not last; without it the peer may wait 40 ms for our acknowledgement.
            SockRef::from(&self.stream).set_tcp_quickack(true)?;
            match self.stream.read(&mut buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
            if filled >= PDU_HEADER {
                let length = u32::from_be_bytes([buffer[2], buffer[3], buffer[4], buffer[5]]);
                let end = PDU_HEADER + length as usize;
                if filled >= end || end > buffer.len() {
                    break end;
                }
            }
        };
        if buffer[0] != 4 || end != filled || end < PDU_HEADER + PDV_HEADER {
            return Err(io::Error::other(format!(
                "PDU type {:02X}H is no answer",
                buffer[0]
            )));
        }
        let command = elements::elements(&buffer[PDU_HEADER + PDV_HEADER..end]);
        match elements::raw(&command, 0, 0x0900) {
            Some([0, 0]) => Ok(()),
            Some([low, high]) => {
                let comment = elements::find(&command, 0, 0x0902).unwrap_or_default();
                let text = format!("answered {high:02X}{low:02X}H {comment}");
                Err(io::Error::other(text))
            }
            _ => Err(io::Error::other("an answer without status")),
        }
    }
}

pub fn write_all(out: &mut impl Write, mut slices: &mut [IoSlice]) -> io::Result<()> {
    while !slices.is_empty() {
        match out.write_vectored(slices)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => IoSlice::advance_slices(&mut slices, count),
        }
    }
    Ok(())
}

/// Unit of the times in `/proc/PID/stat`, per second: USER_HZ, 100 wherever Linux runs today.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process, seconds: fields 14 and 15 of `/proc/PID/stat` (proc(5)).
pub fn process_cpu(pid: u32) -> f64 {
    times(pid, 2).expect("the server's process")
}

/// The same with that of its children that have ended and were waited for; `None` when it has itself.
pub fn process_and_children_cpu(pid: u32) -> Option<f64> {
    times(pid, 4)
}

fn times(pid: u32, fields: usize) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let fields = after_name.split_whitespace().skip(11).take(fields);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / TICKS_PER_SECOND)
}
