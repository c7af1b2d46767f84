//! Promise: files of real devices and other programs are scanned, or refused with a reason, alike however they arrive.
//!
//! The files are not part of the source; where there is no folder of samples, those that the project makes are read.

mod common;

use kura::dicom::{ScanError, Scanner, Wanted, read_meta, scan, tags};

/// Everything kept of a data set fed in pieces of a size.
fn in_pieces(bytes: &[u8], transfer_syntax: &str, size: usize) -> Result<String, ScanError> {
    let mut scanner = Scanner::new(transfer_syntax, Wanted::All);
    bytes
        .chunks(size)
        .try_for_each(|piece| scanner.feed(piece))?;
    let found = scanner.finish()?;
    let tags: Vec<_> = found.tags().collect();
    let values: Vec<_> = found.iter().collect();
    Ok(format!("{tags:?} {values:?}"))
}

/// Method: each file is scanned whole, in pieces of 1, 7 and 4096 bytes, and cut in half (which must not panic).
/// With `--nocapture` it lists what was found in each, or what was wrong.
#[test]
fn real_files_are_scanned_alike_in_pieces_of_any_size() {
    let folder = common::files::samples().unwrap_or_else(common::files::testdata);
    let mut count = 0;
    for entry in walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
    {
        let path = entry.path().display();
        let file = std::fs::read(entry.path()).expect("a sample can be read");
        let (meta, offset) = match read_meta(&mut file.as_slice()) {
            Ok(found) => found,
            Err(error) => {
                println!("no file meta\t{path}\t{error}");
                continue;
            }
        };
        let data_set = &file[usize::try_from(offset).expect("inside the file")..];
        let whole = in_pieces(data_set, &meta.transfer_syntax, usize::MAX);
        for size in [1, 7, 4096] {
            assert_eq!(
                in_pieces(data_set, &meta.transfer_syntax, size),
                whole,
                "{path} by {size}"
            );
        }
        let _ = in_pieces(&data_set[..data_set.len() / 2], &meta.transfer_syntax, 4096);
        match scan(data_set, &meta.transfer_syntax, Wanted::Indexed) {
            Ok(found) => {
                let name = found.text(tags::PATIENT_NAME).unwrap_or_default();
                let charset = found.text(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
                println!("ok\t{path}\t{charset}\t{name}");
            }
            Err(error) => println!("error\t{path}\t{}\t{error}", meta.transfer_syntax),
        }
        count += 1;
    }
    assert!(count > 0, "no DICOM file in the folder");
}
