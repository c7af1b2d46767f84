//! What is kept at the end of a pull: both sides of every study, those that are not complete first.

use std::io;
use std::path::Path;

use serde_json::json;

use super::task::{Done, Known, Study, each_done};
use crate::archive::{Archive, Piece};
use crate::config::PeerEntry;
use crate::volume::io::Disk;

/// Studies that are listed of each kind; the counts are complete.
const LISTED_MAX: u64 = 100_000;

/// Writes it; its name.
pub(super) fn write(
    archive: &Archive,
    disk: &Disk,
    state: &Path,
    known: &Known,
    peer: &PeerEntry,
) -> io::Result<String> {
    let status = known.status();
    let ended = crate::archive::now();
    let keys: Vec<String> = known
        .task
        .keys
        .iter()
        .map(|(tag, value)| format!("({:04X},{:04X})={value}", tag >> 16, tag & 0xFFFF))
        .collect();
    let head = json!({
        "version": 1,
        "report": "pull",
        "from": peer.ae_title.as_str(),
        "address": format!("{}:{}", peer.host, peer.port),
        "keys": &keys,
        "begun": &known.task.begun,
        "ended": &ended,
        "studies_count": status.studies_total,
        "complete_count": status.studies_complete,
        "here_before_count": status.studies_here_before,
        "incomplete_count": status.studies_incomplete,
        "their_instances_count": status.instances_total,
        "missing_count": status.instances_missing,
        "bytes": status.bytes,
        "notes": &known.notes,
    });
    let name = known.task.name.clone();
    archive.keep_report(&name, &mut |write| {
        let mut text = match status.studies_incomplete {
            0 if status.studies_total == 0 => {
                format!("{} has no study that fits.\n", peer.ae_title)
            }
            0 => format!(
                "All {} studies that {} has are here; their {} instances were compared on both sides.\n",
                status.studies_total, peer.ae_title, status.instances_total
            ),
            count => format!(
                "{count} of {} studies that {} has are not complete here; {} instances are missing.\n",
                status.studies_total, peer.ae_title, status.instances_missing
            ),
        };
        text += &format!(
            "\nfrom       {} at {}:{}\nkeys       {}\nbegun      {}\nended      {ended}\nhere before {} studies\ncame       {} bytes\n",
            peer.ae_title,
            peer.host,
            peer.port,
            plain(&keys.join(", ")),
            known.task.begun,
            status.studies_here_before,
            status.bytes,
        );
        for note in &known.notes {
            text += &format!("note       {}\n", plain(note));
        }
        if status.studies_incomplete > 0 {
            text += "\nTo try these again: kura pull --resume\n\nNot complete:\n";
        }
        write(Piece::Text(&text))?;
        let mut object = head.to_string();
        object.pop();
        write(Piece::Json(&object))?;
        write(Piece::Json(",\"incomplete\":["))?;
        let mut count = 0_u64;
        each_done(disk, state, known, &mut |study, done| {
            if done.is_complete() {
                return Ok(());
            }
            count += 1;
            if count > LISTED_MAX {
                return Ok(());
            }
            write(Piece::Text(&incomplete(study, done)))?;
            let comma = if count > 1 { "," } else { "" };
            let item = json!({
                "study_instance_uid": &*study.uid,
                "their_count": done.their_count,
                "our_count": done.our_count,
                "missing_count": done.missing_count,
                "missing": &done.missing,
                "reason": &done.reason,
            });
            write(Piece::Json(&format!("{comma}{item}")))
        })?;
        write(Piece::Json("],\"complete\":["))?;
        write(Piece::Text(
            "\nComplete (date, instances there, instances here):\n",
        ))?;
        let mut count = 0_u64;
        each_done(disk, state, known, &mut |study, done| {
            if !done.is_complete() {
                return Ok(());
            }
            count += 1;
            if count > LISTED_MAX {
                return Ok(());
            }
            write(Piece::Text(&complete(study, done)))?;
            let comma = if count > 1 { "," } else { "" };
            let item = json!({
                "study_instance_uid": &*study.uid,
                "their_count": done.their_count,
                "our_count": done.our_count,
                "here_before": done.was_here,
                "by_count": done.by_count,
            });
            write(Piece::Json(&format!("{comma}{item}")))
        })?;
        if count > LISTED_MAX {
            let rest = count - LISTED_MAX;
            write(Piece::Text(&format!("  and {rest} more\n")))?;
        }
        write(Piece::Json("]}\n"))
    })?;
    Ok(name)
}

fn incomplete(study: &Study, done: &Done) -> String {
    let mut text = format!(
        "  {:08}  {} there, {} here, {} missing  {}  {}\n",
        study.date,
        done.their_count,
        done.our_count,
        done.missing_count,
        study.uid,
        plain(&done.reason)
    );
    for uid in &done.missing {
        text += &format!("    missing {}\n", plain(uid));
    }
    let rest = done.missing_count.saturating_sub(done.missing.len() as u64);
    if rest > 0 && !done.missing.is_empty() {
        text += &format!("    and {rest} more\n");
    }
    text
}

fn complete(study: &Study, done: &Done) -> String {
    let how = match (done.by_count, done.was_here) {
        (true, _) => "  (compared by number)",
        (false, true) => "  (was here)",
        (false, false) => "",
    };
    format!(
        "  {:08}  {}  {}  {}{how}\n",
        study.date, done.their_count, done.our_count, study.uid
    )
}

/// A value from outside must not end a line, or steer a terminal.
fn plain(text: &str) -> String {
    let replaced = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(replaced).collect()
}
