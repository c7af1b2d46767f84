//! Small data sets: query identifiers and made-up instances.

use super::elements::Syntax;

/// Group and element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16, pub u16);

pub const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// Appends one element, padded to even length (NUL for UI and binary, else a space).
pub fn put(out: &mut Vec<u8>, syntax: Syntax, tag: Tag, vr: &str, value: &[u8]) {
    assert!(!syntax.big, "only little endian is written");
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    let length = value.len() + value.len() % 2;
    if !syntax.explicit {
        out.extend((length as u32).to_le_bytes());
    } else if matches!(vr, "OB" | "OW" | "SQ" | "UN" | "UT" | "UC" | "UR") {
        out.extend(vr.as_bytes());
        out.extend([0, 0]);
        out.extend((length as u32).to_le_bytes());
    } else {
        out.extend(vr.as_bytes());
        out.extend((length as u16).to_le_bytes());
    }
    out.extend(value);
    if value.len() % 2 == 1 {
        out.push(match vr {
            "UI" | "OB" | "UN" => 0,
            _ => b' ',
        });
    }
}

/// An identifier in implicit VR little endian, in tag order.
pub fn ident(keys: &[(Tag, &str, &str)]) -> Vec<u8> {
    let mut sorted = keys.to_vec();
    sorted.sort_by_key(|(tag, _, _)| *tag);
    let mut out = Vec::new();
    for (tag, vr, value) in sorted {
        put(&mut out, Syntax::IMPLICIT_LITTLE, tag, vr, value.as_bytes());
    }
    out
}

/// An identifier of a level with the given UIDs; empty ones are asked for.
pub fn by_uids(level: &str, study: &str, series: Option<&str>, sop: Option<&str>) -> Vec<u8> {
    let mut keys = vec![
        (Tag(0x0008, 0x0052), "CS", level),
        (Tag(0x0020, 0x000D), "UI", study),
    ];
    if let Some(series) = series {
        keys.push((Tag(0x0020, 0x000E), "UI", series));
    }
    if let Some(sop) = sop {
        keys.push((Tag(0x0008, 0x0018), "UI", sop));
    }
    ident(&keys)
}

/// Facts of a made-up CT image; the defaults make a good one.
pub struct Ct<'a> {
    pub study: &'a str,
    pub series: &'a str,
    pub sop: &'a str,
    pub number: u32,
    /// Pixel data, in bytes.
    pub pixel_bytes: usize,
    pub patient_id: &'a str,
    pub patient_name: &'a str,
    pub study_date: &'a str,
    pub explicit: bool,
}

impl<'a> Ct<'a> {
    pub fn new(study: &'a str, series: &'a str, sop: &'a str) -> Ct<'a> {
        Ct {
            study,
            series,
            sop,
            number: 1,
            pixel_bytes: 512,
            patient_id: "TEST-1",
            patient_name: "TEST^SYNTHETIC",
            study_date: "20260115",
            explicit: false,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let syntax = Syntax {
            explicit: self.explicit,
            big: false,
        };
        let number = self.number.to_string();
        let rows = (self.pixel_bytes / 2).clamp(1, 65_535) as u16;
        let mut out = Vec::with_capacity(self.pixel_bytes + 1024);
        let mut text = |group, element, vr: &str, value: &str| {
            put(&mut out, syntax, Tag(group, element), vr, value.as_bytes());
        };
        text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
        text(0x0008, 0x0016, "UI", CT_IMAGE_STORAGE);
        text(0x0008, 0x0018, "UI", self.sop);
        text(0x0008, 0x0020, "DA", self.study_date);
        text(0x0008, 0x0030, "TM", "101500");
        text(0x0008, 0x0050, "SH", "ACC-1");
        text(0x0008, 0x0060, "CS", "CT");
        text(0x0008, 0x1030, "LO", "synthetic study");
        text(0x0010, 0x0010, "PN", self.patient_name);
        text(0x0010, 0x0020, "LO", self.patient_id);
        text(0x0020, 0x000D, "UI", self.study);
        text(0x0020, 0x000E, "UI", self.series);
        text(0x0020, 0x0011, "IS", "1");
        text(0x0020, 0x0013, "IS", &number);
        for (element, value) in [
            (0x0002, 1),
            (0x0010, rows),
            (0x0011, 1),
            (0x0100, 16),
            (0x0101, 12),
            (0x0102, 11),
            (0x0103, 0),
        ] {
            let tag = Tag(0x0028, element);
            put(&mut out, syntax, tag, "US", &value.to_le_bytes());
        }
        let tag = Tag(0x7FE0, 0x0010);
        let pixels = pixels(self.sop, self.pixel_bytes);
        put(&mut out, syntax, tag, "OW", &pixels);
        out
    }
}

/// Bytes that differ from instance to instance and do not compress.
fn pixels(sop: &str, count: usize) -> Vec<u8> {
    let seed = sop.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let mut random = super::Random::new(seed);
    let mut out = Vec::with_capacity(count + 8);
    while out.len() < count {
        out.extend(random.next().to_le_bytes());
    }
    out.truncate(count);
    out
}

/// A made-up CT data set; the same arguments give the same bytes.
pub fn synthetic_ct(
    study: &str,
    series: &str,
    sop: &str,
    number: u32,
    pixel_bytes: usize,
    explicit: bool,
) -> Vec<u8> {
    Ct {
        number,
        pixel_bytes,
        explicit,
        ..Ct::new(study, series, sop)
    }
    .encode()
}
