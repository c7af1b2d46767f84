//! `kura status`: the answer first, then what to do, then the table.

use super::output;
use super::{End, Failure};
use crate::archive::{KeptStatus, Status};
use crate::audit::AuditStatus;
use crate::commitment::CommitmentStatus;
use crate::config::Config;
use crate::control::{Request, Response};
use crate::forward::PeerStatus;

pub fn run(config: &Config, json: bool) -> Result<End, Failure> {
    let (response, running) = super::ask(config, Request::Status)?;
    let (status, peers, commitment, audit) = match response {
        Response::Status {
            status,
            peers,
            commitment,
            audit,
        } => (status, peers, commitment, audit),
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    if json {
        let mut value = serde_json::to_value(&*status)?;
        value["running"] = running.into();
        value["forward"] = serde_json::to_value(&peers)?;
        value["commitment"] = serde_json::to_value(&commitment)?;
        value["audit"] = serde_json::to_value(&audit)?;
        output::json(&value);
    } else {
        output::line(&screen(&status, &peers, &commitment, &audit, running));
    }
    Ok(match status.state.as_str() {
        "ok" => End::Ok,
        "lost" => End::Lost,
        _ => End::Degraded,
    })
}

/// Lost instances named on the screen; JSON has more.
const LOST_SHOWN: usize = 10;

/// How many good copies there are.
fn copies(status: &Status) -> String {
    let copies = &status.copies;
    if !copies.known {
        return String::new();
    }
    let has_mirror = status.volumes.iter().any(|volume| volume.role == "mirror");
    if !has_mirror && copies.lost_count + copies.away_count == 0 {
        return "copies  one of each: there is no mirror volume (kura volume add NAME PATH --role mirror)\n"
            .to_owned();
    }
    let mut parts = vec![format!("{} have two good copies", copies.two_count)];
    if copies.one_disk_count > 0 {
        parts.push(format!("{} two on one disk", copies.one_disk_count));
    }
    if copies.one_count > 0 {
        parts.push(format!("{} one", copies.one_count));
    }
    if copies.away_count > 0 {
        parts.push(format!(
            "{} only on volumes that are away",
            copies.away_count
        ));
    }
    if copies.lost_count > 0 {
        parts.push(format!("{} none", copies.lost_count));
    }
    let mut text = format!("copies  {}", parts.join(", "));
    if let Some(oldest) = &copies.one_oldest {
        text.push_str(&format!("; the oldest of these came {oldest}"));
    }
    text.push('\n');
    if let Some(last) = &copies.last_mirror {
        text.push_str(&format!("mirror  last copied {last}\n"));
    }
    for lost in copies.lost.iter().take(LOST_SHOWN) {
        let place = lost.last_known.iter();
        let place: Vec<String> = place
            .map(|at| format!("{}:{}", at.volume, at.path))
            .collect();
        text.push_str(&format!(
            "lost    {} {} {} {} {}: was {}\n",
            output::plain(&lost.patient_name),
            output::plain(&lost.patient_id),
            output::plain(&lost.study_date),
            output::plain(&lost.modality),
            output::plain(&lost.sop_instance_uid),
            output::plain(&place.join(", "))
        ));
    }
    text
}

/// Files that corrections replaced or removed; nothing where there are none.
fn kept(kept: &KeptStatus) -> String {
    if kept.is_empty() {
        return String::new();
    }
    let mut parts = Vec::new();
    for (count, bytes, what) in [
        (
            kept.superseded_files_count,
            kept.superseded_bytes,
            "superseded",
        ),
        (kept.trash_files_count, kept.trash_bytes, "in the trash"),
        (
            kept.in_tree_files_count,
            kept.in_tree_bytes,
            "hidden where they were",
        ),
    ] {
        if count > 0 {
            parts.push(format!("{count} files {what}, {}", output::bytes(bytes)));
        }
    }
    let mut text = format!("kept    {}", parts.join("; "));
    if let Some(next) = &kept.next_deletion {
        text.push_str(&format!(
            "; the next are deleted {}",
            &next[..next.len().min(10)]
        ));
    }
    text.push('\n');
    for wait in &kept.waits {
        text.push_str(&format!("note    {wait}\n"));
    }
    text
}

/// Requests of storage commitment that wait.
fn commitment(waiting: &CommitmentStatus) -> String {
    let Some(oldest) = &waiting.oldest else {
        return String::new();
    };
    let plural = if waiting.waiting_count == 1 { "" } else { "s" };
    format!(
        "commit  {} request{plural} for {} instances not answered yet, the oldest of {oldest}\n",
        waiting.waiting_count, waiting.instances_count
    )
}

/// What is missing in the audit, and how its messages go; nothing where there is nothing to say.
fn audit(trail: &AuditStatus) -> String {
    let mut text = String::new();
    if trail.lost_count > 0 {
        text.push_str(&format!(
            "audit   {} events could not be noted since the start\n",
            trail.lost_count
        ));
    }
    if let Some(export) = &trail.export {
        let target = output::plain(&export.target);
        text.push_str(&match (&export.failing_since, export.backlog_bytes) {
            (Some(since), backlog) => format!(
                "audit   {target} has taken no messages since {since}, {} wait: {}\n",
                output::bytes(backlog),
                output::plain(&export.failure)
            ),
            (None, backlog) => format!(
                "audit   messages go to {target}, {} wait\n",
                output::bytes(backlog)
            ),
        });
    }
    text
}

fn screen(
    status: &Status,
    peers: &[PeerStatus],
    waiting: &CommitmentStatus,
    trail: &AuditStatus,
    running: bool,
) -> String {
    let index = &status.index;
    let mut text = format!(
        "state   {}: {} instances in {} studies, {}\n",
        status.state,
        index.instances_count,
        index.studies_count,
        output::bytes(index.instances_bytes),
    );
    if !running {
        text.push_str("server  not running; start it with: kura serve\n");
    }
    for action in &status.actions {
        text.push_str(&format!("action  {}\n", output::plain(action)));
    }
    text.push_str(&copies(status));
    text.push_str(&format!(
        "scrub   {}\n",
        super::scrub::line(&status.checked)
    ));
    if let Some(retention) = &status.retention {
        text.push_str(&format!("retain  {}\n", super::retention::line(retention)));
    }
    if let Some(fill) = &status.extra_keys {
        text.push_str(&format!("keys    {}\n", super::index::line(fill)));
    }
    for line in peers.iter().filter_map(super::forward::peer_line) {
        text.push_str(&format!("forward {line}\n"));
    }
    text.push_str(&commitment(waiting));
    text.push_str(&audit(trail));
    text.push_str(&kept(&status.kept));
    if index.variants_count > 0 {
        text.push_str(&format!(
            "note    {} variants in another transfer syntax are kept\n",
            index.variants_count
        ));
    }
    if status.not_coerced_count > 0 {
        text.push_str(&format!(
            "note    {} instances could not be coerced since the start and are stored as they came; the log names them\n",
            status.not_coerced_count
        ));
    }
    for volume in &status.volumes {
        for note in &volume.notes {
            text.push_str(&format!("note    volume {}: {note}\n", volume.name));
        }
    }
    let rows: Vec<Vec<String>> = status
        .volumes
        .iter()
        .map(|volume| {
            vec![
                volume.name.clone(),
                volume.role.clone(),
                volume.state.clone(),
                volume.used_bytes.map_or("-".to_owned(), output::bytes),
                volume.free_bytes.map_or("-".to_owned(), output::bytes),
                volume.path.clone(),
            ]
        })
        .collect();
    text.push_str(&output::table(
        &["VOLUME", "ROLE", "STATE", "USED", "FREE", "PATH"],
        &rows,
    ));
    if index.conflicts_count > 0 {
        text.push_str(&format!(
            "\n{} conflicts: other data came under a UID that is taken; both are kept (kura conflicts show)\n",
            index.conflicts_count
        ));
        for conflict in &status.conflicts {
            text.push_str(&format!(
                "  {}\n",
                output::plain(conflict["sop_instance_uid"].as_str().unwrap_or("?"))
            ));
        }
    }
    if !status.quarantine.is_empty() {
        text.push_str(&format!(
            "\n{} refused instances in quarantine:\n",
            status.quarantine.len()
        ));
        for report in &status.quarantine {
            let field = |name: &str| output::plain(report[name].as_str().unwrap_or("?"));
            text.push_str(&format!(
                "  {} from {}: {}\n",
                field("at"),
                field("calling_ae_title"),
                field("reason")
            ));
        }
    }
    text
}
