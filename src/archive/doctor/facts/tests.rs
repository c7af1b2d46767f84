use super::*;
use crate::archive::doctor::Grade;

fn well() -> VolumeFacts {
    VolumeFacts {
        role: Role::Archive,
        is_adopted: false,
        is_retired: false,
        free_bytes: Some(500_000_000_000),
        reserve_bytes: 64 << 20,
        file_system: Some(FileSystem {
            kind: "ext4".to_owned(),
            is_read_only: false,
            notes_each_reading: false,
        }),
        disks: vec![disk("sda", true)],
        shares_with: Vec::new(),
        flush: Some(Ok(Duration::from_micros(11_200))),
        way_in: Some(WayIn {
            way: Way::Journal,
            reason: "a flush takes 11.0 ms".to_owned(),
            lacks_journal: false,
            flush_us: Some(11_000),
            journal_flush_us: None,
        }),
        speed: Some(Ok(Speed {
            bytes: 64_000_000,
            time: Duration::from_millis(500),
        })),
    }
}

fn disk(name: &str, is_rotational: bool) -> DiskFacts {
    DiskFacts {
        name: name.to_owned(),
        says: PhysicalDisk {
            is_rotational: Some(is_rotational),
            has_write_back_cache: Some(true),
        },
    }
}

#[test]
fn a_volume_that_is_well_is_told_in_five_lines() {
    let findings = well().findings("volume A");
    let says: Vec<&str> = findings.iter().map(|f| f.says.as_str()).collect();
    assert_eq!(
        says,
        [
            "ext4 on sda",
            "500.00 GB free, of which 0.07 GB stay free",
            "a flush takes 11.2 ms; sda caches writes until a flush",
            "intake journal: a flush takes 11.0 ms",
            "it takes 128 MB/s",
        ]
    );
    assert!(findings.iter().all(|f| f.grade == Grade::Ok));
    assert!(findings.iter().all(|f| f.next.is_empty()));
}

/// Method: one thing is wrong at a time; all that is not ok then, and that each says what to do.
#[test]
fn each_thing_that_is_wrong_is_one_finding_with_its_next_step() {
    let file_system = |kind: &str, is_read_only, notes_each_reading| {
        Some(FileSystem {
            kind: kind.to_owned(),
            is_read_only,
            notes_each_reading,
        })
    };
    let slow_and_direct = WayIn {
        way: Way::Direct,
        reason: "configured".to_owned(),
        lacks_journal: false,
        flush_us: None,
        journal_flush_us: None,
    };
    for (facts, grade, begins) in [
        (
            VolumeFacts {
                file_system: file_system("tmpfs", false, false),
                ..well()
            },
            Grade::Problem,
            "it is in memory (tmpfs)",
        ),
        (
            VolumeFacts {
                file_system: file_system("nfs4", false, false),
                ..well()
            },
            Grade::Note,
            "nfs4 on sda: ",
        ),
        (
            VolumeFacts {
                file_system: file_system("ext4", true, false),
                ..well()
            },
            Grade::Problem,
            "it is mounted read-only",
        ),
        (
            VolumeFacts {
                file_system: file_system("ext4", false, true),
                ..well()
            },
            Grade::Note,
            "each reading of a file",
        ),
        (
            VolumeFacts {
                shares_with: vec!["M".to_owned()],
                ..well()
            },
            Grade::Note,
            "it is on the same disk as M",
        ),
        (
            VolumeFacts {
                free_bytes: Some(1 << 20),
                ..well()
            },
            Grade::Note,
            "it is full: 0.00 GB free",
        ),
        (
            VolumeFacts {
                flush: Some(Ok(Duration::from_micros(20))),
                ..well()
            },
            Grade::Note,
            "a flush takes 0.02 ms, which a disk that turns (sda) cannot do",
        ),
        (
            VolumeFacts {
                flush: Some(Err("Input/output error".to_owned())),
                ..well()
            },
            Grade::Problem,
            "nothing can be written durably: Input/output error",
        ),
        (
            VolumeFacts {
                way_in: Some(slow_and_direct),
                ..well()
            },
            Grade::Note,
            "intake direct: configured; now one takes longer",
        ),
        (
            VolumeFacts {
                way_in: well()
                    .way_in
                    .map(|way_in| way_in.no_journal("the disk is full")),
                ..well()
            },
            Grade::Note,
            "intake direct: a flush takes 11.0 ms, but there is no journal: the disk is full",
        ),
        (
            VolumeFacts {
                speed: Some(Ok(Speed {
                    bytes: 5_000_000,
                    time: Duration::from_secs(5),
                })),
                ..well()
            },
            Grade::Note,
            "it takes 1 MB/s",
        ),
    ] {
        let mut findings = facts.findings("volume A");
        findings.retain(|finding| finding.grade != Grade::Ok);
        assert_eq!(findings.len(), 1, "{begins}: {findings:?}");
        let finding = &findings[0];
        assert_eq!(finding.grade, grade, "{finding:?}");
        assert!(finding.says.starts_with(begins), "{finding:?}");
        assert!(!finding.next.is_empty(), "{finding:?}");
    }
}

/// Method: a disk without moving parts with that flush, and a volume that is only read, on a disc that cannot be written.
#[test]
fn what_is_as_it_should_be_is_no_finding() {
    let fast = VolumeFacts {
        disks: vec![disk("nvme0", false)],
        flush: Some(Ok(Duration::from_micros(20))),
        ..well()
    };
    let adopted = VolumeFacts {
        is_adopted: true,
        free_bytes: Some(0),
        flush: None,
        way_in: None,
        speed: None,
        file_system: Some(FileSystem {
            kind: "iso9660".to_owned(),
            is_read_only: true,
            notes_each_reading: false,
        }),
        ..well()
    };
    for facts in [fast, adopted] {
        let findings = facts.findings("volume A");
        assert!(
            findings.iter().all(|f| f.grade == Grade::Ok),
            "{findings:?}"
        );
    }
}
