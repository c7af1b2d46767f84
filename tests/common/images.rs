//! Made-up images in bulk: sent, found, and fetched back byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::build::{self, CT_IMAGE_STORAGE, by_uids};
use super::wire::{IMPLICIT_LITTLE, STUDY_ROOT_FIND, STUDY_ROOT_GET, VERIFICATION};
use super::{Client, Server, WireError, elements, files};

pub const STORE: u8 = 1;
pub const ECHO: u8 = 3;
pub const FIND: u8 = 5;
pub const GET: u8 = 7;

/// Contexts for everything that is done with an [`Image`].
pub const ALL: &[(u8, &str, &[&str])] = &[
    (STORE, CT_IMAGE_STORAGE, &[IMPLICIT_LITTLE]),
    (ECHO, VERIFICATION, &[IMPLICIT_LITTLE]),
    (FIND, STUDY_ROOT_FIND, &[IMPLICIT_LITTLE]),
    (GET, STUDY_ROOT_GET, &[IMPLICIT_LITTLE]),
];

/// How long an index may take to come back before a test calls it gone.
const INDEX_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Image {
    pub study: String,
    pub sop: String,
    pub data_set: Vec<u8>,
}

impl Image {
    pub fn new(study: u32, number: u32, pixel_bytes: usize) -> Image {
        let sop = format!("2.25.7{study}.{number}");
        let study = format!("2.25.9{study}");
        let data_set = build::synthetic_ct(
            &study,
            &format!("{study}.1"),
            &sop,
            number,
            pixel_bytes,
            false,
        );
        Image {
            study,
            sop,
            data_set,
        }
    }

    /// Status and comment of a C-STORE on context [`STORE`].
    pub fn send(&self, client: &mut Client) -> Result<(u16, Option<String>), WireError> {
        client.c_store(STORE, CT_IMAGE_STORAGE, &self.sop, &self.data_set)
    }
}

/// `count` images of 1,000 bytes in each of so many studies.
pub fn images(studies: u32, count: u32) -> Vec<Image> {
    (0..studies)
        .flat_map(|study| (0..count).map(move |number| Image::new(study, number, 1_000)))
        .collect()
}

/// Sends them on one association; each must be answered 0000H.
pub fn send_all(server: &Server, images: &[Image]) {
    let mut client = server.associate(ALL);
    for image in images {
        let (status, comment) = image.send(&mut client).expect("C-STORE");
        assert_eq!(status, 0, "{}: {comment:?}", image.sop);
    }
    client.release().expect("release");
}

fn by_study(images: &[Image]) -> BTreeMap<&str, Vec<&Image>> {
    let mut studies = BTreeMap::<&str, Vec<&Image>>::new();
    for image in images {
        studies.entry(&image.study).or_default().push(image);
    }
    studies
}

/// SOP Instance UIDs of a study, sorted; waits while the index is being rebuilt (A700H).
pub fn found(server: &Server, study: &str) -> Vec<String> {
    let start = Instant::now();
    let found = loop {
        let mut client = server.associate(ALL);
        let identifier = by_uids("IMAGE", study, None, Some(""));
        let found = client.c_find(FIND, &identifier).expect("C-FIND");
        client.release().expect("release");
        if found.status == 0 {
            break found;
        }
        assert_eq!(found.status, 0xA700, "{:?}", found.comment);
        assert!(start.elapsed() < INDEX_LIMIT, "still {:?}", found.comment);
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut uids: Vec<String> = found
        .answers()
        .iter()
        .map(|answer| elements::find(answer, 0x0008, 0x0018).expect("SOPInstanceUID"))
        .collect();
    uids.sort();
    uids
}

/// A complete answer names each image once, and no other of its study.
pub fn assert_found(server: &Server, images: &[Image]) {
    for (study, of_study) in by_study(images) {
        let mut expected: Vec<_> = of_study.iter().map(|image| image.sop.clone()).collect();
        expected.sort();
        assert_eq!(found(server, study), expected, "study {study}");
    }
}

/// C-GET of their studies brings each image, byte for byte, and no other.
pub fn assert_come_back(server: &Server, images: &[Image]) {
    for (study, of_study) in by_study(images) {
        let mut client = server.associate(ALL);
        let got = client
            .c_get(GET, &by_uids("STUDY", study, None, None))
            .expect("C-GET");
        assert_eq!(got.moved.status, 0, "{study}: {:?}", got.moved);
        assert_eq!(got.received.len(), of_study.len(), "study {study}");
        for image in of_study {
            let back = got
                .received
                .iter()
                .find(|received| received.sop_instance == image.sop)
                .unwrap_or_else(|| panic!("{} did not come back", image.sop));
            assert!(
                back.data_set == image.data_set,
                "{}: other bytes",
                image.sop
            );
        }
        client.release().expect("release");
    }
}

/// The image files of a volume: everything under folders named by a date.
pub fn tree(volume: &Path) -> Vec<PathBuf> {
    wait_for_the_journal(volume);
    files::below(volume)
        .into_iter()
        .filter(|path| {
            let relative = path.strip_prefix(volume).expect("below the volume");
            relative.components().next().is_some_and(|first| {
                let name = first.as_os_str().to_string_lossy();
                name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
        .collect()
}

/// With `KURA_TEST_INTAKE=journal` files come some time after the answer. What never leaves `incoming/` is not waited for.
pub fn wait_for_the_journal(volume: &Path) {
    let start = Instant::now();
    while std::env::var_os("KURA_TEST_INTAKE").is_some()
        && !incoming(volume).is_empty()
        && start.elapsed() < Duration::from_secs(3)
    {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Names in `incoming/`.
pub fn incoming(volume: &Path) -> Vec<PathBuf> {
    files::below(&volume.join("incoming"))
}

/// Waits until nothing is left in `incoming/`: the name there goes after the answer.
pub fn wait_until_nothing_is_incoming(volume: &Path) {
    let start = Instant::now();
    while !incoming(volume).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "left in incoming/: {:?}",
            incoming(volume)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
