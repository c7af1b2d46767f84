//! What notices tell, put together from every part of the server.

use std::ops::ControlFlow;
use std::sync::Weak;

use serde::{Deserialize, Serialize};

use super::Desk;
use crate::config::NoticeLanguage;
use crate::notices::{Came, NoticesStatus, Seen, Source};
use crate::transfers::{Direction, Wanted};

/// `kura notices`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NoticesVerb {
    Show,
    Test,
}
/// Lines of the journal that are added up; a busy day has some thousands.
const LINES_MAX: u64 = 200_000;

pub fn verb(desk: &Desk, verb: NoticesVerb) -> NoticesStatus {
    match verb {
        NoticesVerb::Show => desk.notices.status(),
        NoticesVerb::Test => desk.notices.test(),
    }
}

/// A sentence of the server in another language; as it is where it is not known.
pub type Translate = fn(&str, NoticeLanguage) -> String;

/// The server, as long as there is one.
pub struct Watched {
    desk: Weak<Desk>,
    translate: Translate,
}

impl Watched {
    pub fn new(desk: Weak<Desk>, translate: Translate) -> Watched {
        Watched { desk, translate }
    }
}

impl Source for Watched {
    fn look(&self) -> Option<Seen> {
        let desk = self.desk.upgrade()?;
        let status = super::status(&desk);
        // At the start, or while an index is made anew, nobody knows how things stand.
        if status.index.rebuilding_percent.is_some() {
            return None;
        }
        let peers = desk.forward.status();
        let copies = &status.copies;
        let queues = peers.into_iter().map(|peer| {
            let waiting = peer.waiting_count + peer.sending_count;
            (peer.peer, waiting, peer.failed_count)
        });
        Some(Seen {
            ae_title: desk.config.ae_title.as_str().to_owned(),
            state: status.state,
            actions: status.actions,
            instances_count: status.index.instances_count,
            studies_count: status.index.studies_count,
            bytes: status.index.instances_bytes,
            copies: copies.known.then_some((
                copies.two_count,
                copies.one_count + copies.one_disk_count,
                copies.lost_count + copies.away_count,
            )),
            last_mirror: copies.last_mirror.clone(),
            last_scrub: status.checked.last_scrub_ended,
            bad_count: status.checked.bad.bad_count,
            room_bytes: status.capacity.room_bytes,
            full_on: status.capacity.full_on,
            queues: queues
                .filter(|(_, waiting, failed)| waiting + failed > 0)
                .collect(),
        })
    }

    fn came(&self) -> Came {
        let mut came = Came::default();
        let Some(desk) = self.desk.upgrade() else {
            return came;
        };
        let day_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
        let wanted = Wanted {
            direction: Some(Direction::Stored),
            since: Some(day_ago.to_string()),
            most: LINES_MAX,
            ..Wanted::default()
        };
        let searched = desk.transfers.search(&wanted, &mut |transfer| {
            came.studies_count += u64::from(transfer.instances_count > 0);
            came.instances_count += transfer.instances_count;
            came.bytes += transfer.bytes;
            came.refused_count += transfer.failed_count;
            ControlFlow::Continue(())
        });
        if let Err(error) = searched {
            tracing::warn!(error, "what came in a day is not known");
        }
        came
    }

    fn translated(&self, sentence: &str, language: NoticeLanguage) -> String {
        match language {
            NoticeLanguage::English => sentence.to_owned(),
            NoticeLanguage::Japanese => (self.translate)(sentence, language),
        }
    }
}
