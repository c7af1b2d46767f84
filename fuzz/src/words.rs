//! Text: character sets, names, and what a person writes.

use std::path::Path;

use kura::config::Config;
use kura::config::conquest;
use kura::dicom::{AeTitle, Answering, CharacterSet, TextEncoder, VR, extra_keys, items, uid};
use kura::index::{birth_dates_agree, names_agree};

use super::disks::scratch;
use super::input::Input;

const TERMS: &[&str] = &[
    "",
    "ISO_IR 6",
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 144",
    "ISO_IR 127",
    "ISO_IR 13",
    "ISO_IR 166",
    "ISO_IR 192",
    "GB18030",
    "GBK",
    "ISO 2022 IR 6",
    "ISO 2022 IR 13",
    "ISO 2022 IR 87",
    "ISO 2022 IR 159",
    "ISO 2022 IR 149",
    "ISO 2022 IR 58",
    "ISO 2022 IR 100",
    "ISO 2022 IR 126",
];

const VRS: &[VR] = &[
    VR::PN,
    VR::LO,
    VR::SH,
    VR::UT,
    VR::ST,
    VR::LT,
    VR::UC,
    VR::UI,
    VR::CS,
    VR::UN,
];

/// What can be written is read as the same text, in a data set as in an answer.
pub fn charset(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let declared = match kind & 3 {
        0 => {
            let length = usize::from(input.byte());
            String::from_utf8_lossy(input.take(length)).into_owned()
        }
        count => {
            let terms: Vec<&str> = (0..count).map(|_| input.one_of(TERMS)).collect();
            terms.join("\\")
        }
    };
    let vr = VRS[usize::from(kind >> 2) % VRS.len()];
    let bytes = input.rest();
    let reader = CharacterSet::new(&declared);
    let text = reader.decode(bytes, vr);
    // No character takes less than a byte, nor becomes more than three.
    assert!(text.len() <= 3 * bytes.len().max(1), "{}", text.len());
    let writer = TextEncoder::new(&declared);
    for text in [text.as_str(), &String::from_utf8_lossy(bytes)] {
        if let Some(written) = writer.encode(text, vr) {
            assert_eq!(
                reader.decode(&written, vr),
                text,
                "{declared:?} {written:02X?}"
            );
        }
        let answering = Answering::new(&declared);
        let set = answering.choose(&[(text, vr)]);
        let written = set.encode(text, vr);
        let is_text = !matches!(vr, VR::UI | VR::CS | VR::UN);
        if is_text && !text.contains('\x1B') {
            let read = CharacterSet::new(set.term()).decode(&written, vr);
            assert_eq!(read, text, "{declared:?}, answered in {:?}", set.term());
        }
    }
}

/// Small texts of many kinds.
pub fn texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(title) = text.parse::<AeTitle>() {
        assert_eq!(title.as_str().parse().as_ref(), Ok(&title));
    }
    let _ = extra_keys::parse(&text);
    let found = items::from_text(&text);
    assert_eq!(items::from_text(&items::to_text(&found)), found);
    let _ = items::joined([&text.clone().into_owned()]);
    let trimmed = uid::trim_uid(data);
    assert!(!uid::is_conforming(&trimmed) || trimmed.len() <= uid::UID_LENGTH_MAX);
    let (one, other) = text.split_once('\n').unwrap_or((&text, ""));
    assert_eq!(names_agree(one, other), names_agree(other, one));
    assert_eq!(birth_dates_agree(one, other), birth_dates_agree(other, one));
}

/// A configuration is one, or there is a sentence that says why not; and so is what another program was set up with.
pub fn config(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let name = match kind % 4 {
        0 => "acrnema.map",
        1 => "dicom.ini",
        _ => {
            let Ok(text) = std::str::from_utf8(text) else {
                return;
            };
            if let Err(reason) = Config::of_text_at(text, Path::new("/nowhere/kura.toml")) {
                assert!(!reason.trim().is_empty());
            }
            return;
        }
    };
    let folder = scratch();
    let file = folder.path().join(name);
    std::fs::write(&file, text).expect("a file");
    if let Ok(taken) = conquest::read(folder.path()) {
        let written = folder.path().join("kura.toml");
        // Whatever was taken: what is written is a configuration, or nothing is.
        if conquest::write(&written, &taken).is_ok() {
            Config::load(Some(&written)).expect("a configuration");
        }
    }
}
