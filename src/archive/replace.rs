//! A disk that was given up, and the one in its place.

use super::Archive;

impl Archive {
    pub(super) fn is_replaced(&self, volume_id: &str) -> bool {
        self.replaced_by(volume_id).is_some()
    }

    /// Id of the volume that stands in the place of one whose disk was given up.
    pub(super) fn replaced_by(&self, volume_id: &str) -> Option<String> {
        let identity = self.identity();
        let known = identity.by_id(volume_id)?;
        known.replaced.as_ref().map(|replaced| replaced.by.clone())
    }

    /// A copy could not be read, or was not what its ledger line says.
    pub(super) fn suspect(&self, _sop_instance_uid: &str, _copy: &crate::index::Copy) {}
}
