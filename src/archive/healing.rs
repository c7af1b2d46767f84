//! Where a ledger that is damaged, or has lost lines, may be healed from; and the reading of ledgers while their volumes
//! are open.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

use crate::volume::io::Disk;
use crate::volume::layout;
use crate::volume::ledger_heal::{Copies, LedgerCopy, Read};

use super::Archive;
use super::shipping::own_source;

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

    /// Reads of every ledger what was not read at the opening of its volume, and heals what is damaged.
    pub(super) fn read_ledgers(&self) {
        let ids = self
            .shelf
            .all()
            .into_iter()
            .map(|member| member.volume_id.clone());
        for id in ids.collect::<Vec<_>>() {
            while self.read_a_segment(&id) {}
        }
    }

    /// True: to be called again.
    fn read_a_segment(&self, volume_id: &str) -> bool {
        // An index that is being made reads the ledgers itself, and goes first.
        if self.is_stopping() || !self.keeper.is_live() {
            return false;
        }
        let volume = self.shelf.here(volume_id);
        let Some(volume) = volume.filter(|volume| volume.answers() && volume.has_unread_ledger())
        else {
            return false;
        };
        let begun = Instant::now();
        match volume.read_ledger_on() {
            Ok(Read::Whole) => {}
            Ok(Read::Nothing) => return false,
            Ok(Read::Damaged) => {
                let inserted = Cell::new(false);
                volume.heal_while_open(&Copies {
                    list: self.copies_here(volume_id),
                    before_insert: &|| {
                        inserted.set(true);
                        self.keeper.hold(volume_id);
                    },
                });
                let source = own_source(&volume);
                drop(volume);
                if inserted.get() {
                    self.keeper.read_over(source);
                }
                return false;
            }
            Err(error) => {
                tracing::debug!(volume = volume.name(), %error, "a ledger is not read now");
                return false;
            }
        }
        // Not while it rests: nobody who ejects the volume waits for it.
        drop(volume);
        self.brake_on(volume_id, false, 0, begun.elapsed())
    }
}
