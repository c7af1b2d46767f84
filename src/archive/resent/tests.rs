//! What comes again, on real disks: corrections are put down as their verbs do it, instances come as from a sender.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::archive::in_place::Unlisted;
use crate::archive::ingest::{Announced, Outcome};
use crate::archive::{Archive, Line, Mode, at_rest, entry};
use crate::config::Config;
use crate::dicom::{FileMeta, VR, elements, tags};
use crate::index::{
    Change, ContentId, CorrectionFacts, Did, Gone, Hid, InstanceEntry, InstanceFacts, Origin,
    Ruling, SeriesFacts, Stored, StudyFacts, Values, Verdict,
};
use crate::volume::Volume;
use crate::volume::layout::file_name;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.7";
const SYNTAX: &str = "1.2.840.10008.1.2.1";
const STUDY: &str = "2.25.900";
const SERIES: &str = "2.25.900.1";
const SOP: &str = "2.25.900.1.1";

/// An archive on two volumes.
struct Kept {
    folder: tempfile::TempDir,
    archive: Option<Archive>,
}

impl Kept {
    fn with(tables: &str) -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let volume = |name: &str| {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            format!("[[volume]]\nname = \"{name}\"\npath = \"{name}\"\nrole = \"archive\"\n")
        };
        let text = format!(
            "state = \"state\"\n[intake]\nmode = \"direct\"\n{}{}{tables}",
            volume("A"),
            volume("B")
        );
        std::fs::write(folder.path().join("kura.toml"), text).unwrap();
        let mut kept = Kept {
            folder,
            archive: None,
        };
        kept.open();
        kept
    }

    fn open(&mut self) {
        self.archive = None;
        let config = Config::load(Some(&self.folder.path().join("kura.toml"))).unwrap();
        self.archive = Some(Archive::open(&config, Mode::Create).unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.archive().view().unwrap().rebuilding_percent.is_some() {
            assert!(Instant::now() < deadline, "the index does not go live");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The next start, with an index made anew from the ledgers.
    fn open_with_a_new_index(&mut self) {
        self.archive = None;
        std::fs::remove_dir_all(self.folder.path().join("state/index")).unwrap();
        self.open();
    }

    fn archive(&self) -> &Archive {
        self.archive.as_ref().unwrap()
    }

    fn send(&self, calling: &str, sop: &str, data_set: &[u8]) -> Outcome {
        let announced = Announced {
            sop_class_uid: CLASS.to_owned(),
            sop_instance_uid: sop.to_owned(),
            transfer_syntax: SYNTAX.to_owned(),
            calling_ae_title: calling.to_owned(),
            prefer: None,
        };
        let mut receiving = self.archive().begin(announced).unwrap();
        receiving.write(data_set).unwrap();
        let kept = receiving.finish().unwrap();
        let outcome = kept.outcome;
        kept.answered();
        outcome
    }

    fn entry(&self) -> Option<InstanceEntry> {
        self.archive().view().unwrap().snapshot.by_sop(SOP).unwrap()
    }

    /// Pixel data of what is answered, and the patient of its study.
    fn answered(&self) -> Option<(Vec<u8>, String)> {
        let entry = self.entry()?;
        let opened = entry.record.copies.iter().find_map(|copy| {
            let opened = self.archive().open_checked(copy).ok();
            opened.map(|(file, _)| (copy, file))
        });
        let (copy, file) = opened.expect("a copy that can be read");
        let mut bytes = vec![0; copy.size_bytes as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let view = self.archive().view().unwrap();
        let study = view.snapshot.study(&entry.study_instance_uid).unwrap();
        let id = study.unwrap().facts.values.remove(&0x0010_0020);
        Some((bytes[bytes.len() - 2..].to_vec(), id.unwrap_or_default()))
    }

    /// Content of what is answered.
    fn content(&self) -> ContentId {
        let record = self.entry().unwrap().record;
        ContentId {
            transfer_syntax: record.transfer_syntax,
            data_bytes: record.copies[0].data_bytes(),
            crc32: record.copies[0].crc32,
        }
    }

    /// Image files on both volumes, relative to the folder.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for one in std::fs::read_dir(folder).unwrap() {
                let path = one.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "dcm") {
                    let below = path.strip_prefix(self.folder.path()).unwrap();
                    found.insert(below.display().to_string());
                }
            }
        }
        found
    }

    fn put_down(&self, number: u64, did: Did, in_effect: bool, verdict: Verdict, of: &[ContentId]) {
        let facts = CorrectionFacts {
            at: crate::archive::now(),
            did,
            who: "someone".to_owned(),
            why: "a test".to_owned(),
            way: "test".to_owned(),
            level: "STUDY".to_owned(),
            of: vec![STUDY.to_owned()],
            studies: vec![STUDY.to_owned()],
            instances_count: 1,
            before: Values::new(),
            after: Values::new(),
        };
        let ruling = |content: &ContentId| Ruling {
            sequence: self.archive().keeper.next_sequence(),
            by: number,
            sop_instance_uid: SOP.to_owned(),
            content: content.clone(),
            verdict,
        };
        let rulings: Vec<Ruling> = of.iter().map(ruling).collect();
        self.archive()
            .put_down(number, in_effect, &facts, &rulings, &[])
            .unwrap();
        self.archive().places.forget(STUDY);
    }

    /// As an amendment does it: the new content `by` its number, then the switch. The number.
    fn amend(&self, patient: &str, data_set: &[u8]) -> u64 {
        let archive = self.archive();
        let old = self.content();
        let number = archive.keeper.next_sequence();
        let volume = archive.shelf.all()[0].here().unwrap().clone();
        let meta = FileMeta {
            sop_class_uid: CLASS.to_owned(),
            sop_instance_uid: SOP.to_owned(),
            transfer_syntax: SYNTAX.to_owned(),
            source_ae_title: "CT".to_owned(),
        }
        .encode();
        let mut incoming = volume.begin().unwrap();
        incoming.write(&meta).unwrap();
        incoming.write(data_set).unwrap();
        let folder = format!("20260115/OT/{patient}/series");
        let mut stored = Stored {
            study: Arc::new(StudyFacts {
                study_instance_uid: STUDY.to_owned(),
                date_folder: "20260115".to_owned(),
                values: [(0x0010_0020, patient.to_owned())].into(),
            }),
            series: Arc::new(SeriesFacts {
                series_instance_uid: SERIES.to_owned(),
                study_instance_uid: STUDY.to_owned(),
                folder: folder.clone(),
                values: [(0x0008_0060, "OT".to_owned())].into(),
            }),
            instance: InstanceFacts {
                sequence: archive.keeper.next_sequence(),
                sop_instance_uid: SOP.to_owned(),
                sop_class_uid: CLASS.to_owned(),
                transfer_syntax: SYNTAX.to_owned(),
                values: Values::new(),
                received: crate::archive::now(),
                source_ae_title: "CT".to_owned(),
                origin: Origin {
                    by: number,
                    ..Origin::default()
                },
                copy: crate::index::Copy {
                    volume_id: volume.id().to_owned(),
                    path: format!("{folder}/{}", file_name(SOP)),
                    data_offset: meta.len() as u64,
                    size_bytes: incoming.len(),
                    crc32: crc32fast::hash(data_set),
                    file_crc32: crc32fast::hash(&[&meta, data_set].concat()),
                    bad: false,
                },
            },
        };
        archive
            .make_durable(&volume, &mut incoming, &mut stored, &[], None)
            .unwrap();
        incoming.finish();
        self.put_down(number, Did::Amended, true, Verdict::Withdrawn, &[old]);
        number
    }

    /// As tidying deletes what is hidden: the files, and the lines that say so.
    fn delete_hidden(&self) {
        let archive = self.archive();
        let hidden = archive.view().unwrap().snapshot.hidden(SOP).unwrap();
        for content in hidden.unwrap().contents {
            for copy in content.copies {
                let volume: Arc<Volume<Line>> = archive.shelf.here(&copy.volume_id).unwrap();
                volume.remove_file(&copy.path).unwrap();
                let gone = Gone {
                    sequence: archive.keeper.next_sequence(),
                    sop_instance_uid: SOP.to_owned(),
                    volume_id: copy.volume_id.clone(),
                    path: copy.path.clone(),
                };
                let line = entry::gone_line(&gone, &crate::archive::now(), "deleted");
                let change = Arc::new(Change::Gone(gone));
                volume.ledger().append(&[], line, change).unwrap();
            }
        }
    }
}

/// A small instance; `pixel` tells one content from another.
fn data_set(sop: &str, patient: &str, pixel: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |tag, vr, value: &[u8]| elements::put(&mut out, true, tag, vr, value);
    put(tags::SOP_CLASS_UID, VR::UI, CLASS.as_bytes());
    put(tags::SOP_INSTANCE_UID, VR::UI, sop.as_bytes());
    put(tags::STUDY_DATE, VR::DA, b"20260115");
    put(tags::MODALITY, VR::CS, b"OT");
    put(tags::PATIENT_NAME, VR::PN, b"Test^Name");
    put(tags::PATIENT_ID, VR::LO, patient.as_bytes());
    put(tags::STUDY_INSTANCE_UID, VR::UI, STUDY.as_bytes());
    put(tags::SERIES_INSTANCE_UID, VR::UI, SERIES.as_bytes());
    put(tags::PIXEL_DATA, VR::OB, &[pixel, pixel]);
    out
}

fn answers(pixel: u8, patient: &str) -> Option<(Vec<u8>, String)> {
    Some((vec![pixel, pixel], patient.to_owned()))
}

/// Method: an amended instance is sent again as it was first, with its old file there, without it, and after the index was
/// made anew; then the amendment is undone.
#[test]
fn what_an_amendment_took_out_stores_nothing_for_ever() {
    let mut kept = Kept::with("");
    let old = data_set(SOP, "OLD", 1);
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Stored);
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Duplicate);
    let number = kept.amend("NEW", &data_set(SOP, "NEW", 1));
    for round in ["files there", "files deleted", "index anew"] {
        match round {
            "files deleted" => kept.delete_hidden(),
            "index anew" => kept.open_with_a_new_index(),
            _ => {}
        }
        let files = kept.files();
        for calling in ["CT", "ANOTHER"] {
            assert_eq!(kept.send(calling, SOP, &old), Outcome::Duplicate, "{round}");
        }
        assert_eq!(kept.files(), files, "{round}");
        assert_eq!(kept.answered(), answers(1, "NEW"), "{round}");
        let entry = kept.entry().unwrap();
        assert!(entry.record.others.is_empty(), "{round}");
    }
    // Without the amendment nothing is there any more, and what comes is new.
    kept.put_down(number, Did::Amended, false, Verdict::Withdrawn, &[]);
    assert_eq!(kept.entry(), None);
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Stored);
    assert_eq!(kept.answered(), answers(1, "OLD"));
}

/// Method: the new content of an amendment that was undone comes back from a workstation.
#[test]
fn what_only_an_undone_amendment_made_is_stored_as_any_other() {
    let kept = Kept::with("");
    let (old, new) = (data_set(SOP, "OLD", 1), data_set(SOP, "NEW", 1));
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Stored);
    let number = kept.amend("NEW", &new);
    assert_eq!(kept.send("WORKSTATION", SOP, &new), Outcome::Duplicate);
    kept.put_down(number, Did::Amended, false, Verdict::Withdrawn, &[]);
    let count = kept.files().len();
    assert_eq!(kept.send("WORKSTATION", SOP, &new), Outcome::Conflict);
    assert_eq!(kept.files().len(), count + 1);
    assert_eq!(kept.answered(), answers(1, "OLD"));
    assert_eq!(kept.entry().unwrap().record.others.len(), 1);
}

/// Method: a removed instance is sent again while its file is there, when it cannot be read, and after it was deleted.
#[test]
fn what_was_removed_counts_again_once_nothing_of_it_is_left() {
    for is_deleted in [true, false] {
        let mut kept = Kept::with("");
        let image = data_set(SOP, "OLD", 1);
        assert_eq!(kept.send("CT", SOP, &image), Outcome::Stored);
        let number = kept.archive().keeper.next_sequence();
        kept.put_down(
            number,
            Did::Removed,
            true,
            Verdict::Removed,
            &[kept.content()],
        );
        assert_eq!(kept.entry(), None);
        assert_eq!(kept.send("CT", SOP, &image), Outcome::Duplicate);
        assert_eq!(kept.entry(), None, "still in the trash");
        match is_deleted {
            true => kept.delete_hidden(),
            false => {
                for file in kept.files() {
                    std::fs::remove_file(kept.folder.path().join(file)).unwrap();
                }
            }
        }
        assert_eq!(kept.send("CT", SOP, &image), Outcome::Stored);
        assert_eq!(kept.answered(), answers(1, "OLD"));
        assert_eq!(kept.send("CT", SOP, &image), Outcome::Duplicate);
        kept.open_with_a_new_index();
        assert!(kept.entry().is_some());
    }
}

/// Method: an instance of a study that was amended comes with the old patient; with him another that has no conflict.
#[test]
fn a_late_instance_joins_the_amended_study_as_it_is() {
    let mut kept = Kept::with("");
    assert_eq!(
        kept.send("CT", SOP, &data_set(SOP, "OLD", 1)),
        Outcome::Stored
    );
    let number = kept.amend("NEW", &data_set(SOP, "NEW", 1));
    let (late, sop) = (data_set("2.25.900.1.2", "OLD", 2), "2.25.900.1.2");
    assert_eq!(kept.send("CT", sop, &late), Outcome::Stored);
    let right = data_set("2.25.900.1.3", "NEW", 3);
    assert_eq!(kept.send("CT", "2.25.900.1.3", &right), Outcome::Stored);
    for _ in 0..2 {
        let view = kept.archive().view().unwrap();
        let entry = view.snapshot.by_sop(sop).unwrap().unwrap();
        let copy = &entry.record.copies[0];
        assert!(copy.path.starts_with("20260115/OT/NEW/series/"), "{copy:?}");
        assert_eq!(copy.crc32, crc32fast::hash(&late));
        assert_eq!(entry.record.values[&0x0010_0020], "OLD");
        assert_eq!(entry.record.values[&0x0010_0010], "Test^Name");
        let facts = |by| view.snapshot.study_facts(STUDY, by).unwrap().unwrap();
        assert_eq!(facts(0).values[&0x0010_0020], "OLD");
        assert_eq!(facts(number).values[&0x0010_0020], "NEW");
        let study = view.snapshot.study(STUDY).unwrap().unwrap();
        assert_eq!(study.facts.values[&0x0010_0020], "NEW");
        assert_eq!(study.instances_count, 3);
        drop(view);
        kept.open_with_a_new_index();
    }
    // Undone, the study is the old patient's again, and what came since is in it.
    kept.put_down(number, Did::Amended, false, Verdict::Withdrawn, &[]);
    let next = data_set("2.25.900.1.4", "OLD", 4);
    assert_eq!(kept.send("CT", "2.25.900.1.4", &next), Outcome::Stored);
    let view = kept.archive().view().unwrap();
    let entry = view.snapshot.by_sop("2.25.900.1.4").unwrap().unwrap();
    assert!(!entry.record.copies[0].path.contains("NEW"));
    assert!(!entry.record.values.contains_key(&0x0010_0020));
    assert_eq!(
        view.snapshot.study(STUDY).unwrap().unwrap().instances_count,
        4
    );
}

/// Method: two patients in one study, without any correction.
#[test]
fn an_instance_that_names_another_patient_than_its_study_says_so() {
    let kept = Kept::with("");
    assert_eq!(
        kept.send("CT", SOP, &data_set(SOP, "ONE", 1)),
        Outcome::Stored
    );
    let sop = "2.25.900.1.2";
    assert_eq!(
        kept.send("CT", sop, &data_set(sop, "TWO", 2)),
        Outcome::Stored
    );
    let snapshot = &kept.archive().view().unwrap().snapshot;
    let values = |sop| snapshot.by_sop(sop).unwrap().unwrap().record.values;
    assert!(!values(SOP).contains_key(&0x0010_0020));
    assert_eq!(values(sop)[&0x0010_0020], "TWO");
    let study = snapshot.study(STUDY).unwrap().unwrap();
    assert_eq!(study.facts.values[&0x0010_0020], "ONE");
}

/// Method: a console sends one data set, another, the first again; a second sender and a corrected study in between.
#[test]
fn under_the_newest_policy_the_last_word_of_the_sender_is_answered() {
    let mut kept = Kept::with("[[duplicates.rule]]\ncalling = \"CT*\"\npolicy = \"newest\"\n");
    let [one, two, three] = [1, 2, 3].map(|pixel| data_set(SOP, "OLD", pixel));
    assert_eq!(kept.send("CT1", SOP, &one), Outcome::Stored);
    assert_eq!(kept.send("CT1", SOP, &two), Outcome::Newest);
    assert_eq!(kept.answered(), answers(2, "OLD"));
    // Another sender, with the same policy: first.
    assert_eq!(kept.send("CT2", SOP, &three), Outcome::Conflict);
    assert_eq!(kept.answered(), answers(2, "OLD"));
    assert_eq!(kept.send("CT1", SOP, &two), Outcome::Duplicate);
    assert_eq!(kept.answered(), answers(2, "OLD"));
    // Back to the first: no file for that.
    let files = kept.files();
    assert_eq!(kept.send("CT1", SOP, &one), Outcome::Duplicate);
    assert_eq!(kept.files(), files);
    assert_eq!(kept.answered(), answers(1, "OLD"));
    assert_eq!(kept.send("CT1", SOP, &two), Outcome::Duplicate);
    assert_eq!(kept.answered(), answers(2, "OLD"));
    assert_eq!(kept.entry().unwrap().record.others.len(), 2);
    kept.open_with_a_new_index();
    assert_eq!(kept.answered(), answers(2, "OLD"));
}

/// Method: an amended study, of which the console sends the old instance again, and then a new one.
#[test]
fn a_newer_data_set_is_answered_before_an_amended_one_and_an_old_one_is_not() {
    let kept = Kept::with("[duplicates]\npolicy = \"newest\"\n");
    let old = data_set(SOP, "OLD", 1);
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Stored);
    kept.amend("NEW", &data_set(SOP, "NEW", 1));
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Duplicate);
    assert_eq!(kept.answered(), answers(1, "NEW"));
    assert_eq!(
        kept.send("CT", SOP, &data_set(SOP, "OLD", 2)),
        Outcome::Newest
    );
    assert_eq!(kept.answered(), answers(2, "NEW"));
    assert_eq!(kept.send("CT", SOP, &old), Outcome::Duplicate);
    assert_eq!(kept.answered(), answers(2, "NEW"));
}

/// Method: a coerced instance is amended, and its original is sent again, with its file there and deleted.
#[test]
fn an_original_that_was_coerced_and_then_amended_stores_nothing() {
    let mut kept = Kept::with("[[coerce]]\ncalling = \"CT\"\nprefix = \"H1-\"\n");
    let original = data_set(SOP, "OLD", 1);
    assert_eq!(kept.send("CT", SOP, &original), Outcome::Stored);
    assert_eq!(kept.answered(), answers(1, "H1-OLD"));
    let number = kept.amend("NEW", &data_set(SOP, "NEW", 1));
    for is_deleted in [false, true] {
        if is_deleted {
            kept.delete_hidden();
            kept.open_with_a_new_index();
        }
        let files = kept.files();
        assert_eq!(kept.send("CT", SOP, &original), Outcome::Duplicate);
        // Also as it is, should it come by another way.
        assert_eq!(kept.send("OTHER", SOP, &original), Outcome::Duplicate);
        assert_eq!(kept.files(), files);
        assert_eq!(kept.answered(), answers(1, "NEW"));
    }
    kept.put_down(number, Did::Amended, false, Verdict::Withdrawn, &[]);
    assert_eq!(kept.send("CT", SOP, &original), Outcome::Stored);
    assert_eq!(kept.answered(), answers(1, "H1-OLD"));
}

/// Method: a file with a content that is hidden lies on a volume without a line; it is listed twice.
#[test]
fn a_file_that_is_found_is_listed_once_and_stays_hidden() {
    for did in [Did::Amended, Did::Removed] {
        let kept = Kept::with("");
        assert_eq!(
            kept.send("CT", SOP, &data_set(SOP, "OLD", 1)),
            Outcome::Stored
        );
        let old = kept.entry().unwrap().record.copies[0].clone();
        let number = match did {
            Did::Removed => {
                let number = kept.archive().keeper.next_sequence();
                kept.put_down(number, did, true, Verdict::Removed, &[kept.content()]);
                number
            }
            _ => kept.amend("NEW", &data_set(SOP, "NEW", 1)),
        };
        let members = kept.archive().shelf.all();
        let other = members.iter().find(|m| m.volume_id != old.volume_id);
        let other = other.unwrap().here().unwrap().clone();
        let own = kept.archive().shelf.here(&old.volume_id).unwrap();
        let found = "20260115/found.dcm";
        std::fs::create_dir_all(other.root().join("20260115")).unwrap();
        std::fs::copy(own.root().join(&old.path), other.root().join(found)).unwrap();
        let was = kept.answered();
        for added in [1, 0] {
            let file = other.open_file(found).unwrap();
            let unlisted = Unlisted {
                path: found.to_owned(),
                received: None,
                file: at_rest::read_whole(&file, &|_| true).unwrap(),
            };
            let listed = kept
                .archive()
                .list_in_place(other.id(), vec![unlisted], "EQUALIZE");
            assert_eq!(listed.unwrap().added, added, "{did:?}");
        }
        assert_eq!(kept.answered(), was, "{did:?}");
        let hidden = kept.archive().view().unwrap().snapshot.hidden(SOP).unwrap();
        let hidden = hidden.unwrap();
        assert_eq!(hidden.contents.len(), 1, "{did:?}");
        assert_eq!(hidden.contents[0].hid, Hid::Withdrawn { by: number });
        assert_eq!(hidden.contents[0].copies.len(), 2, "{did:?}");
    }
}
