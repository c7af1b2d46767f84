use super::io::{Observer, Op};
use super::*;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

const PATH: &str = "20260115/CT/4711-1.2/1.2.3/1.2.3.4.dcm";

fn spec(root: &Path) -> Spec {
    Spec::new("A", root, Role::Archive)
}

pub(super) fn new_volume(disk: &Disk, root: &Path) -> Volume<()> {
    initialize(disk, &spec(root), "archive").unwrap();
    reopen(disk, root).unwrap()
}

fn reopen(disk: &Disk, root: &Path) -> Result<Volume<()>, VolumeError> {
    Volume::open(disk, &spec(root), "archive", Box::new(|_| {}))
}

fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(next).collect()
}

fn put(volume: &Volume<()>, path: &str, content: &[u8]) -> (Incoming, Published) {
    let mut incoming = volume.begin().unwrap();
    for chunk in content.chunks(65_521) {
        incoming.write(chunk).unwrap();
    }
    incoming.flush().unwrap();
    let published = incoming.publish(path).unwrap();
    (incoming, published)
}

fn get(volume: &Volume<()>, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    let mut file = volume.open_file(path).unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

#[test]
fn bytes_of_any_length_come_back_as_they_were() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let mib = 1 << 20;
    for len in [
        0,
        1,
        4095,
        4096,
        4097,
        mib - 1,
        mib,
        mib + 1,
        3 * mib + 4096 + 5,
    ] {
        let content = bytes(len);
        let path = format!("20260115/CT/p-1/2/{len}.dcm");
        let (incoming, published) = put(&volume, &path, &content);
        assert_eq!(published, Published::New);
        assert_eq!(incoming.len(), len as u64);
        incoming.finish();
        assert!(get(&volume, &path) == content, "{len} bytes");
    }
    assert!(volume.leftovers().unwrap().is_empty());
}

#[test]
fn a_taken_name_is_never_replaced_and_our_own_is_known() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let (mut first, _) = put(&volume, PATH, b"first");
    assert_eq!(first.publish(PATH).unwrap(), Published::AlreadyOurs);
    let (second, published) = put(&volume, PATH, b"second");
    assert_eq!(published, Published::Taken);
    drop(second);
    drop(first);
    assert_eq!(get(&volume, PATH), b"first");
    assert!(volume.leftovers().unwrap().is_empty());
}

#[test]
fn a_path_outside_the_image_tree_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let mut incoming = volume.begin().unwrap();
    for bad in [
        "../x.dcm",
        "/tmp/x/y.dcm",
        "x.dcm",
        "incoming/x.dcm",
        "ledgers/a/x.dcm",
        "a/../b.dcm",
    ] {
        assert!(incoming.publish(bad).is_err(), "{bad}");
        assert!(volume.open_file(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_folder_that_was_removed_meanwhile_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    put(&volume, PATH, b"1");
    std::fs::remove_dir_all(root.path().join("20260115")).unwrap();
    assert_eq!(put(&volume, PATH, b"2").1, Published::New);
    assert_eq!(get(&volume, PATH), b"2");
}

#[test]
fn a_second_open_is_refused_and_names_the_owner() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let Err(VolumeError::Locked { owner, .. }) = reopen(&Disk::default(), root.path()) else {
        panic!("opened twice");
    };
    assert!(owner.contains(&format!("process {} on ", std::process::id())));
    // As long as one instance is on its way, the volume is in use.
    let incoming = volume.begin().unwrap();
    drop(volume);
    assert!(reopen(&Disk::default(), root.path()).is_err());
    drop(incoming);
    assert!(reopen(&Disk::default(), root.path()).is_ok());
}

#[test]
fn an_empty_mount_point_is_left_empty() {
    let root = tempfile::tempdir().unwrap();
    let refused = reopen(&Disk::default(), root.path());
    assert!(matches!(refused, Err(VolumeError::Empty { .. })));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    let refused = reopen(&Disk::default(), &root.path().join("none"));
    assert!(matches!(refused, Err(VolumeError::Missing { .. })));
}

#[test]
fn a_detached_disk_gets_no_new_instances_and_its_mount_point_stays_empty() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("a");
    let volume = new_volume(&Disk::default(), &root);
    let mut under_way = volume.begin().unwrap();
    std::fs::rename(&root, base.path().join("detached")).unwrap();
    std::fs::create_dir(&root).unwrap();
    assert!(matches!(volume.begin(), Err(VolumeError::Detached { .. })));
    under_way.write(b"bytes").unwrap();
    assert_eq!(under_way.publish(PATH).unwrap(), Published::New);
    volume.ledger().append(&[], "{\"a\":1}".into(), ()).unwrap();
    under_way.finish();
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    assert!(base.path().join("detached").join(PATH).exists());
}

#[test]
fn leftovers_show_whether_they_were_published_and_can_be_resumed() {
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let volume = new_volume(&disk, root.path());
    put(&volume, PATH, b"published").0.keep();
    let mut half = volume.begin().unwrap();
    half.write(b"half").unwrap();
    half.flush().unwrap();
    half.keep();
    drop(volume);
    let volume = reopen(&disk, root.path()).unwrap();
    let mut leftovers = volume.leftovers().unwrap();
    leftovers.sort_by_key(|leftover| leftover.links);
    let facts: Vec<(u64, u64)> = leftovers.iter().map(|l| (l.links, l.len)).collect();
    assert_eq!(facts, [(1, 4), (2, 9)]);
    let mut again = volume.resume(&leftovers[1]).unwrap();
    assert_eq!(again.publish(PATH).unwrap(), Published::AlreadyOurs);
    again.finish();
    // Looked at and dropped it is still there.
    drop(volume.resume(&leftovers[0]).unwrap());
    assert_eq!(volume.leftovers().unwrap(), leftovers[..1]);
    let mut half = volume.resume(&leftovers[0]).unwrap();
    let other = "20260115/CT/4711-1.2/1.2.3/half.dcm";
    assert_eq!(half.publish(other).unwrap(), Published::New);
    half.finish();
    assert_eq!(get(&volume, other), b"half");
    assert!(volume.leftovers().unwrap().is_empty());
}

#[test]
fn compare_tells_equal_bytes_from_others_before_and_after_a_flush() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let content = bytes(2_500_000);
    put(&volume, PATH, &content).0.finish();
    for (at, flushed) in [(0, false), (1_500_000, true), (2_499_999, false)] {
        let mut changed = content.clone();
        changed[at] ^= 1;
        for (written, equal) in [(&content, true), (&changed, false)] {
            let mut incoming = volume.begin().unwrap();
            incoming.write(b"head").unwrap();
            incoming.write(written).unwrap();
            if flushed {
                incoming.flush().unwrap();
            }
            let stored = volume.open_file(PATH).unwrap();
            let len = content.len() as u64;
            assert_eq!(incoming.compare(&stored, 4, 0, len).unwrap(), equal);
            assert!(!incoming.compare(&stored, 4, 0, len + 1).unwrap());
            // It can still be written to and flushed.
            incoming.write(b"tail").unwrap();
            incoming.flush().unwrap();
            assert_eq!(incoming.len(), len + 8);
        }
    }
}

/// Lets the calls a test names fail, and counts how often it did.
struct Failing<F>(F, AtomicUsize);

impl<F: Fn(&Op) -> Option<i32> + Send + Sync> Observer for Failing<F> {
    fn before(&self, op: &Op) -> std::io::Result<()> {
        match (self.0)(op) {
            Some(errno) => {
                self.1.fetch_add(1, Ordering::SeqCst);
                Err(std::io::Error::from_raw_os_error(errno))
            }
            None => Ok(()),
        }
    }
}

fn failing(f: impl Fn(&Op) -> Option<i32> + Send + Sync + 'static) -> Disk {
    Disk::observed(Arc::new(Failing(f, AtomicUsize::new(0))))
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EPERM: i32 = 1;
const EROFS: i32 = 30;

fn is_part(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "part")
}

#[test]
fn what_was_taken_before_the_disk_was_full_can_be_read_back() {
    let root = tempfile::tempdir().unwrap();
    let disk = failing(|op| match op {
        Op::Write { path, offset, .. } if is_part(path) && *offset >= 2 << 20 => Some(ENOSPC),
        _ => None,
    });
    let volume = new_volume(&disk, root.path());
    let content = bytes(5 << 20);
    let mut incoming = volume.begin().unwrap();
    let error = incoming.write(&content).unwrap_err();
    assert!(error.is_full(), "{error}");
    let taken = incoming.len();
    assert_eq!(taken, 3 << 20);
    let mut back = vec![0; content.len()];
    let mut filled = 0;
    loop {
        match incoming
            .read_at(filled as u64, &mut back[filled..])
            .unwrap()
        {
            0 => break,
            count => filled += count,
        }
    }
    assert_eq!(filled as u64, taken);
    assert!(back[..filled] == content[..filled]);
    assert_eq!(volume.state(), VolumeState::Ok);
    drop(incoming);
    assert!(volume.leftovers().unwrap().is_empty());
}

#[test]
fn a_file_system_that_refuses_direct_writes_gets_ordinary_ones() {
    let root = tempfile::tempdir().unwrap();
    let first = AtomicUsize::new(0);
    let disk = failing(move |op| match op {
        Op::Write { path, .. } if is_part(path) => {
            (first.fetch_add(1, Ordering::SeqCst) == 0).then_some(22)
        }
        _ => None,
    });
    let volume = new_volume(&disk, root.path());
    let content = bytes(3 << 20);
    let mut incoming = volume.begin().unwrap();
    // Where direct I/O was not even asked for, the error is passed on.
    if incoming.write(&content).is_ok() {
        incoming.publish(PATH).unwrap();
        assert!(get(&volume, PATH) == content);
    }
}

#[test]
fn after_a_failed_flush_the_volume_takes_nothing_more() {
    let root = tempfile::tempdir().unwrap();
    let disk = failing(|op| match op {
        Op::SyncFile(path) if is_part(path) => Some(EIO),
        _ => None,
    });
    let volume = new_volume(&disk, root.path());
    let mut incoming = volume.begin().unwrap();
    incoming.write(b"x").unwrap();
    let error = incoming.publish(PATH).unwrap_err();
    assert!(matches!(error, VolumeError::FlushFailed { .. }), "{error}");
    assert!(volume.open_file(PATH).is_err());
    assert!(matches!(volume.begin(), Err(VolumeError::Failed { .. })));
    assert!(matches!(volume.state(), VolumeState::Failed(_)));
}

#[test]
fn where_names_cannot_be_linked_an_exclusive_rename_is_used() {
    let root = tempfile::tempdir().unwrap();
    let disk = failing(|op| matches!(op, Op::Link { .. }).then_some(EPERM));
    let volume = new_volume(&disk, root.path());
    assert_eq!(volume.shared.publish_by, PublishBy::Rename);
    let (mut first, published) = put(&volume, PATH, b"first");
    assert_eq!(published, Published::New);
    assert_eq!(first.publish(PATH).unwrap(), Published::AlreadyOurs);
    assert_eq!(put(&volume, PATH, b"second").1, Published::Taken);
    first.finish();
    assert_eq!(get(&volume, PATH), b"first");
    assert!(volume.leftovers().unwrap().is_empty());
}

#[test]
fn where_neither_works_the_volume_is_refused() {
    let root = tempfile::tempdir().unwrap();
    initialize(&Disk::default(), &spec(root.path()), "archive").unwrap();
    let disk = failing(|op| match op {
        Op::Link { .. } | Op::Rename { .. } => Some(EPERM),
        _ => None,
    });
    let refused = reopen(&disk, root.path());
    assert!(matches!(refused, Err(VolumeError::CannotPublish { .. })));
}

#[test]
fn a_read_only_disk_is_opened_for_reading() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    put(&volume, PATH, b"kept").0.finish();
    let position = volume.ledger().append(&[], "{\"a\":1}".into(), ()).unwrap();
    drop(volume);
    let volume = reopen(&failing(|_| Some(EROFS)), root.path()).unwrap();
    assert!(matches!(volume.state(), VolumeState::Failed(_)));
    assert_eq!(get(&volume, PATH), b"kept");
    assert_eq!(volume.ledger().position(), position);
    assert!(volume.begin().is_err());
    assert!(volume.ledger().append(&[], "{\"a\":2}".into(), ()).is_err());
}

#[test]
fn a_full_disk_is_opened_and_says_so_at_each_write() {
    let root = tempfile::tempdir().unwrap();
    drop(new_volume(&Disk::default(), root.path()));
    let disk = failing(|op| matches!(op, Op::Write { .. }).then_some(ENOSPC));
    let volume = reopen(&disk, root.path()).unwrap();
    assert_eq!(volume.state(), VolumeState::Ok);
    let mut incoming = volume.begin().unwrap();
    incoming.write(b"x").unwrap();
    assert!(incoming.flush().unwrap_err().is_full());
    let refused = volume.ledger().append(&[], "{\"a\":1}".into(), ());
    assert!(VolumeError::from(refused.unwrap_err()).is_full());
}

/// Method: each disk call of one store is recorded as a word; the order is the
/// promise that a ledger line means the bytes and their name are there.
#[test]
fn content_then_folders_then_name_then_line_are_flushed_in_this_order() {
    let root = tempfile::tempdir().unwrap();
    let record: Arc<Mutex<Vec<String>>> = Arc::default();
    let calls = record.clone();
    let base = root.path().to_owned();
    let disk = failing(move |op| {
        let short = |path: &Path| {
            let path = path.strip_prefix(&base).unwrap_or(path);
            let text = path.to_string_lossy();
            match text.split_once('/') {
                Some((top, _)) if ["incoming", "ledgers"].contains(&top) => top.to_owned(),
                _ => text.into_owned(),
            }
        };
        calls.lock().unwrap().push(match op {
            Op::CreateDir(path) => format!("mkdir {}", short(path)),
            Op::CreateFile(path) => format!("create {}", short(path)),
            Op::Write { path, .. } => format!("write {}", short(path)),
            Op::SetLen { path, .. } => format!("set_len {}", short(path)),
            Op::SyncFile(path) => format!("sync {}", short(path)),
            Op::SyncDir(path) => format!("sync_dir {}", short(path)),
            Op::SyncFileSystem(path) => format!("sync_file_system {}", short(path)),
            Op::Link { from, to } => format!("link {} {}", short(from), short(to)),
            Op::Rename { from, to } => format!("rename {} {}", short(from), short(to)),
            Op::Remove(path) => format!("remove {}", short(path)),
        });
        None
    });
    let volume = new_volume(&disk, root.path());
    volume.ledger().append(&[], "{\"a\":0}".into(), ()).unwrap();
    let store = |path: &str| {
        record.lock().unwrap().clear();
        let (incoming, _) = put(&volume, path, b"x");
        volume.ledger().append(&[], "{\"a\":1}".into(), ()).unwrap();
        incoming.finish();
        record.lock().unwrap().clone()
    };
    assert_eq!(
        store("d/m/p/s/1.dcm"),
        [
            "create incoming",
            "write incoming",
            "sync incoming",
            "mkdir d",
            "sync_dir ",
            "mkdir d/m",
            "sync_dir d",
            "mkdir d/m/p",
            "sync_dir d/m",
            "mkdir d/m/p/s",
            "sync_dir d/m/p",
            "link incoming d/m/p/s/1.dcm",
            "sync_dir d/m/p/s",
            "write ledgers",
            "sync ledgers",
            "remove incoming",
        ]
    );
    assert_eq!(
        store("d/m/p/s/2.dcm"),
        [
            "create incoming",
            "write incoming",
            "sync incoming",
            "link incoming d/m/p/s/2.dcm",
            "sync_dir d/m/p/s",
            "write ledgers",
            "sync ledgers",
            "remove incoming",
        ]
    );
}

/// Method: one store, then the same with the first, the second, … disk call
/// failing. Whatever fails, the next opening works and an acknowledged line has
/// its file.
#[test]
fn whichever_disk_call_fails_an_acknowledged_line_has_its_file() {
    for errno in [EIO, ENOSPC, EROFS] {
        for at in 0.. {
            let root = tempfile::tempdir().unwrap();
            drop(new_volume(&Disk::default(), root.path()));
            let count = AtomicUsize::new(0);
            let hit = Arc::new(AtomicUsize::new(0));
            let hits = hit.clone();
            let disk = failing(move |_| {
                (count.fetch_add(1, Ordering::SeqCst) == at).then(|| {
                    hits.fetch_add(1, Ordering::SeqCst);
                    errno
                })
            });
            let mut acknowledged = false;
            if let Ok(volume) = reopen(&disk, root.path())
                && let Ok(mut incoming) = volume.begin()
            {
                acknowledged = incoming.write(b"content").is_ok()
                    && matches!(incoming.publish(PATH), Ok(Published::New))
                    && volume.ledger().append(&[], "{\"a\":1}".into(), ()).is_ok();
                if acknowledged {
                    incoming.finish();
                }
            }
            let volume = reopen(&Disk::default(), root.path()).unwrap();
            let mut lines = 0;
            let folder = volume.ledger_folder(volume.id());
            ledger::read(volume.disk(), &folder, Position::default(), &mut |_, _| {
                lines += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
            if acknowledged {
                assert_eq!(lines, 1, "call {at}, error {errno}");
            }
            if lines == 1 {
                assert_eq!(get(&volume, PATH), b"content");
            }
            if hit.load(Ordering::SeqCst) == 0 {
                assert!(acknowledged);
                break;
            }
        }
    }
}

#[test]
fn quarantine_keeps_bytes_and_reason_and_refuses_the_newest_when_full() {
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let volume = new_volume(&disk, root.path());
    let limit_bytes = 30_000;
    let add = |volume: &Volume<()>, n: usize| {
        let mut incoming = volume.begin().unwrap();
        incoming.write(&bytes(5_000)).unwrap();
        volume.quarantine(incoming, &format!("{{\"n\":{n}}}"), limit_bytes)
    };
    let id = add(&volume, 0).unwrap();
    let kept = root.path().join("quarantine").join(format!("{id}.bytes"));
    assert!(std::fs::read(kept).unwrap() == bytes(5_000));
    let reason = root.path().join("quarantine").join(format!("{id}.json"));
    assert_eq!(std::fs::read_to_string(reason).unwrap(), "{\"n\":0}");
    add(&volume, 1).unwrap();
    add(&volume, 2).unwrap();
    let refused = add(&volume, 3);
    assert!(matches!(refused, Err(VolumeError::QuarantineFull { .. })));
    assert_eq!(volume.quarantined().len(), 3);
    assert!(volume.leftovers().unwrap().is_empty());
    drop(volume);
    let volume = reopen(&disk, root.path()).unwrap();
    assert!(add(&volume, 4).is_err());
    assert_eq!(volume.quarantined().len(), 3);
}

#[test]
fn space_is_asked_of_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let space = volume.space().unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
}

/// Method: the volume's folder is moved away under it, as a lazy unmount does.
#[test]
fn a_volume_shares_its_disks_with_itself_until_its_path_leads_elsewhere() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("volume");
    std::fs::create_dir(&root).unwrap();
    let volume = new_volume(&Disk::default(), &root);
    let disks = volume.disks().unwrap();
    assert_eq!(
        device::share(&disks, &disks),
        device::Shared::Yes,
        "{disks:?}"
    );
    std::fs::rename(&root, base.path().join("elsewhere")).unwrap();
    assert!(volume.disks().is_err());
}

/// Method: files are moved to names that are free and to one that is taken, from a name where nothing is, and through a
/// symbolic link.
#[test]
fn a_moved_file_never_replaces_another_and_never_leaves_the_volume() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    let paths = ["20260115/CT/1-2/3/4.dcm", "20260115/CT/1-2/3/5.dcm"];
    for path in paths {
        put(&volume, path, path.as_bytes()).0.finish();
    }
    std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
    let to = paths.map(|path| format!("superseded/{path}"));
    let moved = volume.move_all(&[
        (paths[0], &to[0]),
        (paths[1], &to[0]),
        ("20260115/CT/1-2/3/6.dcm", &to[1]),
        (paths[1], "out/5.dcm"),
    ]);
    let moved = moved.unwrap();
    assert_eq!(moved[..3], [Moved::Done, Moved::Taken, Moved::Missing]);
    assert!(matches!(moved[3], Moved::Not(_)), "{moved:?}");
    assert_eq!(get(&volume, &to[0]), paths[0].as_bytes());
    assert_eq!(get(&volume, paths[1]), paths[1].as_bytes());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    // And back, where the folders were removed meanwhile.
    volume.move_all(&[(paths[1], &to[1])]).unwrap();
    volume.remove_empty_folders(paths[1]);
    assert!(!root.path().join("20260115").exists());
    let back = volume.move_all(&[(&to[0], paths[0]), (&to[1], paths[1])]);
    assert_eq!(back.unwrap(), [Moved::Done, Moved::Done]);
    assert_eq!(get(&volume, paths[0]), paths[0].as_bytes());
}

#[test]
fn a_note_is_replaced_whole_and_an_emptied_folder_is_known() {
    let root = tempfile::tempdir().unwrap();
    let volume = new_volume(&Disk::default(), root.path());
    put(&volume, PATH, b"image").0.finish();
    let study = PATH.rsplitn(3, '/').last().unwrap();
    assert!(!volume.is_emptied(study));
    volume.write_note(study, "one").unwrap();
    volume.write_note(study, "two").unwrap();
    assert_eq!(volume.note(study).as_deref(), Some("two"));
    assert!(!volume.is_emptied(study), "the image is there");
    assert_eq!(volume.remove_all(&[PATH]).unwrap(), [None]);
    assert!(volume.is_emptied(study));
    assert!(root.path().join(study).is_dir());
    volume.remove_note(study);
    assert!(!root.path().join(study).exists());
    assert!(volume.is_emptied(study));
}
