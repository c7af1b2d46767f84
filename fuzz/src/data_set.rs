//! Data sets, in files and out of them.

use std::io::Cursor;

use kura::dicom::amend::{AmendError, Amendment, Reason, Rewriter, Value};
use kura::dicom::convert::{ConvertError, Converter};
use kura::dicom::differences::{Outline, differences};
use kura::dicom::fragments::Fragments;
use kura::dicom::key_objects::KeyObjectsReader;
use kura::dicom::{
    Attributes, Level, ReferencesReader, Scanner, Wanted, read_meta, read_start, scan, tags, ts,
};

use super::input::{Input, pieces};

const SYNTAXES: &[&str] = &[
    ts::EXPLICIT_VR_LITTLE_ENDIAN,
    ts::IMPLICIT_VR_LITTLE_ENDIAN,
    ts::EXPLICIT_VR_BIG_ENDIAN,
    ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ts::JPEG_BASELINE,
    ts::GE_PRIVATE_IMPLICIT,
];

const LEVELS: [Level; 4] = [Level::Patient, Level::Study, Level::Series, Level::Instance];

/// In pieces a data set says what it says as a whole, errors included.
pub fn data_set_scan(data: &[u8]) {
    let mut input = Input::new(data);
    let syntax = input.one_of(SYNTAXES);
    let wanted = input.one_of(&[Wanted::Indexed, Wanted::All]);
    let seed = input.word();
    let bytes = input.rest();
    let whole = scan(bytes, syntax, wanted);
    let mut scanner = Scanner::new(syntax, wanted);
    let fed = pieces(bytes, seed)
        .into_iter()
        .try_for_each(|piece| scanner.feed(piece));
    let split = fed.and_then(|()| scanner.finish());
    match (&whole, &split) {
        (Ok(whole), Ok(split)) => assert_alike(whole, split),
        // Of deflated bytes the place is known as well as they were read.
        (Err(_), Err(_)) if syntax == ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => {}
        (Err(whole), Err(split)) => assert_eq!(whole, split),
        (whole, split) => panic!("whole: {whole:?}, in pieces: {split:?}"),
    }
    let outline = Outline::of(bytes, syntax);
    assert_eq!(outline.is_ok(), whole.is_ok());
    if let Ok(outline) = outline {
        let mut other = Outline::new(syntax);
        for piece in pieces(bytes, seed) {
            other.feed(piece).expect("as the whole");
        }
        other.finish().expect("as the whole");
        assert_eq!(differences(&outline, &other), []);
    }
    if syntax != ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        let found = Fragments::of(bytes, syntax);
        assert_eq!(found.is_ok(), whole.is_ok());
        for range in found.iter().flat_map(|found| &found.fragments) {
            assert!(range.end <= bytes.len());
        }
    }
}

fn assert_alike(one: &Attributes, other: &Attributes) {
    assert!(one.iter().eq(other.iter()));
    assert!(one.tags().eq(other.tags()));
    for (tag, _) in one.tags() {
        assert_eq!(one.text(tag), other.text(tag));
        assert_eq!(one.items(tag), other.items(tag));
    }
    for level in LEVELS {
        assert_eq!(one.values(level), other.values(level));
    }
}

/// What is read of a file's beginning is written and read as the same.
pub fn part10(data: &[u8]) {
    let meta = read_meta(&mut Cursor::new(data));
    let start = read_start(&mut Cursor::new(data));
    if let Ok((meta, offset)) = &meta {
        let (started, from) = start.as_ref().expect("a file with its beginning");
        assert_eq!((started, from), (meta, offset));
    }
    let Ok((meta, offset)) = start else {
        return;
    };
    let offset = usize::try_from(offset).expect("an offset");
    let data_set = data.get(offset..).expect("within the file");
    let _ = scan(data_set, &meta.transfer_syntax, Wanted::Indexed);
    let texts = [
        &meta.sop_class_uid,
        &meta.sop_instance_uid,
        &meta.transfer_syntax,
        &meta.source_ae_title,
    ];
    // Other characters are kept to be shown, and lengths of 16 bits are those of what may be written.
    if texts
        .iter()
        .all(|text| text.is_ascii() && text.len() < 0xFFFE)
    {
        let encoded = meta.encode();
        let (again, offset) = read_meta(&mut Cursor::new(&encoded)).expect("our own");
        assert_eq!((again, offset), (meta, encoded.len() as u64));
    }
}

fn converted(bytes: &[u8], from: &str, explicit: bool, seed: u16) -> Result<Vec<u8>, ConvertError> {
    let mut converter = Converter::new(from, explicit);
    let mut out = Vec::new();
    for piece in pieces(bytes, seed) {
        converter.feed(piece, &mut out)?;
    }
    converter.finish(&mut out)?;
    Ok(out)
}

/// What is written is a data set; written once more it stays as it is; and pieces make no difference.
pub fn convert(data: &[u8]) {
    let mut input = Input::new(data);
    let syntax = input.one_of(SYNTAXES);
    let explicit = input.byte() & 1 == 0;
    let seed = input.word();
    let bytes = input.rest();
    let whole = converted(bytes, syntax, explicit, 0);
    let split = converted(bytes, syntax, explicit, seed);
    assert_eq!(whole.is_ok(), split.is_ok());
    let (Ok(whole), Ok(split)) = (whole, split) else {
        return;
    };
    assert!(whole == split, "other bytes in pieces");
    let written = match explicit {
        true => ts::EXPLICIT_VR_LITTLE_ENDIAN,
        false => ts::IMPLICIT_VR_LITTLE_ENDIAN,
    };
    scan(&whole, written, Wanted::All).expect("a data set");
    let again = converted(&whole, written, explicit, 0).expect("a data set");
    assert!(again == whole, "other bytes the second time");
}

/// The new values are in it and the old ones are not; nothing else is different; and pieces make no difference.
pub fn amend(data: &[u8]) {
    let mut input = Input::new(data);
    let syntax = input.one_of(SYNTAXES);
    let flags = input.byte();
    let seed = input.word();
    let mut changes = Vec::new();
    for (bit, tag) in [
        tags::PATIENT_NAME,
        tags::PATIENT_ID,
        tags::ACCESSION_NUMBER,
        tags::OTHER_PATIENT_NAMES,
    ]
    .into_iter()
    .enumerate()
    {
        if flags >> bit & 1 == 0 {
            continue;
        }
        let kind = input.byte();
        let length = usize::from(kind >> 2);
        let text = String::from_utf8_lossy(input.take(length)).into_owned();
        changes.push((
            tag,
            match kind & 3 {
                0 => Value::Absent,
                1 => Value::Empty,
                2 => Value::Several(text.split('\\').map(str::to_owned).collect()),
                _ => Value::Text(text),
            },
        ));
    }
    let amendment = Amendment {
        changes: changes.clone(),
        modified_at: "20260115101500".to_owned(),
        modifying_system: "KURA".to_owned(),
        previous_source: String::new(),
        reason: Reason::Correct,
        allow_utf8: flags & 0x40 != 0,
    };
    let recorded = flags & 0x80 == 0;
    let bytes = input.rest();
    let amended = |seed| -> Result<Vec<u8>, AmendError> {
        let mut rewriter = match recorded {
            true => Rewriter::new(syntax, &amendment)?,
            false => Rewriter::unrecorded(syntax, changes.clone())?,
        };
        let mut out = Vec::new();
        let mut growth = None;
        for piece in pieces(bytes, seed) {
            rewriter.feed(piece, &mut out)?;
            let now = rewriter.growth();
            assert!(
                growth.is_none() || now == growth,
                "{growth:?}, then {now:?}"
            );
            growth = now;
        }
        rewriter.finish(&mut out)?;
        if let Some(growth) = growth {
            assert_eq!(bytes.len() as i64 + growth, out.len() as i64);
        }
        Ok(out)
    };
    let whole = amended(0);
    let split = amended(seed);
    let (Ok(whole), Ok(split)) = (&whole, &split) else {
        assert_eq!(whole.is_ok(), split.is_ok(), "{whole:?} {split:?}");
        return;
    };
    let deflated = syntax == ts::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
    assert!(deflated || whole == split, "other bytes in pieces");
    let after = scan(whole, syntax, Wanted::All).expect("a data set");
    for (tag, value) in &changes {
        let there = after.contains(*tag);
        match value {
            Value::Absent => assert!(!there, "{tag} is still there"),
            Value::Empty => assert_eq!(after.raw(*tag), Some(&[][..])),
            Value::Text(text) => {
                let text = text.trim_matches([' ', '\0']);
                assert_eq!(after.text(*tag).unwrap_or_default(), text);
            }
            Value::Several(_) => assert!(there),
        }
    }
    let (Ok(before), Ok(after)) = (Outline::of(bytes, syntax), Outline::of(whole, syntax)) else {
        panic!("amended, and no data set");
    };
    // In UTF-8 every text is other bytes.
    if !amendment.allow_utf8 {
        for difference in differences(&before, &after) {
            let is_ours = changes.iter().any(|(tag, _)| *tag == difference.tag)
                || difference.tag == tags::ORIGINAL_ATTRIBUTES_SEQUENCE
                || difference.tag == tags::SPECIFIC_CHARACTER_SET
                || difference.tag.element() == 0;
            assert!(is_ours, "{difference:?}");
        }
    }
}

/// Storage commitment and key objects: pieces make no difference, and what is written is read as the same.
pub fn references(data: &[u8]) {
    let mut input = Input::new(data);
    let syntax = input.one_of(&SYNTAXES[..2]);
    let seed = input.word();
    let bytes = input.rest();
    let read = |bytes: &[u8], syntax, seed| {
        let mut reader = ReferencesReader::new(syntax);
        for piece in pieces(bytes, seed) {
            reader.feed(piece).map_err(|error| error.to_string())?;
        }
        reader.finish().map_err(|error| error.to_string())
    };
    let whole = read(bytes, syntax, 0);
    assert_eq!(whole, read(bytes, syntax, seed));
    if let Ok(found) = &whole {
        let all = found.instances.iter();
        let all = all.chain(found.failed.iter().map(|(failed, _)| failed));
        let mut texts = vec![&found.transaction_uid, &found.retrieve_ae_title];
        texts.extend(all.flat_map(|one| [&one.sop_class_uid, &one.sop_instance_uid]));
        if texts.iter().all(|text| text.is_ascii()) {
            for (explicit, syntax) in [(true, SYNTAXES[0]), (false, SYNTAXES[1])] {
                assert_eq!(read(&found.encode(explicit), syntax, 0).as_ref(), Ok(found));
            }
        }
    }
    let read = |seed| {
        let mut reader = KeyObjectsReader::new(syntax);
        for piece in pieces(bytes, seed) {
            reader.feed(piece).map_err(|error| error.to_string())?;
        }
        reader.finish().map_err(|error| error.to_string())
    };
    assert_eq!(read(0), read(seed));
}

/// The first byte of an input of these targets, for a data set of that transfer syntax.
pub fn seed_syntax(transfer_syntax: &str) -> u8 {
    let at = SYNTAXES.iter().position(|one| *one == transfer_syntax);
    // Another one is a compressed one.
    at.map_or(4, |at| at as u8)
}
