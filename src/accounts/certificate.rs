//! A certificate that the server signs itself, for where nobody hands out better ones: `certificate.pem` and `key.pem`
//! (0600) in `<state>/admin`, and for DICOM in `<state>/tls`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};

use super::FOLDER;
use crate::net::certificate::fingerprint;
use crate::volume::io::Disk;

/// What every browser and system of today still accepts of a certificate that a person has to trust by hand.
const DAYS: i64 = 825;

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Page,
    /// `[tls]`
    Dicom,
}

/// Beside the folder of the page.
const DICOM_FOLDER: &str = "tls";

/// What was made.
pub struct Made {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Last day, `YYYY-MM-DD`.
    pub until: String,
    /// SHA-256, as peers pin it.
    pub fingerprint: String,
}

/// For these names, `localhost` and the addresses of this machine by which it is asked. `again`: in the place of the one
/// that is there. The error is a sentence.
pub fn make(
    state: &Path,
    for_what: Use,
    bind: IpAddr,
    wanted: &[String],
    again: bool,
) -> Result<Made, String> {
    let own = rustix::system::uname();
    let own = own.nodename().to_string_lossy().into_owned();
    let mut names = wanted.to_vec();
    names.extend([own, "localhost".to_owned(), "127.0.0.1".to_owned()]);
    if !bind.is_unspecified() {
        names.push(bind.to_string());
    }
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    let today = jiff::Zoned::now().date();
    let days = |count: i64| today.checked_add(jiff::Span::new().days(count));
    let failed = |error: &dyn std::fmt::Display| format!("no certificate was made: {error}");
    let (from, until) = (
        days(-1).map_err(|error| failed(&error))?,
        days(DAYS).map_err(|error| failed(&error))?,
    );
    let made = CertificateParams::new(names.clone()).and_then(|mut params| {
        let day = |day: jiff::civil::Date| {
            rcgen::date_time_ymd(day.year().into(), day.month() as u8, day.day() as u8)
        };
        (params.not_before, params.not_after) = (day(from), day(until));
        params.distinguished_name.push(DnType::CommonName, "Kura");
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        Ok((made.pem(), key.serialize_pem(), fingerprint(made.der())))
    });
    let (certificate_pem, key_pem, fingerprint) = made.map_err(|error| failed(&error))?;
    let (folder, option) = match for_what {
        Use::Page => (FOLDER, ""),
        Use::Dicom => (DICOM_FOLDER, "--dicom "),
    };
    let folder = state.join(folder);
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let disk = Disk::default();
    let is_there = disk.entry(&certificate).ok().flatten().is_some();
    if is_there && !again {
        return Err(format!(
            "{} is there already; another one in its place: kura admin certificate {option}--again",
            certificate.display()
        ));
    }
    // The key first: a certificate whose key is missing would stop the page.
    let written = disk.create_dir_durable(&folder).and_then(|()| {
        for (path, text) in [(&key, &key_pem), (&certificate, &certificate_pem)] {
            let new = path.with_extension("new");
            let file = disk.open_or_create(&new)?;
            file.set_private()?;
            file.set_len(0)?;
            file.write_at(0, text.as_bytes())?;
            file.sync_data()?;
            disk.rename(&new, path)?;
        }
        disk.sync_dir(&folder)
    });
    written.map_err(|error| failed(&error))?;
    Ok(Made {
        certificate,
        key,
        names,
        until: until.to_string(),
        fingerprint,
    })
}
