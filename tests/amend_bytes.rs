//! Promise: an amended data set differs from the old one in what was changed and in nothing else, for our reader, for
//! pydicom and for DCMTK.
//!
//! Real files are not part of the source; where there is no folder of samples, those that the project makes are read.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::tools::{peer_script, run, run_within, tool};
use common::{build, dciodvfy, elements, files};
use kura::dicom::amend::{AmendError, Amendment, Reason, Rewriter, Value, amend, meta_after};
use kura::dicom::{FileMeta, Tag, Wanted, read_meta, scan, tags};

const ORIGINALS: Tag = tags::ORIGINAL_ATTRIBUTES_SEQUENCE;

/// A DICOM file in two parts.
struct Sample {
    path: PathBuf,
    meta: FileMeta,
    data_set: Vec<u8>,
}

/// Every file of `testdata/` and of the samples whose data set a scan takes.
fn good_samples() -> Vec<Sample> {
    let folder = files::samples();
    if folder.is_none() {
        eprintln!("skipped: no folder of samples (KURA_DICOM_SAMPLES); testdata only");
    }
    let folders = [Some(files::testdata()), folder];
    let paths = folders
        .iter()
        .flatten()
        .flat_map(|folder| files::below(folder));
    let samples: Vec<_> = paths.filter_map(sample).collect();
    assert!(samples.len() > 30, "only {} files", samples.len());
    samples
}

fn sample(path: PathBuf) -> Option<Sample> {
    let file = std::fs::read(&path).expect("a file of the folder can be read");
    let (meta, offset) = read_meta(&mut file.as_slice()).ok()?;
    let data_set = file[usize::try_from(offset).ok()?..].to_vec();
    scan(&data_set, &meta.transfer_syntax, Wanted::Indexed).ok()?;
    Some(Sample {
        path,
        meta,
        data_set,
    })
}

fn amendment(changes: &[(Tag, &str)], allow_utf8: bool) -> Amendment {
    let changes = changes
        .iter()
        .map(|(tag, text)| (*tag, Value::Text((*text).to_owned())));
    Amendment {
        changes: changes.collect(),
        modified_at: "20260102030405+0000".into(),
        modifying_system: "KURA".into(),
        previous_source: String::new(),
        reason: Reason::Correct,
        allow_utf8,
    }
}

/// What a merge changes: in ASCII, so that every character set has it.
const MERGE: [(Tag, &str); 5] = [
    (tags::PATIENT_ID, "AMENDED-0815"),
    (tags::PATIENT_NAME, "Amended^Name"),
    (tags::ACCESSION_NUMBER, "A-4711"),
    (tags::STUDY_DESCRIPTION, "amended study"),
    (tags::SOP_INSTANCE_UID, "1.2.826.0.1.3680043.9.9.1"),
];

/// Amended, or None where the order of the data set leaves open what is meant (printed).
fn amended(sample: &Sample, amendment: &Amendment) -> Option<Vec<u8>> {
    let shown = sample.path.display();
    match amend(&sample.data_set, &sample.meta.transfer_syntax, amendment) {
        Ok(after) => Some(after),
        Err(error @ (AmendError::OutOfOrder { .. } | AmendError::NotDecodable { .. })) => {
            println!("refused\t{shown}\t{error}");
            None
        }
        Err(error) => panic!("{shown}: {error}"),
    }
}

/// Method: each file through a rewriter that has nothing to change, in pieces of 4093 bytes.
#[test]
fn an_amendment_of_nothing_changes_no_byte() {
    for sample in good_samples() {
        let mut rewriter =
            Rewriter::new(&sample.meta.transfer_syntax, &amendment(&[], true)).expect("no change");
        let mut out = Vec::new();
        for piece in sample.data_set.chunks(4093) {
            rewriter.feed(piece, &mut out).expect("well formed");
        }
        rewriter.finish(&mut out).expect("well formed");
        assert!(out == sample.data_set, "{}", sample.path.display());
    }
}

/// Method: each file amended twice, whole and in pieces; all top-level elements are read by the tests' own reader and
/// compared.
#[test]
fn every_other_element_of_real_files_stays_as_it_was() {
    let (mut amended_count, mut refused_count) = (0, 0);
    for sample in good_samples() {
        let shown = sample.path.display();
        let syntax = &sample.meta.transfer_syntax;
        let Some(after) = amended(&sample, &amendment(&MERGE, false)) else {
            refused_count += 1;
            continue;
        };
        amended_count += 1;
        let mut rewriter = Rewriter::new(syntax, &amendment(&MERGE, false)).expect("good values");
        let mut pieces = Vec::new();
        for piece in sample.data_set.chunks(777) {
            rewriter.feed(piece, &mut pieces).expect("as whole");
        }
        rewriter.finish(&mut pieces).expect("as whole");
        assert!(pieces == after, "{shown}");

        let again = amendment(&[(tags::PATIENT_ID, "AMENDED AGAIN")], false);
        let twice = amend(&after, syntax, &again).expect("amended once");
        let found = scan(&twice, syntax, Wanted::All).unwrap_or_else(|e| panic!("{shown}: {e}"));
        let id = found.text(tags::PATIENT_ID);
        assert_eq!(id.as_deref(), Some("AMENDED AGAIN"), "{shown}");
        let name = found.text(tags::PATIENT_NAME);
        assert_eq!(name.as_deref(), Some("Amended^Name"), "{shown}");

        let (Some(before), Some(after), Some(twice)) = (
            elements::read(&sample.data_set, syntax),
            elements::read(&after, syntax),
            elements::read(&twice, syntax),
        ) else {
            println!("not read by the tests' own reader\t{shown}");
            continue;
        };
        let changed = |group: u16, element: u16| {
            let tag = Tag(group, element);
            element == 0 || tag == ORIGINALS || MERGE.iter().any(|(one, _)| *one == tag)
        };
        let others = |all: &[(common::build::Tag, Vec<u8>)]| -> Vec<_> {
            let kept = all.iter().filter(|(tag, _)| !changed(tag.0, tag.1));
            kept.cloned().collect()
        };
        assert!(others(&before) == others(&after), "{shown}");
        assert!(others(&before) == others(&twice), "{shown}");
        let length = |all: &[_]| elements::raw(all, 0x0400, 0x0561).map_or(0, <[u8]>::len);
        assert!(length(&before) < length(&after), "{shown}");
        assert!(length(&after) < length(&twice), "{shown}");
    }
    println!("{amended_count} amended, {refused_count} refused");
    assert!(amended_count > refused_count * 20);
}

/// Writes the amended files, with their file meta information, and says which came from where.
fn write_all(
    samples: &[Sample],
    folder: &Path,
    of: impl Fn(&Sample) -> (Amendment, bool),
) -> (Vec<(PathBuf, PathBuf)>, PathBuf) {
    let (mut pairs, mut list) = (Vec::new(), String::new());
    for (at, sample) in samples.iter().enumerate() {
        let (amendment, utf8) = of(sample);
        let Some(after) = amended(sample, &amendment) else {
            continue;
        };
        let path = folder.join(format!("{at}.dcm"));
        let mut file = meta_after(&sample.meta, &amendment).encode();
        file.extend_from_slice(&after);
        std::fs::write(&path, file).expect("write into the temporary folder");
        let changes: serde_json::Map<_, _> = amendment
            .changes
            .iter()
            .map(|(tag, value)| {
                let Value::Text(text) = value else {
                    panic!("a text");
                };
                (keyword(*tag).to_owned(), text.clone().into())
            })
            .collect();
        let line = serde_json::json!({
            "before": sample.path, "after": path, "changes": changes, "utf8": utf8,
        });
        list.push_str(&format!("{line}\n"));
        pairs.push((sample.path.clone(), path));
    }
    let path = folder.join("list");
    std::fs::write(&path, list).expect("write into the temporary folder");
    (pairs, path)
}

fn keyword(tag: Tag) -> &'static str {
    match tag {
        tags::PATIENT_ID => "PatientID",
        tags::PATIENT_NAME => "PatientName",
        tags::ACCESSION_NUMBER => "AccessionNumber",
        tags::STUDY_DESCRIPTION => "StudyDescription",
        tags::SOP_INSTANCE_UID => "SOPInstanceUID",
        _ => panic!("{tag} has no keyword here"),
    }
}

fn pydicom_agrees(list: &Path) {
    let Some(mut script) = peer_script("amended.py") else {
        return;
    };
    let outcome = run_within(
        script.arg(list).env("PYTHONIOENCODING", "utf-8"),
        std::time::Duration::from_secs(400),
    );
    assert!(outcome.success(), "{}", outcome.text());
    let lines: Vec<_> = outcome.stdout.lines().collect();
    let [said] = lines.as_slice() else {
        panic!("pydicom sees differences:\n{}", outcome.stdout);
    };
    println!("pydicom {said}");
}

/// Whether it could read the file.
fn dcmdump(program: &Path, path: &Path) -> bool {
    run(Command::new(program).args(["-q", "-M"]).arg(path)).success()
}

/// Method: the merge on every file; pydicom compares each pair, dcmdump reads each file that it could read before.
#[test]
fn other_programs_see_the_new_values_and_every_old_one() {
    let samples = good_samples();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pairs, list) = write_all(&samples, folder.path(), |_| {
        (amendment(&MERGE, false), false)
    });
    pydicom_agrees(&list);
    let Some(program) = tool("dcmdump") else {
        return;
    };
    let mut count = 0;
    for (before, after) in pairs {
        if dcmdump(&program, &before) {
            assert!(dcmdump(&program, &after), "{}", before.display());
            count += 1;
        }
    }
    println!("dcmdump read {count}");
    assert!(count > 0);
}

/// Why what a checker says of a file says nothing.
fn not_to_be_checked(sample: &Sample) -> Option<&'static str> {
    let deflated = "1.2.840.10008.1.2.1.99";
    if sample.meta.transfer_syntax == deflated {
        return Some("dciodvfy does not inflate");
    }
    let found = scan(&sample.data_set, &sample.meta.transfer_syntax, Wanted::All).ok()?;
    let class = found.uid(tags::SOP_CLASS_UID);
    match class.zip(found.uid(tags::SOP_INSTANCE_UID)) {
        Some(_) => None,
        None => Some("no archive has it: its data set names no SOP Class or SOP Instance UID"),
    }
}

/// File meta information as an archive writes it, also where the file has none.
fn with_meta(mut sample: Sample) -> Sample {
    let found = scan(&sample.data_set, &sample.meta.transfer_syntax, Wanted::All);
    let found = found.expect("it was read before");
    for (kept, tag) in [
        (&mut sample.meta.sop_class_uid, tags::SOP_CLASS_UID),
        (&mut sample.meta.sop_instance_uid, tags::SOP_INSTANCE_UID),
    ] {
        *kept = found.uid(tag).unwrap_or_default();
    }
    sample
}

/// Method: what dciodvfy says of each file before and after: the merge on real files, those of `testdata/` and one that the
/// tests make; on the last two also a change of the patient alone.
#[test]
fn a_checker_finds_no_new_error() {
    let Some(program) = dciodvfy::program() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut samples = good_samples();
    samples.push(generated(&folder.path().join("generated.dcm")));
    samples.retain(|sample| match not_to_be_checked(sample) {
        Some(reason) => {
            println!("not checked\t{}\t{reason}", sample.path.display());
            false
        }
        None => true,
    });
    let samples: Vec<Sample> = samples.into_iter().map(with_meta).collect();
    let merge = folder.path().join("merge");
    let patient = folder.path().join("patient");
    let mut found = Vec::new();
    for (folder, changes) in [(merge, &MERGE[..]), (patient, &MERGE[..3])] {
        std::fs::create_dir(&folder).expect("a folder");
        let (pairs, _) = write_all(&samples, &folder, |_| (amendment(changes, false), false));
        assert!(pairs.len() > 30);
        let all = changes.len() == MERGE.len();
        let ours = |path: &Path| path.starts_with(files::testdata()) || files::samples().is_none();
        for (before, after) in pairs.iter().filter(|(before, _)| all || ours(before)) {
            let errors = dciodvfy::new_errors(&program, before, after);
            if !errors.is_empty() {
                found.push(format!("{}: {errors:#?}", before.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// An image as the tests send them, as a file.
fn generated(path: &Path) -> Sample {
    let data_set = build::synthetic_ct("2.25.1", "2.25.1.1", "2.25.1.1.1", 1, 512, true);
    let meta = FileMeta {
        sop_class_uid: build::CT_IMAGE_STORAGE.into(),
        sop_instance_uid: "2.25.1.1.1".into(),
        transfer_syntax: "1.2.840.10008.1.2.1".into(),
        source_ae_title: "TESTER".into(),
    };
    let file = [meta.encode(), data_set].concat();
    std::fs::write(path, file).expect("write into the temporary folder");
    sample(path.to_path_buf()).expect("well formed")
}

#[test]
fn values_do_not_make_another_kind_of_error() {
    let of = |value| {
        dciodvfy::kind(&format!(
            "Error - Value invalid for this VR - (0x0010,0x0010) PN Patient's Name  PN [1] = <{value}>"
        ))
    };
    assert_eq!(of("A"), of("B = <C> ["));
    assert!(dciodvfy::kind("Error - Missing attribute Element=<Rows>").contains("Rows"));
}

/// A name in the script of a file's own character set.
fn local_name(charset: &str) -> Option<&'static str> {
    let names = [
        ("ISO 2022 IR 87", "Suzuki^Hanako=鈴木^花子=すずき^はなこ"),
        ("ISO 2022 IR 149", "Kim^Huijung=金^喜中=김^희중"),
        ("ISO 2022 IR 58", "Wang^XiaoDong=王^小东=小^东"),
        ("GB18030", "Wang^XiaoDong=王^小東=홍^길동"),
        ("GBK", "Wang^XiaoDong=王^小东=小^东"),
        ("ISO_IR 100", "Müller^Jérôme"),
        ("ISO_IR 101", "Wałęsa^Jan"),
        ("ISO_IR 126", "Διονυσιος^Νεος"),
        ("ISO_IR 127", "قباني^لنزارة"),
        ("ISO_IR 138", "שרון^דבורהה"),
        ("ISO_IR 144", "Люкceмбypг^Новый"),
        ("ISO_IR 148", "Çavuşoğlu"),
        ("ISO_IR 166", "นามสกุล"),
        ("ISO_IR 192", "Hong^Gildong=洪^吉洞=홍^길동"),
        // Behind 138, which begins like it.
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾊﾅｺ"),
    ];
    names
        .iter()
        .find(|(term, _)| charset.contains(term))
        .map(|(_, name)| *name)
}

/// Method: a name in the declared set of each file, read back by pydicom.
#[test]
fn names_are_written_in_the_declared_character_set() {
    let samples: Vec<_> = good_samples();
    let charset_of = |sample: &Sample| {
        let found = scan(&sample.data_set, &sample.meta.transfer_syntax, Wanted::All);
        let charset = found
            .ok()
            .and_then(|all| all.text(tags::SPECIFIC_CHARACTER_SET));
        charset.unwrap_or_default()
    };
    let samples: Vec<_> = samples
        .into_iter()
        .filter(|sample| local_name(&charset_of(sample)).is_some())
        .collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pairs, list) = write_all(&samples, folder.path(), |sample| {
        let name = local_name(&charset_of(sample)).expect("filtered");
        (amendment(&[(tags::PATIENT_NAME, name)], false), false)
    });
    assert!(pairs.len() > 10);
    pydicom_agrees(&list);
}

/// Method: a name that no other set has; pydicom reads every text of each file as it did before.
#[test]
fn in_utf_8_every_text_says_what_it_said() {
    let samples = good_samples();
    let name = "Łukasz^Ωmega=山田^홍=やまだ";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pairs, list) = write_all(&samples, folder.path(), |_| {
        (amendment(&[(tags::PATIENT_NAME, name)], true), true)
    });
    assert!(pairs.len() > 30);
    pydicom_agrees(&list);
}
