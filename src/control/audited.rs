//! What the audit is told of requests, of transfers, and of what the archive removes by itself; and its lines, looked for.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Desk, Find, Request, Response};
use crate::archive::{AmendVerb, Archive, Chosen, Correction, Gone, RemovalVerb, Thrown};
use crate::audit::{self, Audit, Entry, Event, Kind, Source, Wanted, Who};
use crate::config::Config;
use crate::dicom::{Tag, tags};
use crate::transfers::{Direction, Transfer};

/// Lines in one piece.
const PIECE_MAX: usize = 100;
/// A piece that is not full goes out after this long.
const PIECE_WAIT: Duration = Duration::from_millis(100);

/// The audit of a server, or of a verb that opened the archive: told of what comes, goes and is deleted.
pub(super) fn open(archive: &Arc<Archive>, config: &Config) -> Arc<Audit> {
    let own = &config.audit;
    let source = Source::new(
        config.ae_title.as_str(),
        own.source_id.as_deref(),
        own.site_id.as_deref(),
        "",
    );
    let audit = Arc::new(Audit::with(&config.state, own.clone(), source));
    let weak = Arc::downgrade(archive);
    audit.knows(move |study: &str| {
        let archive = weak.upgrade()?;
        let view = archive.view().ok()?;
        let record = view.snapshot.study(study).ok()??;
        let values = &record.facts.values;
        let id = values.get(&key(tags::PATIENT_ID))?;
        Some(id.trim().to_owned())
    });
    let told = Arc::downgrade(&audit);
    archive.tell_gone(Box::new(move |gone| {
        if let Some(audit) = told.upgrade() {
            gone_away(&audit, gone);
        }
    }));
    audit
}

fn key(tag: Tag) -> u32 {
    u32::from(tag.group()) << 16 | u32::from(tag.element())
}

/// The archive removed files by itself.
fn gone_away(audit: &Audit, gone: &Gone) {
    let who = Who::server();
    match gone {
        Gone::Deleted {
            correction,
            by,
            studies,
            files_count,
        } => {
            let what = format!(
                "{files_count} files deleted for good, of what {by} removed or replaced (change {correction})"
            );
            let event = Event {
                studies: studies.clone(),
                instances_count: *files_count,
                ..Event::new(Kind::Deleted)
            };
            audit.tell(&who, &what, "done", event);
        }
        Gone::Left {
            volumes,
            instances_count,
            bytes,
        } => {
            let what = format!(
                "{instances_count} instances left {} by rule; each has two good copies elsewhere",
                volumes.join(", ")
            );
            let event = Event {
                instances_count: *instances_count,
                bytes: *bytes,
                ..Event::new(Kind::Left)
            };
            audit.tell(&who, &what, "done", event);
        }
    }
}

/// A line of the journal of transfers.
pub(super) fn transferred(audit: &Audit, transfer: &Transfer) {
    let asked = transfer.asked_by.as_deref();
    let (kind, is_ours) = match transfer.direction {
        Direction::Stored => (Kind::Stored, false),
        Direction::Moved => (Kind::Moved, false),
        Direction::Got => (Kind::Got, false),
        Direction::Forwarded => (Kind::Forwarded, true),
        Direction::Pulled => (Kind::Pulled, true),
        Direction::Committed => (Kind::Committed, false),
    };
    let who = match asked {
        _ if is_ours => Who::server(),
        Some(asked) => Who::peer(&asked.ae_title, &asked.address),
        None => Who::peer(&transfer.peer, &transfer.address),
    };
    let mut event = Event {
        failed: transfer.failed_count > 0,
        instances_count: transfer.instances_count,
        failed_count: transfer.failed_count,
        bytes: transfer.bytes,
        ..Event::of_study(kind, &transfer.study_instance_uid)
    };
    if let Some(asked) = asked {
        event.user = asked.user.clone().unwrap_or_default();
        event.certificate = asked.certificate.clone().unwrap_or_default();
    }
    let peer = &transfer.peer;
    let what = match transfer.direction {
        Direction::Stored => "instances of a study stored".to_owned(),
        Direction::Moved => format!("instances of a study sent to {peer} (C-MOVE)"),
        Direction::Got => "instances of a study fetched (C-GET)".to_owned(),
        Direction::Forwarded => format!("instances of a study sent to {peer}"),
        Direction::Pulled => format!("instances of a study fetched from {peer}"),
        Direction::Committed => "storage commitment answered".to_owned(),
    };
    if is_ours || kind == Kind::Moved {
        event.peer.clone_from(&transfer.peer);
        event.peer_address.clone_from(&transfer.address);
    }
    let outcome = match (transfer.failed_count, transfer.status) {
        (0, 0) => "done".to_owned(),
        (0, status) => format!("done, {status:04X}H {}", transfer.reason),
        (failed, status) => format!("{failed} failed: {status:04X}H {}", transfer.reason),
    };
    audit.tell(&who, &what, &outcome, event);
}

/// Of a request that changes something.
pub(super) fn change(request: &Request, response: &Response) -> Event {
    let mut event = match request {
        Request::Removal(RemovalVerb::Remove { chosen, .. }) => match chosen {
            Chosen::Study(study) => Event::of_study(Kind::Removed, study),
            _ => Event::new(Kind::Removed),
        },
        Request::Removal(RemovalVerb::Empty { thrown, .. }) => of_thrown(Kind::Removed, thrown),
        Request::Removal(RemovalVerb::Restore { thrown, .. }) => of_thrown(Kind::Amended, thrown),
        Request::Removal(
            RemovalVerb::Protect {
                study_instance_uid, ..
            }
            | RemovalVerb::Unprotect {
                study_instance_uid, ..
            },
        ) => Event::of_study(Kind::Amended, study_instance_uid),
        Request::Amend(AmendVerb::Make { .. } | AmendVerb::Undo { .. })
        | Request::Conflicts(_)
        | Request::Removal(_) => Event::new(Kind::Amended),
        _ => Event::new(Kind::Change),
    };
    event.failed = matches!(response, Response::Failed { .. });
    if let Response::Removal(said) = response
        && let crate::archive::RemovalSaid::Removal(removal) = &**said
    {
        event.studies.clone_from(&removal.study_instance_uids);
        event.patients = Some(removal.patient_id.clone())
            .filter(|id| !id.is_empty())
            .into_iter()
            .collect();
        event.instances_count = removal.instances_count;
    }
    event
}

fn of_thrown(kind: Kind, thrown: &Thrown) -> Event {
    match thrown {
        Thrown::Study(study) => Event::of_study(kind, study),
        _ => Event::new(kind),
    }
}

/// Of a request that only looks; `None`: it shows no patient, or it says so itself.
pub(super) fn look(desk: &Desk, who: &Who, request: &Request, response: &Response) {
    match (request, response) {
        (Request::Study { study_instance_uid }, Response::Study(Some(_))) => {
            looked(&desk.audit, who, study_instance_uid);
        }
        (Request::Changes(_), Response::Changes(changes)) => {
            let read = |changes: &[Correction]| changes.len();
            let what = "the list of corrections was read";
            let outcome = format!("{} corrections", read(changes));
            desk.audit
                .gather(who, what, &outcome, Event::new(Kind::AuditRead));
        }
        _ => {}
    }
}

/// A study, or a picture of it, was shown.
pub fn looked(audit: &Audit, who: &Who, study_instance_uid: &str) {
    let event = Event::of_study(Kind::Looked, study_instance_uid);
    audit.gather(who, "a study was looked at", "done", event);
}

/// A search was asked for on the page, by the API or the command line.
pub(super) fn searched(desk: &Desk, who: &Who, find: &Find) {
    let keys = find.keys.iter().map(|key| {
        let tag = Tag((key.tag >> 16) as u16, key.tag as u16);
        (tag, key.value.as_str())
    });
    let keys: Vec<(Tag, &str)> = keys.collect();
    let asked = audit::query(&find.level, &keys, desk.live.now().audit.query_values);
    let event = Event {
        query: asked.identifier,
        studies: asked.studies,
        ..Event::new(Kind::Queried)
    };
    desk.audit.gather(who, &asked.words, "answered", event);
}

/// Gives the lines out in [`Response::Audited`], the end in [`Response::Audit`], until the taker breaks.
pub(super) fn list(
    desk: &Desk,
    who: &Who,
    wanted: &Wanted,
    give: &mut dyn FnMut(Response) -> ControlFlow<()>,
) {
    desk.audit.settle();
    let mut piece: Vec<Entry> = Vec::new();
    let mut sent = Instant::now();
    let (mut gone, mut count) = (false, 0_u64);
    let listed = audit::list(&desk.config.state, wanted, &mut |entry| {
        count += 1;
        piece.push(entry);
        if piece.len() < PIECE_MAX && sent.elapsed() < PIECE_WAIT {
            return ControlFlow::Continue(());
        }
        sent = Instant::now();
        let flow = give(Response::Audited(std::mem::take(&mut piece)));
        gone = flow.is_break();
        flow
    });
    let event = Event::new(Kind::AuditRead);
    let outcome = format!("{count} lines");
    desk.audit
        .gather(who, "the audit was read", &outcome, event);
    if gone || (!piece.is_empty() && give(Response::Audited(piece)).is_break()) {
        return;
    }
    let _ = give(match listed {
        Ok(end) => Response::Audit(end),
        Err(error) => Response::Failed {
            reason: format!("the audit cannot be read: {error}"),
        },
    });
}
