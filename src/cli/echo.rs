//! `kura echo`: is a DICOM node there, and does it talk to us?

use std::time::Instant;

use super::output;
use super::{End, Failure};
use crate::config::{Config, PeerEntry};
use crate::dicom::{sop, ts};
use crate::net::Timeouts;

#[derive(clap::Args)]
pub struct Echo {
    /// AE title of a configured peer, or AE@HOST:PORT
    peer: String,
}

pub fn run(verb: &Echo, config: &Config, json: bool) -> Result<End, Failure> {
    let peer = super::peer(config, &verb.peer)?;
    let ms = ask(&peer, config)?;
    if json {
        output::json(
            &serde_json::json!({ "version": 1, "peer": peer.ae_title.as_str(), "ms": ms }),
        );
    } else {
        output::line(&format!(
            "ok: {} at {}:{} answered in {ms} ms",
            peer.ae_title, peer.host, peer.port
        ));
    }
    Ok(End::Ok)
}

/// One C-ECHO over an association of its own; in how many milliseconds.
pub fn ask(peer: &PeerEntry, config: &Config) -> Result<u64, Failure> {
    let begun = Instant::now();
    let contexts = vec![(
        sop::VERIFICATION.to_owned(),
        vec![ts::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
    )];
    let addresses = super::address(peer)?;
    let timeouts = Timeouts::default();
    let mut association =
        crate::scu::associate(peer, &addresses, &config.ae_title, contexts, timeouts, &[])?;
    if association.contexts().is_empty() {
        return Err(format!(
            "{} accepts the association but not the verification service",
            peer.ae_title
        )
        .into());
    }
    let status = crate::scu::echo(&mut association)?;
    association.release()?;
    if status != 0 {
        return Err(format!("{} answered status {status:04X}H", peer.ae_title).into());
    }
    Ok(begun.elapsed().as_millis() as u64)
}
