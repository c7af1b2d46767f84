//! Files of corrections, as the disks and the index have them afterwards. Amendments are made here line by line, with
//! data sets of another patient.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::archive::content::{contents, hidden_content};
use crate::archive::corrections::tidy_plan::{TRASH_EMPTIED, id_of};
use crate::archive::{Announced, Archive, Mode, Selected};
use crate::config::Config;
use crate::dicom::elements;
use crate::index::{
    Copy, CorrectionFacts, Did, Hidden, InstanceEntry, Origin, Ruling, Stored, Values, Verdict,
};
use crate::volume::layout;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.2";
const SYNTAX: &str = "1.2.840.10008.1.2.1";
const STUDY: &str = "1.2.1";
const LONG_AGO: &str = "2020-01-01T00:00:00.000Z";

struct Bench {
    folder: tempfile::TempDir,
    archive: Option<Arc<Archive>>,
}

impl Bench {
    /// Archive volume A and mirror volume M.
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut text = format!("state = {:?}\n[intake]\nmode = \"direct\"\n", at("state"));
        for (name, role) in [("A", "archive"), ("M", "mirror")] {
            std::fs::create_dir(at(name)).unwrap();
            let path = at(name);
            text += &format!("[[volume]]\nname = {name:?}\npath = {path:?}\nrole = {role:?}\n");
        }
        // Two folders of one disk count as two disks here.
        text += "[mirror]\nwhen = \"immediate\"\nallow_same_device = true\n";
        std::fs::write(at("kura.toml"), text).unwrap();
        let mut bench = Bench {
            folder,
            archive: None,
        };
        bench.start();
        bench
    }

    fn start(&mut self) {
        self.archive = None;
        let config = Config::load(Some(&self.folder.path().join("kura.toml"))).unwrap();
        self.archive = Some(Arc::new(Archive::open(&config, Mode::Create).unwrap()));
    }

    fn archive(&self) -> &Arc<Archive> {
        self.archive.as_ref().unwrap()
    }

    fn volume_id(&self, name: &str) -> String {
        self.archive()
            .shelf
            .by_name(name)
            .unwrap()
            .volume_id
            .clone()
    }

    fn path(&self, volume: &str, path: &str) -> PathBuf {
        self.folder.path().join(volume).join(path)
    }

    fn store(&self, sop: &str, patient: &str) {
        self.store_bytes(sop, &data_set(sop, patient));
    }

    fn store_bytes(&self, sop: &str, data: &[u8]) {
        let announced = Announced {
            sop_class_uid: CLASS.to_owned(),
            sop_instance_uid: sop.to_owned(),
            transfer_syntax: SYNTAX.to_owned(),
            calling_ae_title: "CT1".to_owned(),
            prefer: None,
        };
        let mut receiving = self.archive().begin(announced).unwrap();
        receiving.write(data).unwrap();
        receiving.finish().unwrap().answered();
    }

    fn mirror(&self) {
        while self.archive().mirror_next().unwrap() {}
    }

    fn entry(&self, sop: &str) -> Option<InstanceEntry> {
        self.archive().view().unwrap().snapshot.by_sop(sop).unwrap()
    }

    fn hidden(&self, sop: &str) -> Hidden {
        let snapshot = self.archive().view().unwrap().snapshot;
        snapshot.hidden(sop).unwrap().unwrap_or_default()
    }

    /// Paths of the hidden copies on a volume.
    fn hidden_on(&self, sop: &str, volume: &str) -> Vec<String> {
        let id = self.volume_id(volume);
        let copies = self.hidden(sop).contents.into_iter().flat_map(|c| c.copies);
        copies
            .filter(|copy| copy.volume_id == id)
            .map(|copy| copy.path)
            .collect()
    }

    /// Path of the answered copy on a volume.
    fn answered_on(&self, sop: &str, volume: &str) -> Option<String> {
        let id = self.volume_id(volume);
        let copies = self.entry(sop)?.record.copies;
        copies
            .into_iter()
            .find(|copy| copy.volume_id == id)
            .map(|copy| copy.path)
    }

    /// What is answered, as a retrieve would send it.
    fn sent(&self, sop: &str) -> Vec<u8> {
        self.sent_as(&self.selected(sop))
    }

    fn selected(&self, sop: &str) -> Selected {
        Selected::of(self.entry(sop).expect("answered")).unwrap()
    }

    fn sent_as(&self, selected: &Selected) -> Vec<u8> {
        let mut fetched = self.archive().fetch(selected).unwrap();
        let mut bytes = vec![0; fetched.length as usize];
        let mut done = 0;
        while done < bytes.len() {
            done += fetched.read(&mut bytes[done..]).unwrap();
        }
        bytes
    }

    /// Contents of another patient on both volumes, by a correction that is not in effect yet.
    fn make(&self, sops: &[&str], patient: &str) -> u64 {
        let archive = self.archive();
        let number = archive.keeper.next_sequence();
        for sop in sops {
            let answered = contents(&self.entry(sop).unwrap()).swap_remove(0);
            let snapshot = archive.view().unwrap().snapshot;
            let (study, series) = answered.facts(&snapshot).unwrap().unwrap();
            let (mut study, mut series) = ((*study).clone(), (*series).clone());
            study.values.insert(0x0010_0020, patient.to_owned());
            series.folder = layout::series_folder("20260115", "CT", patient, STUDY, "1.2.1.1");
            let data = data_set(sop, patient);
            let crc32 = crc32fast::hash(&data);
            let sequence = archive.keeper.next_sequence();
            for volume in ["A", "M"] {
                let volume = archive.shelf.by_name(volume).unwrap();
                let volume = volume.here().unwrap();
                let mut incoming = volume.begin().unwrap();
                incoming.write(&data).unwrap();
                let mut stored = Stored {
                    study: Arc::new(study.clone()),
                    series: Arc::new(series.clone()),
                    instance: answered
                        .copied_as(
                            Arc::new(study.clone()),
                            Arc::new(series.clone()),
                            Copy {
                                volume_id: volume.id().to_owned(),
                                path: format!("{}/{}", series.folder, layout::file_name(sop)),
                                data_offset: 0,
                                size_bytes: data.len() as u64,
                                crc32,
                                file_crc32: crc32,
                                bad: false,
                            },
                        )
                        .instance,
                };
                stored.instance.sequence = sequence;
                stored.instance.origin = Origin {
                    by: number,
                    ..Origin::default()
                };
                archive
                    .make_durable(volume, &mut incoming, &mut stored, &[], None)
                    .unwrap();
                incoming.finish();
            }
        }
        number
    }

    /// Puts a correction in or out of effect that rules on what is answered now.
    fn put_down(
        &self,
        number: u64,
        in_effect: bool,
        line: (Did, &str, &str),
        of: &[(&str, Verdict)],
    ) {
        let archive = self.archive();
        let (did, at, way) = line;
        let facts = CorrectionFacts {
            at: at.to_owned(),
            did,
            who: "yamada".to_owned(),
            why: "wrong patient chosen".to_owned(),
            way: way.to_owned(),
            level: "STUDY".to_owned(),
            of: vec![STUDY.to_owned()],
            studies: vec![STUDY.to_owned()],
            instances_count: of.len() as u64,
            before: Values::from([(0x0010_0020, "4711".to_owned())]),
            after: Values::from([(0x0010_0020, "4712".to_owned())]),
        };
        let rulings: Vec<Ruling> = of
            .iter()
            .map(|(sop, verdict)| Ruling {
                sequence: archive.keeper.next_sequence(),
                by: number,
                sop_instance_uid: (*sop).to_owned(),
                content: id_of(&contents(&self.entry(sop).unwrap())[0]).unwrap(),
                verdict: *verdict,
            })
            .collect();
        archive
            .put_down(number, in_effect, &facts, &rulings, &[])
            .unwrap();
    }

    /// The study becomes that of another patient.
    fn amend(&self, sops: &[&str], patient: &str, at: &str) -> u64 {
        let number = self.make(sops, patient);
        let of: Vec<_> = sops.iter().map(|sop| (*sop, Verdict::Withdrawn)).collect();
        self.put_down(number, true, (Did::Amended, at, "command line"), &of);
        number
    }

    fn undo(&self, number: u64, did: Did, at: &str) {
        self.put_down(number, false, (did, at, "command line"), &[]);
    }

    fn remove(&self, sops: &[&str], at: &str) -> u64 {
        let number = self.archive().keeper.next_sequence();
        let of: Vec<_> = sops.iter().map(|sop| (*sop, Verdict::Removed)).collect();
        self.put_down(number, true, (Did::Removed, at, "command line"), &of);
        number
    }

    /// All images below a folder of a volume, and notes.
    fn files(&self, volume: &str) -> Vec<String> {
        let root = self.folder.path().join(volume);
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                match path.is_dir() {
                    true => folders.push(path),
                    false if name.ends_with(".dcm") || name.ends_with(".txt") => {
                        let below = path.strip_prefix(&root).unwrap();
                        files.push(below.to_str().unwrap().to_owned());
                    }
                    false => {}
                }
            }
        }
        files.sort();
        files
    }
}

fn data_set(sop: &str, patient: &str) -> Vec<u8> {
    let mut data = Vec::new();
    let mut put = |tag, vr, text: &str| elements::put(&mut data, true, tag, vr, text.as_bytes());
    put(tags::SOP_CLASS_UID, VR::UI, CLASS);
    put(tags::SOP_INSTANCE_UID, VR::UI, sop);
    put(tags::STUDY_DATE, VR::DA, "20260115");
    put(tags::MODALITY, VR::CS, "CT");
    put(tags::PATIENT_ID, VR::LO, patient);
    put(tags::STUDY_INSTANCE_UID, VR::UI, STUDY);
    put(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.1");
    put(tags::PIXEL_DATA, VR::OB, &sop.repeat(100));
    data
}

fn folder(patient: &str) -> String {
    format!("20260115/CT/{patient}-{STUDY}")
}

fn image(patient: &str, sop: &str) -> String {
    format!("{}/1.2.1.1/{sop}.dcm", folder(patient))
}

fn note(folder: &str) -> String {
    format!("{folder}/{}", layout::NOTE_FILE)
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths
}

/// The process ends and another reads the ledgers from their beginning.
fn rebuilt(bench: &mut Bench) {
    bench.archive().leave_in_order();
    bench.archive = None;
    std::fs::remove_dir_all(bench.folder.path().join("state/index")).unwrap();
    bench.start();
}

const SOPS: [&str; 2] = ["1.2.1.1.1", "1.2.1.1.2"];

fn amended() -> (Bench, u64) {
    let bench = Bench::new();
    for sop in SOPS {
        bench.store(sop, "4711");
    }
    bench.mirror();
    let number = bench.amend(&SOPS, "4712", &crate::archive::now());
    (bench, number)
}

#[test]
fn what_was_amended_lies_below_superseded_and_comes_back_into_the_tree() {
    let (mut bench, number) = amended();
    bench.archive().tidy_all();
    for volume in ["A", "M"] {
        let expected = sorted(vec![
            image("4712", SOPS[0]),
            image("4712", SOPS[1]),
            note(&folder("4711")),
            format!("superseded/{}", image("4711", SOPS[0])),
            format!("superseded/{}", image("4711", SOPS[1])),
            format!("superseded/{}", note(&folder("4711"))),
        ]);
        assert_eq!(bench.files(volume), expected, "{volume}");
        for sop in SOPS {
            let path = format!("superseded/{}", image("4711", sop));
            assert_eq!(bench.hidden_on(sop, volume), [path]);
        }
        let text = bench.path(volume, &note(&format!("superseded/{}", folder("4711"))));
        let text = std::fs::read_to_string(text).unwrap();
        for said in [
            "yamada",
            "wrong patient chosen",
            "PatientID 4711",
            "PatientID 4712",
            &folder("4712"),
            &format!("kura amend --undo --number {number} "),
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
    assert_eq!(bench.sent(SOPS[0]), data_set(SOPS[0], "4712"));
    let status = bench.archive().status().kept;
    assert_eq!(status.superseded_files_count, 4);
    assert_eq!(status.in_tree_files_count, 0);
    assert!(status.next_deletion.is_some());

    for round in 0..2 {
        bench.undo(number, Did::Amended, &crate::archive::now());
        bench.archive().tidy_all();
        for volume in ["A", "M"] {
            let expected = sorted(vec![
                image("4711", SOPS[0]),
                image("4711", SOPS[1]),
                note(&folder("4712")),
                format!("superseded/{}", image("4712", SOPS[0])),
                format!("superseded/{}", image("4712", SOPS[1])),
                format!("superseded/{}", note(&folder("4712"))),
            ]);
            assert_eq!(bench.files(volume), expected, "{volume} {round}");
        }
        assert_eq!(bench.sent(SOPS[1]), data_set(SOPS[1], "4711"));
        rebuilt(&mut bench);
        assert_eq!(bench.sent(SOPS[1]), data_set(SOPS[1], "4711"));
        let path = image("4711", SOPS[1]);
        assert_eq!(
            bench.answered_on(SOPS[1], "M").as_deref(),
            Some(path.as_str())
        );
        // In effect again, and taken back again.
        let line = (Did::Amended, &*crate::archive::now(), "command line");
        bench.put_down(number, true, line, &[]);
        bench.archive().tidy_all();
        assert_eq!(bench.sent(SOPS[1]), data_set(SOPS[1], "4712"));
        let path = image("4712", SOPS[1]);
        assert_eq!(
            bench.answered_on(SOPS[1], "A").as_deref(),
            Some(path.as_str())
        );
    }
}

#[test]
fn what_was_removed_lies_in_the_trash_until_it_is_restored_or_its_time_is_over() {
    let bench = Bench::new();
    for sop in SOPS {
        bench.store(sop, "4711");
    }
    bench.mirror();
    let number = bench.remove(&SOPS, &crate::archive::now());
    bench.archive().tidy_all();
    let in_trash = sorted(vec![
        note(&folder("4711")),
        format!("trash/{}", image("4711", SOPS[0])),
        format!("trash/{}", image("4711", SOPS[1])),
        format!("trash/{}", note(&folder("4711"))),
    ]);
    assert_eq!(bench.files("A"), in_trash);
    assert_eq!(bench.files("M"), in_trash);
    assert_eq!(bench.entry(SOPS[0]), None);

    bench.undo(number, Did::Removed, &crate::archive::now());
    bench.archive().tidy_all();
    let in_tree = SOPS.map(|sop| image("4711", sop));
    assert_eq!(bench.files("A"), in_tree);
    assert_eq!(bench.files("M"), in_tree);
    assert_eq!(bench.sent(SOPS[0]), data_set(SOPS[0], "4711"));

    bench.remove(&SOPS, LONG_AGO);
    bench.archive().tidy_all();
    for volume in ["A", "M"] {
        assert_eq!(bench.files(volume), Vec::<String>::new());
    }
    assert!(bench.hidden(SOPS[0]).contents.is_empty());
    // Sent again it counts.
    bench.store(SOPS[0], "4711");
    assert_eq!(bench.sent(SOPS[0]), data_set(SOPS[0], "4711"));
}

#[test]
fn the_trash_is_emptied_at_once() {
    let bench = Bench::new();
    bench.store(SOPS[0], "4711");
    let number = bench.remove(&SOPS[..1], &crate::archive::now());
    bench.archive().tidy_all();
    assert_eq!(bench.files("A").len(), 3);
    let line = (Did::Removed, &*crate::archive::now(), TRASH_EMPTIED);
    bench.put_down(number, true, line, &[]);
    bench.archive().tidy_all();
    assert_eq!(bench.files("A"), Vec::<String>::new());
}

/// Method: the renames of a removal were done, its lines were not, and its time is over before anybody looks again. At one
/// of the names lies a file that is not ours.
#[test]
fn what_was_moved_to_the_trash_in_the_moment_of_a_crash_is_deleted_with_it() {
    let bench = Bench::new();
    for sop in SOPS {
        bench.store(sop, "4711");
    }
    bench.remove(&SOPS, LONG_AGO);
    let [ours, other] = SOPS.map(|sop| image("4711", sop));
    let in_trash = |path: &str| bench.path("A", &format!("trash/{path}"));
    std::fs::create_dir_all(in_trash(&ours).parent().unwrap()).unwrap();
    std::fs::rename(bench.path("A", &ours), in_trash(&ours)).unwrap();
    std::fs::remove_file(bench.path("A", &other)).unwrap();
    std::fs::write(in_trash(&other), b"a stranger's").unwrap();
    bench.archive().tidy_all();
    let mut images = bench.files("A");
    images.retain(|path| path.ends_with(".dcm"));
    assert_eq!(images, [format!("trash/{other}")]);
    assert!(bench.hidden(SOPS[0]).contents.is_empty());
}

/// Method: the time of an amendment is over, and what it made has one copy only; then both, but one is damaged; then both.
#[test]
fn what_was_amended_is_deleted_when_what_became_of_it_has_two_good_copies() {
    let bench = Bench::new();
    bench.store(SOPS[0], "4711");
    bench.mirror();
    bench.amend(&SOPS[..1], "4712", LONG_AGO);
    // The copy on the mirror volume is damaged and nobody has noticed yet.
    let damaged = bench.path("M", &image("4712", SOPS[0]));
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    bench.archive().tidy_all();
    let kept = format!("superseded/{}", image("4711", SOPS[0]));
    assert!(bench.path("A", &kept).exists());
    assert!(bench.path("M", &kept).exists());
    let waits = bench.archive().status().kept.waits;
    assert!(waits[0].contains("no second good copy"), "{waits:?}");
    // It is found to be bad and healed, and then there is nothing to wait for.
    bench.archive().judge_suspects(&bench.volume_id("M"));
    bench.mirror();
    bench.archive().corrections.wake();
    bench.archive().tidy_again();
    for volume in ["A", "M"] {
        assert!(!bench.path(volume, &kept).exists());
        assert!(!bench.path(volume, &note(&folder("4711"))).exists());
    }
    assert!(bench.hidden(SOPS[0]).contents.is_empty());
    assert_eq!(bench.archive().status().kept.waits, Vec::<String>::new());
    assert_eq!(bench.sent(SOPS[0]), data_set(SOPS[0], "4712"));
    // What was replaced is not taken in again.
    assert_eq!(bench.hidden(SOPS[0]).rulings.len(), 1);
}

#[test]
fn what_a_correction_made_that_was_never_put_in_effect_is_deleted() {
    let mut bench = Bench::new();
    bench.store(SOPS[0], "4711");
    bench.make(&SOPS[..1], "4712");
    // The process is killed there.
    rebuilt(&mut bench);
    bench.archive().tidy_all();
    assert_eq!(bench.files("A"), [image("4711", SOPS[0])]);
    assert!(bench.hidden(SOPS[0]).contents.is_empty());
    assert_eq!(bench.sent(SOPS[0]), data_set(SOPS[0], "4711"));
}

/// Method: files are moved as if the process had ended before it wrote the lines, on one volume to the name it would have,
/// on the other to the second best, the first being taken by a stranger's file.
#[test]
fn a_file_that_was_moved_before_a_crash_gets_its_lines() {
    let (mut bench, _) = amended();
    let old = image("4711", SOPS[0]);
    for volume in ["A", "M"] {
        let new = bench.path(volume, &format!("superseded/{old}"));
        std::fs::create_dir_all(new.parent().unwrap()).unwrap();
        std::fs::rename(bench.path(volume, &old), new).unwrap();
    }
    let stranger = bench.path("M", &format!("superseded/{old}"));
    let bytes = std::fs::read(&stranger).unwrap();
    std::fs::write(&stranger, b"a stranger's").unwrap();
    let crc = crc32fast::hash(&data_set(SOPS[0], "4711"));
    let other = layout::alternative_file_name(SOPS[0], crc, 0);
    let other = format!("superseded/{}/1.2.1.1/{other}", folder("4711"));
    std::fs::write(bench.path("M", &other), bytes).unwrap();
    rebuilt(&mut bench);
    bench.archive().tidy_all();
    assert_eq!(bench.hidden_on(SOPS[0], "A"), [format!("superseded/{old}")]);
    assert_eq!(bench.hidden_on(SOPS[0], "M"), [other]);
    assert_eq!(std::fs::read(&stranger).unwrap(), b"a stranger's");
}

/// Method: a file that is not ours has the name that a moved one would get.
#[test]
fn a_name_that_is_taken_is_left_alone() {
    let (bench, number) = amended();
    let plain = format!("superseded/{}", image("4711", SOPS[0]));
    let stranger = bench.path("A", &plain);
    std::fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    std::fs::write(&stranger, b"a stranger's").unwrap();
    bench.archive().tidy_all();
    assert_eq!(std::fs::read(&stranger).unwrap(), b"a stranger's");
    let there = bench.hidden_on(SOPS[0], "A");
    assert!(
        there[0].starts_with("superseded/") && there[0] != plain,
        "{there:?}"
    );
    assert!(bench.path("A", &there[0]).exists());
    bench.undo(number, Did::Amended, &crate::archive::now());
    bench.archive().tidy_all();
    assert_eq!(bench.sent(SOPS[0]), data_set(SOPS[0], "4711"));
    let back = bench.answered_on(SOPS[0], "A").unwrap();
    assert!(Path::new(&back).starts_with(folder("4711")), "{back}");
}

#[test]
fn what_is_only_rejected_stays_where_it_is() {
    let bench = Bench::new();
    bench.store(SOPS[0], "4711");
    let number = bench.archive().keeper.next_sequence();
    let line = (Did::Rejected, LONG_AGO, "rejection note from CT1");
    bench.put_down(number, true, line, &[(SOPS[0], Verdict::Withdrawn)]);
    bench.archive().tidy_all();
    assert_eq!(bench.files("A"), [image("4711", SOPS[0])]);
    assert_eq!(bench.entry(SOPS[0]), None);
    let hidden = bench.hidden(SOPS[0]);
    assert_eq!(hidden_content(SOPS[0], &hidden.contents[0]).copies.len(), 1);
    assert_eq!(bench.archive().status().kept.in_tree_files_count, 1);
}

/// Method: selected before the switch, sent when the files were moved, after the index was made anew, and when one volume
/// is gone.
#[test]
fn what_was_selected_before_a_correction_is_sent_after_it() {
    let mut bench = Bench::new();
    for sop in SOPS {
        bench.store(sop, "4711");
    }
    bench.mirror();
    let selected = SOPS.map(|sop| bench.selected(sop));
    bench.amend(&SOPS[..1], "4712", &crate::archive::now());
    bench.remove(&SOPS[1..], &crate::archive::now());
    let all_old = |bench: &Bench| {
        for (selected, sop) in selected.iter().zip(SOPS) {
            assert_eq!(bench.sent_as(selected), data_set(sop, "4711"));
        }
    };
    all_old(&bench);
    bench.archive().tidy_all();
    all_old(&bench);
    rebuilt(&mut bench);
    all_old(&bench);
    std::fs::remove_dir_all(bench.path("A", "superseded")).unwrap();
    std::fs::remove_dir_all(bench.path("A", "trash")).unwrap();
    all_old(&bench);
}
