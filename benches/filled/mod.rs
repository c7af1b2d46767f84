//! An archive with so many made-up CT instances, for measurements below the network.

// Each bench uses a part.
#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use kura::archive::{Announced, Archive, Mode};
use kura::config::Config;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
/// They share flushes.
const WRITERS: usize = 16;

/// An archive below `place`, its state in `state`; volumes by name (which is their folder) and role.
pub fn open(place: &Path, state: &str, volumes: &[(&str, &str)]) -> Arc<Archive> {
    let mut text = format!(
        "state = {:?}\n[intake]\nmode = \"direct\"\n[mirror]\nallow_same_device = true\n",
        place.join(state)
    );
    for (name, role) in volumes {
        let path = place.join(name);
        text += &format!("[[volume]]\nname = {name:?}\npath = {path:?}\nrole = {role:?}\n");
    }
    let file = place.join("kura.toml");
    fs::write(&file, text).expect("configuration");
    let config = Config::load(Some(&file)).expect("configuration");
    Arc::new(Archive::open(&config, Mode::Create).expect("archive"))
}

/// Stores `count` instances with so many bytes of pixels, 250 in a study, all of 20260115.
pub fn fill(archive: &Archive, count: usize, pixel_bytes: usize) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for number in (writer..count).step_by(WRITERS) {
                    store(archive, number, pixel_bytes);
                }
            });
        }
    });
}

fn store(archive: &Archive, number: usize, pixel_bytes: usize) {
    let study = format!("2.25.1{}", number / 250);
    let sop = format!("{study}.1.{number}");
    let mut data = Vec::new();
    let mut put = |group: u16, element: u16, vr: &[u8; 2], value: &str| {
        let padded = value.len().next_multiple_of(2);
        data.extend(group.to_le_bytes());
        data.extend(element.to_le_bytes());
        data.extend(vr);
        data.extend((padded as u16).to_le_bytes());
        data.extend(value.as_bytes());
        data.resize(data.len() + padded - value.len(), 0);
    };
    put(0x0008, 0x0016, b"UI", CT);
    put(0x0008, 0x0018, b"UI", &sop);
    put(0x0008, 0x0020, b"DA", "20260115");
    put(0x0008, 0x0060, b"CS", "CT");
    put(0x0010, 0x0020, b"LO", &(number / 250).to_string());
    put(0x0020, 0x000D, b"UI", &study);
    put(0x0020, 0x000E, b"UI", &format!("{study}.1"));
    let pixel_bytes = pixel_bytes & !1;
    data.extend(0x7FE0_u16.to_le_bytes());
    data.extend(0x0010_u16.to_le_bytes());
    data.extend(b"OW\0\0");
    data.extend((pixel_bytes as u32).to_le_bytes());
    data.resize(data.len() + pixel_bytes, number as u8);
    let announced = Announced {
        sop_class_uid: CT.to_owned(),
        sop_instance_uid: sop,
        transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
        calling_ae_title: "BENCH".to_owned(),
        prefer: None,
    };
    let mut receiving = archive.begin(announced).expect("begin");
    receiving.write(&data).expect("write");
    receiving.finish().expect("stored").answered();
}

/// Drops the page cache, so that everything is read from the disk; false where this user may not.
pub fn drop_caches() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
