//! Studies from another archive to here: found there, moved here, compared at the end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::config::Config;
use crate::transfers::Transfers;

/// `kura pull …`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PullVerb {
    /// Keys as `kura find` takes them, by keyword or tag.
    Start {
        from: String,
        keys: Vec<(String, String)>,
    },
    Look,
    Cancel,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PullStatus {
    pub from: String,
    pub running: bool,
    pub studies_done: u64,
    pub studies_total: u64,
    pub instances_done: u64,
    pub instances_total: u64,
}

/// Pulls, one at a time.
pub struct Pulls {}

impl Pulls {
    pub fn open(
        _archive: &Arc<Archive>,
        _config: &Config,
        _transfers: &Arc<Transfers>,
    ) -> Result<Arc<Pulls>, String> {
        Ok(Arc::new(Pulls {}))
    }

    pub fn stop(&self) {}

    /// The error is a sentence.
    pub fn verb(&self, _verb: PullVerb) -> Result<PullStatus, String> {
        Err("nothing is pulled yet".to_owned())
    }
}
