//! `kura send`: files and folders to a DICOM node, byte for byte as they are; studies of the archive through the outbox.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::output::{self, Bar};
use super::{End, Failure};
use crate::config::{Config, PeerEntry};
use crate::dicom::part10;
use crate::dicom::{FileMeta, Reference, is_conforming};
use crate::forward::ForwardVerb;
use crate::net::Timeouts;
use crate::net::dimse::PRIORITY_MEDIUM;
use crate::scu::{self, DataSet, StoreRequest};
use crate::volume::Disk;

#[derive(clap::Args)]
pub struct Send {
    /// DICOM files, or folders that hold them; or Study Instance UIDs of the archive, which the server then sends
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// AE title of a configured peer, or AE@HOST:PORT
    #[arg(long)]
    to: String,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Ask it afterwards whether it keeps them (storage commitment), and wait for its report
    #[arg(long, conflicts_with = "dry_run")]
    commit: bool,
}

struct Instance {
    path: PathBuf,
    meta: FileMeta,
    data_offset: u64,
    length: u64,
}

#[derive(Default)]
struct Report {
    sent: u64,
    warnings: u64,
    failed: Vec<(PathBuf, String)>,
    bytes: u64,
    /// Those that the peer took.
    stored: Vec<Reference>,
}

/// Presentation contexts of one association (PS3.8 7.1.1.13).
const CONTEXTS_MAX: usize = 128;

pub fn run(verb: &Send, config: &Config, json: bool) -> Result<End, Failure> {
    if let Some(studies) = studies(&verb.paths)? {
        return send_studies(verb, studies, config, json);
    }
    let peer = super::peer(config, &verb.to)?;
    let (instances, skipped) = collect(&verb.paths)?;
    for (path, reason) in &skipped {
        eprintln!(
            "skipped: {}: {reason}",
            output::plain(&path.display().to_string())
        );
    }
    let total: u64 = instances.iter().map(|instance| instance.length).sum();
    if verb.dry_run {
        if json {
            output::json(&serde_json::json!({
                "version": 1, "would_send": instances.len(), "skipped": skipped.len(), "bytes": total,
            }));
        } else {
            output::line(&format!(
                "would send {} instances, {}",
                instances.len(),
                output::bytes(total)
            ));
        }
        return Ok(End::Ok);
    }
    if instances.is_empty() {
        return Err("no DICOM files there; nothing was sent".into());
    }
    let mut report = Report::default();
    let mut bar = Bar::new(total);
    let mut rest = instances.as_slice();
    while !rest.is_empty() {
        let batch = first_batch(rest);
        rest = &rest[batch.len()..];
        send(config, &peer, batch, &mut report, &mut bar)?;
    }
    bar.end();
    let committed = match verb.commit {
        true => Some(super::commit::ask(config, &verb.to, &peer, &report.stored)?),
        false => None,
    };
    for (path, reason) in &report.failed {
        eprintln!(
            "failed: {}: {reason}",
            output::plain(&path.display().to_string())
        );
    }
    if json {
        let failed: Vec<_> = report
            .failed
            .iter()
            .map(|(path, reason)| serde_json::json!({ "file": path.display().to_string(), "reason": reason }))
            .collect();
        let mut value = serde_json::json!({
            "version": 1, "sent": report.sent, "warnings": report.warnings, "failed": failed,
            "skipped": skipped.len(), "bytes": report.bytes,
        });
        if let Some(committed) = &committed {
            value["commitment"] = serde_json::to_value(committed)?;
        }
        output::json(&value);
    } else {
        output::line(&format!(
            "{} sent to {} ({}), {} with a warning, {} failed, {} skipped",
            report.sent,
            peer.ae_title,
            output::bytes(report.bytes),
            report.warnings,
            report.failed.len(),
            skipped.len()
        ));
        if let Some(committed) = &committed {
            output::line(&super::commit::screen(committed));
        }
    }
    if let Some(committed) = committed
        && !committed.failed.is_empty()
    {
        let count = committed.failed.len();
        return Err(format!("{count} instances are not committed; they are not safe there").into());
    }
    if !report.failed.is_empty() {
        return Err(format!(
            "{} instances were not sent; run the same command again to retry",
            report.failed.len()
        )
        .into());
    }
    Ok(End::Ok)
}

/// The arguments, if they are studies: no files of that name, and UIDs.
fn studies(paths: &[PathBuf]) -> Result<Option<Vec<String>>, Failure> {
    let uid = |path: &PathBuf| {
        let text = path.to_str().filter(|_| !path.exists())?;
        (text.contains('.') && is_conforming(text)).then(|| text.to_owned())
    };
    let studies: Vec<String> = paths.iter().filter_map(uid).collect();
    match studies.len() {
        0 => Ok(None),
        count if count == paths.len() => Ok(Some(studies)),
        _ => Err("give files, or studies, not both at once; nothing was sent".into()),
    }
}

/// They wait in the outbox, are tried again, and are seen by `kura forward list` like what goes by a rule.
fn send_studies(
    verb: &Send,
    studies: Vec<String>,
    config: &Config,
    json: bool,
) -> Result<End, Failure> {
    let to = &verb.to;
    if to.contains('@') {
        let add = format!("kura peer add {to}");
        return Err(format!("studies go to a configured peer; first: {add}").into());
    }
    if verb.dry_run {
        match json {
            true => output::json(
                &serde_json::json!({ "version": 1, "would_send_studies": studies, "to": to }),
            ),
            false => output::line(&format!("would send {} studies to {to}", studies.len())),
        }
        return Ok(End::Ok);
    }
    let peer = to.clone();
    super::forward::ask(config, ForwardVerb::Send { studies, peer }, json)
}

type Skipped = Vec<(PathBuf, String)>;

fn collect(paths: &[PathBuf]) -> Result<(Vec<Instance>, Skipped), Failure> {
    let mut instances = Vec::new();
    let mut skipped = Vec::new();
    for path in paths {
        for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
            let entry = entry?;
            if !entry.file_type().is_file() {
                continue;
            }
            match read_meta(entry.path()) {
                Ok(instance) => instances.push(instance),
                Err(error) => skipped.push((entry.into_path(), error.to_string())),
            }
        }
    }
    Ok((instances, skipped))
}

fn read_meta(path: &Path) -> Result<Instance, Failure> {
    let mut file = Disk::default().open_read(path)?;
    let size = file.len()?;
    let (meta, data_offset) = part10::read_meta(&mut file)?;
    if meta.sop_class_uid.is_empty() || meta.sop_instance_uid.is_empty() {
        return Err("its file meta names no SOP class or instance".into());
    }
    Ok(Instance {
        path: path.to_owned(),
        meta,
        data_offset,
        length: size.saturating_sub(data_offset),
    })
}

/// As many instances from the front as one association has contexts for.
fn first_batch(instances: &[Instance]) -> &[Instance] {
    let mut pairs = BTreeSet::new();
    for (at, instance) in instances.iter().enumerate() {
        pairs.insert((&instance.meta.sop_class_uid, &instance.meta.transfer_syntax));
        if pairs.len() > CONTEXTS_MAX {
            return &instances[..at];
        }
    }
    instances
}

fn send(
    config: &Config,
    peer: &PeerEntry,
    batch: &[Instance],
    report: &mut Report,
    bar: &mut Bar,
) -> Result<(), Failure> {
    let pairs: BTreeSet<_> = batch
        .iter()
        .map(|i| (i.meta.sop_class_uid.clone(), i.meta.transfer_syntax.clone()))
        .collect();
    let contexts = pairs
        .into_iter()
        .map(|(class, syntax)| (class, vec![syntax]))
        .collect();
    let addresses = super::address(peer)?;
    let timeouts = Timeouts::default();
    let mut association =
        scu::associate(peer, &addresses, &config.ae_title, contexts, timeouts, &[])?;
    for instance in batch {
        let meta = &instance.meta;
        let Some(context_id) = association
            .context_for(&meta.sop_class_uid, Some(&meta.transfer_syntax))
            .map(|context| context.id)
        else {
            let reason = "the peer does not take this SOP class in this transfer syntax";
            report
                .failed
                .push((instance.path.clone(), reason.to_owned()));
            continue;
        };
        let file = Disk::default().open_read(&instance.path)?;
        let request = StoreRequest {
            sop_class_uid: meta.sop_class_uid.clone(),
            sop_instance_uid: meta.sop_instance_uid.clone(),
            priority: PRIORITY_MEDIUM,
            move_originator: None,
            message_id: association.next_message_id(),
        };
        let mut at = instance.data_offset;
        let data_set = DataSet::Pieces {
            len: instance.length,
            read: &mut |buffer| {
                let left = instance.data_offset + instance.length - at;
                let count = buffer
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                file.read_exact_at(&mut buffer[..count], at)?;
                at += count as u64;
                Ok(count)
            },
        };
        let outcome = scu::store(&mut association, context_id, &request, data_set, &mut || {})?;
        if outcome.is_stored() {
            report.sent += 1;
            report.stored.push(Reference {
                sop_class_uid: meta.sop_class_uid.clone(),
                sop_instance_uid: meta.sop_instance_uid.clone(),
            });
            report.warnings += u64::from(outcome.is_warning());
            report.bytes += instance.length;
        } else {
            let reason = format!(
                "status {:04X}H {}",
                outcome.status,
                output::plain(&outcome.comment)
            );
            report.failed.push((instance.path.clone(), reason));
        }
        bar.at(
            report.bytes,
            &format!("{} of {} instances", report.sent, batch.len()),
        );
    }
    association.release()?;
    Ok(())
}
