//! Where a ledger that is damaged, or has lost lines, may be healed from.

use std::path::PathBuf;

use crate::volume::io::Disk;
use crate::volume::layout;
use crate::volume::ledger_heal::LedgerCopy;

use super::Archive;

impl Archive {
    /// The copies of a volume's ledger beside the state and on the volumes with these roots, which need not be open yet.
    pub(super) fn copies_at<'a>(
        &self,
        volume_id: &str,
        roots: impl Iterator<Item = &'a PathBuf>,
    ) -> Vec<LedgerCopy> {
        let on_volumes = roots.map(|root| LedgerCopy {
            disk: Disk::default(),
            folder: root.join(layout::LEDGERS_FOLDER).join(volume_id),
            stays: false,
        });
        std::iter::once(self.copy_beside(volume_id))
            .chain(on_volumes)
            .collect()
    }

    /// The copies of a volume's ledger beside the state and on the volumes that are here.
    pub(super) fn copies_here(&self, volume_id: &str) -> Vec<LedgerCopy> {
        let members = self.shelf.all();
        let others = members.iter().filter_map(|member| {
            let volume = member.here().filter(|volume| volume.answers())?;
            Some(LedgerCopy {
                disk: volume.disk().clone(),
                folder: volume.ledger_folder(volume_id),
                stays: false,
            })
        });
        std::iter::once(self.copy_beside(volume_id))
            .chain(others)
            .collect()
    }

    fn copy_beside(&self, volume_id: &str) -> LedgerCopy {
        LedgerCopy {
            disk: Disk::default(),
            folder: self.state.join(layout::LEDGERS_FOLDER).join(volume_id),
            stays: true,
        }
    }
}
