//! Made-up images that look like something: for who looks at pictures, or takes them apart.

use super::build::{CT_IMAGE_STORAGE, Tag, put};
use super::elements::Syntax;

/// Facts of an image; the defaults make a good one.
pub struct Drawn<'a> {
    pub study: &'a str,
    pub series: &'a str,
    pub sop: &'a str,
    pub number: u32,
    pub patient_id: &'a str,
    pub patient_name: &'a str,
    pub study_date: &'a str,
    pub modality: &'a str,
    pub description: &'a str,
    pub accession: &'a str,
    pub rows: u16,
    pub columns: u16,
    /// In place of the drawn pixels: what follows the header of Pixel Data, with it.
    pub pixel_data: Option<Vec<u8>>,
}

impl<'a> Drawn<'a> {
    pub fn new(study: &'a str, series: &'a str, sop: &'a str) -> Drawn<'a> {
        Drawn {
            study,
            series,
            sop,
            number: 1,
            patient_id: "TEST-1",
            patient_name: "TEST^SYNTHETIC",
            study_date: "20260115",
            modality: "CT",
            description: "synthetic study",
            accession: "ACC-1",
            rows: 64,
            columns: 96,
            pixel_data: None,
        }
    }

    /// In explicit VR little endian; texts in UTF-8.
    pub fn encode(&self) -> Vec<u8> {
        let syntax = Syntax::EXPLICIT_LITTLE;
        let number = self.number.to_string();
        let mut out = Vec::new();
        let mut text = |group, element, vr: &str, value: &str| {
            put(&mut out, syntax, Tag(group, element), vr, value.as_bytes());
        };
        text(0x0008, 0x0005, "CS", "ISO_IR 192");
        text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
        text(0x0008, 0x0016, "UI", CT_IMAGE_STORAGE);
        text(0x0008, 0x0018, "UI", self.sop);
        text(0x0008, 0x0020, "DA", self.study_date);
        text(0x0008, 0x0030, "TM", "101500");
        text(0x0008, 0x0050, "SH", self.accession);
        text(0x0008, 0x0060, "CS", self.modality);
        text(0x0008, 0x1030, "LO", self.description);
        text(0x0008, 0x103E, "LO", self.description);
        text(0x0010, 0x0010, "PN", self.patient_name);
        text(0x0010, 0x0020, "LO", self.patient_id);
        text(0x0020, 0x000D, "UI", self.study);
        text(0x0020, 0x000E, "UI", self.series);
        text(0x0020, 0x0011, "IS", "1");
        text(0x0020, 0x0013, "IS", &number);
        text(0x0028, 0x0004, "CS", "MONOCHROME2");
        for (element, value) in [
            (0x0002, 1),
            (0x0010, self.rows),
            (0x0011, self.columns),
            (0x0100, 16),
            (0x0101, 12),
            (0x0102, 11),
            (0x0103, 0),
        ] {
            let value = u16::to_le_bytes(value);
            put(&mut out, syntax, Tag(0x0028, element), "US", &value);
        }
        match &self.pixel_data {
            Some(pixels) => out.extend(pixels),
            None => put(&mut out, syntax, Tag(0x7FE0, 0x0010), "OW", &self.pixels()),
        }
        out
    }

    /// A bright ring in the dark, and in it a spot that goes round with the instance number.
    fn pixels(&self) -> Vec<u8> {
        let (rows, columns) = (f32::from(self.rows), f32::from(self.columns));
        let angle = self.number as f32 / 4.0;
        let mut out = Vec::new();
        for y in 0..self.rows {
            for x in 0..self.columns {
                let (x, y) = (
                    (f32::from(x) - columns / 2.0) / columns * 2.0,
                    (f32::from(y) - rows / 2.0) / rows * 2.0,
                );
                let radius = (x * x + y * y).sqrt();
                let spot = (x - angle.cos() * 0.4).hypot(y - angle.sin() * 0.4);
                let value = match radius {
                    _ if spot < 0.12 => 2500,
                    radius if radius > 0.9 => 20,
                    radius if radius > 0.78 => 3500,
                    radius => 900 + (600.0 * radius * (7.0 * x).sin().abs()) as u16,
                };
                out.extend(value.to_le_bytes());
            }
        }
        out
    }
}

/// Pixel Data of one frame in one fragment.
pub fn encapsulated(fragment: &[u8]) -> Vec<u8> {
    let mut out =
        b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\0\0\0\0\xFE\xFF\0\xE0".to_vec();
    let even = fragment.len() + fragment.len() % 2;
    out.extend((even as u32).to_le_bytes());
    out.extend(fragment);
    out.resize(out.len() + even - fragment.len(), 0);
    out.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    out
}

/// An RLE frame of 16-bit samples (PS3.5 Annex G): small, however large the image is.
pub fn rle(rows: u16, columns: u16) -> Vec<u8> {
    let pixels = usize::from(rows) * usize::from(columns);
    let mut out = vec![0; 64];
    for segment in 0..2 {
        let begin = out.len() as u32;
        out[4 + 4 * segment..8 + 4 * segment].copy_from_slice(&begin.to_le_bytes());
        for run in 0..pixels.div_ceil(128) {
            out.extend([129, (run / 7) as u8]);
        }
    }
    out[..4].copy_from_slice(&2_u32.to_le_bytes());
    out
}
