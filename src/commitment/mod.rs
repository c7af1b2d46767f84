//! Storage commitment (PS3.4 J): what we were asked to keep, and when that is true.

use std::sync::Arc;

use crate::archive::Archive;
use crate::config::Config;
use crate::transfers::Transfers;

/// Requests that are not answered yet, and who answers them.
pub struct Commitment {}

impl Commitment {
    /// Opens what is kept of requests; nothing is answered before [`Commitment::start`].
    pub fn open(
        _archive: &Arc<Archive>,
        _config: &Config,
        _transfers: &Arc<Transfers>,
    ) -> Result<Arc<Commitment>, String> {
        Ok(Arc::new(Commitment {}))
    }

    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        Ok(())
    }

    pub fn stop(&self) {}
}
