//! `kura reload` and SIGHUP: the configuration file is read again; all of it takes effect that can, or nothing.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::Desk;
use crate::archive::Archive;
use crate::config::Config;
use crate::forward::setup::Setup;

/// What another reading of the configuration file changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reloaded {
    pub file: String,
    /// In effect now; each a line.
    pub changed: Vec<String>,
    /// In effect after a restart only; each a line.
    pub wants_restart: Vec<String>,
}

/// The error is a sentence; then everything is as it was.
pub fn reload(desk: &Desk) -> Result<Reloaded, String> {
    let unchanged = |reason: String| {
        let reason = reason.trim_end_matches("; nothing was started");
        format!("{reason}; nothing was changed, the server goes on with what it has")
    };
    // Two at the same moment would compare with the same configuration.
    let _one = desk.reloading.lock();
    let running = desk.live.now();
    let Some(file) = &running.file else {
        return Err(unchanged(
            "the server was started without a configuration file; make one (kura init), and start it with that".to_owned(),
        ));
    };
    let read = Config::load(Some(file)).map_err(|error| unchanged(error.to_string()))?;
    let peers = running.peers_with(&read);
    // Everything that can be refused is looked at before the first change.
    let images = Archive::ready(&read).map_err(unchanged)?;
    let sending = Setup::ready(&read, peers).map_err(unchanged)?;
    let next = running.with_changes(&read);
    let tls = super::tls::ready(&next).map_err(unchanged)?;
    let mut changes = running.written.changes(&read.written);
    desk.archive.take(images, &next);
    desk.commitment.set(next.commitment.clone());
    desk.notices.set(next.notices.clone());
    desk.transfers.keep(next.transfers.keep_days);
    desk.audit.set(next.audit.clone());
    desk.live.set(next);
    changes.in_effect.extend(super::tls::changed(
        (*desk.tls.now()).as_ref(),
        tls.as_ref(),
    ));
    desk.tls.set(tls);
    changes.in_effect.extend(desk.setup.take(sending)?);
    let page = desk.page.lock();
    if let Some(renew) = &*page.unwrap_or_else(PoisonError::into_inner) {
        let renewed = renew();
        changes.in_effect.extend(renewed.unwrap_or_else(|reason| {
            Some(format!(
                "admin: {reason}; the page goes on with the certificate that it has"
            ))
        }));
    }
    let volumes = desk.archive.other_volumes(&read);
    changes.at_a_start.extend(volumes);
    let reloaded = Reloaded {
        file: file.display().to_string(),
        changed: changes.in_effect,
        wants_restart: changes.at_a_start,
    };
    tell(&reloaded);
    Ok(reloaded)
}

fn tell(reloaded: &Reloaded) {
    let Reloaded {
        file,
        changed,
        wants_restart,
    } = reloaded;
    tracing::info!(
        file,
        changed_count = changed.len(),
        "the configuration was read again"
    );
    for line in changed {
        tracing::info!("in effect now: {line}");
    }
    for line in wants_restart {
        tracing::warn!("in effect after a restart only: {line}");
    }
}
