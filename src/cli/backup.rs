//! `kura backup FILE` and `kura restore FILE`: configuration and state, without images and index.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{End, Failure, output};
use crate::archive::lock_state;
use crate::backup::{self, Manifest, Plan};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::volume::Disk;

#[derive(clap::Args)]
pub struct Backup {
    /// Where to write it, such as kura-2026-11-22.tar.gz
    file: PathBuf,
}

#[derive(clap::Args)]
pub struct Restore {
    /// What kura backup wrote
    file: PathBuf,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
    /// Also where the state or the volumes are of another archive
    #[arg(long)]
    other_archive: bool,
}

/// For a verb that only looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Names that are listed.
const NAMES_MAX: usize = 20;

pub fn backup(verb: &Backup, config: &Config, json: bool) -> Result<End, Failure> {
    let made = match control::ask(&config.state, &Request::CopyOutbox)? {
        Some(Response::OutboxCopy(copy)) => {
            let made = backup::write(config, copy.as_deref(), &verb.file);
            if let Some(copy) = &copy {
                drop(Disk::default().remove(copy));
            }
            made
        }
        Some(Response::Failed { reason }) => {
            return Err(
                format!("the outbox cannot be copied: {reason}; no backup was made").into(),
            );
        }
        Some(_) => return Err("the server answered something else".into()),
        // Nobody changes it meanwhile; a state folder that is not there yet is not made.
        None => match Disk::default().entry(&config.state)? {
            Some(_) => {
                let _lock = lock_state(&config.state, LOCK_PATIENCE)?;
                backup::write(config, None, &verb.file)
            }
            None => Err(backup::BackupError::NoArchive(config.state.clone())),
        },
    };
    let manifest = made?;
    match json {
        true => output::json(&serde_json::json!({
            "version": 1,
            "written": verb.file,
            "archive_id": manifest.archive_id,
            "files_count": manifest.files.len(),
            "bytes": manifest.bytes(),
            "left_out": manifest.left_out,
        })),
        false => output::line(&written(&verb.file, &manifest)),
    }
    Ok(End::Ok)
}

fn written(file: &Path, manifest: &Manifest) -> String {
    let mut text = format!(
        "written: {}\nin it    {} files, {} unpacked: configuration and state of archive {}\n",
        output::plain(&file.display().to_string()),
        manifest.files.len(),
        output::bytes(manifest.bytes()),
        output::plain(&manifest.archive_id),
    );
    text.push_str(
        "not      images, ledgers (they are on the volumes) and the index (it is made anew)\n",
    );
    for left in &manifest.left_out {
        let path = output::plain(&left.display().to_string());
        text.push_str(&format!(
            "not      {path}, which kura.toml names: keep a copy\n"
        ));
    }
    text.push_str(
        "action   keep it on another machine, where nobody else reads it: it can let people in\n",
    );
    text
}

pub fn restore(verb: &Restore, config: Option<&Path>, json: bool) -> Result<End, Failure> {
    let config = config.unwrap_or(Path::new("kura.toml"));
    let plan = backup::plan(&verb.file, config, verb.other_archive)?;
    if control::ask(&plan.state, &Request::Seen)?.is_some() {
        let state = plan.state.display();
        return Err(format!(
            "a server runs on {state}; nothing was changed. Stop it, and restore again"
        )
        .into());
    }
    let mut before = None;
    if !verb.dry_run {
        let _lock = lock_state(&plan.state, LOCK_PATIENCE)?;
        before = backup::restore(&plan)?.before;
    }
    match json {
        true => output::json(&serde_json::json!({
            "version": 1,
            "dry_run": verb.dry_run,
            "made": plan.manifest.made,
            "kura": plan.manifest.kura,
            "archive_id": plan.manifest.archive_id,
            "state": plan.state,
            "replaced": plan.replaces,
            "added": plan.adds,
            "kept": plan.keeps,
            "left_out": plan.manifest.left_out,
            "before": before,
        })),
        false => output::line(&said(&plan, verb.dry_run, before.as_deref())),
    }
    Ok(End::Ok)
}

fn said(plan: &Plan, dry_run: bool, before: Option<&Path>) -> String {
    let manifest = &plan.manifest;
    let path = |path: &Path| output::plain(&path.display().to_string());
    let mut text = match dry_run {
        true => "nothing was changed; without --dry-run this is put in place\n".to_owned(),
        false => "restored\n".to_owned(),
    };
    text.push_str(&format!(
        "backup   of {}, archive {}, by Kura {}\nstate    {}\n",
        output::plain(&manifest.made),
        output::plain(&manifest.archive_id),
        output::plain(&manifest.kura),
        path(&plan.state),
    ));
    if let Some(config) = &plan.config_to {
        text.push_str(&format!("config   {}\n", path(config)));
    }
    let mut listed = |what: &str, names: &[String]| {
        for name in names.iter().take(NAMES_MAX) {
            text.push_str(&format!("{what:8} {}\n", output::plain(name)));
        }
        if names.len() > NAMES_MAX {
            text.push_str(&format!("{what:8} {} more\n", names.len() - NAMES_MAX));
        }
    };
    listed("replaced", &plan.replaces);
    listed("new", &plan.adds);
    let same = plan.keeps.iter().filter(|(_, why)| why == "it is the same");
    let kept = plan.keeps.iter().filter(|(_, why)| why != "it is the same");
    let kept: Vec<String> = kept.map(|(name, why)| format!("{name}: {why}")).collect();
    listed("kept", &kept);
    let same = same.count();
    if same > 0 {
        text.push_str(&format!("same     {same} files\n"));
    }
    if let Some(before) = before {
        text.push_str(&format!(
            "before   what was replaced lies in {}\n",
            path(before)
        ));
    }
    for left in &manifest.left_out {
        text.push_str(&format!(
            "action   {}, which kura.toml names, was not in the backup: put it there\n",
            path(left)
        ));
    }
    if !dry_run {
        text.push_str(
            "action   kura serve: the index is made from the volumes where it is missing\n",
        );
    }
    text
}
