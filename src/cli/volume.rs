//! `kura volume …`: the disks of the archive, one screen and one sentence each.

use std::path::PathBuf;

use super::output;
use super::{End, Failure};
use crate::archive::{Capacity, VolumeStatus, VolumeVerb, Way, WayIn};
use crate::config::Config;
use crate::control::{Request, Response};
use crate::volume::layout::Role;

#[derive(clap::Args)]
pub struct Volume {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Every volume: where it is, how full, what is on it
    List,
    /// Is every file of the ledger there as it should be, and no other? Changes nothing
    Check {
        name: String,
        #[command(flatten)]
        depth: super::equalize::Depths,
    },
    /// Take an empty folder (or a volume of this archive) in
    Add {
        name: String,
        path: PathBuf,
        /// `archive` receives images, `mirror` holds second copies
        #[arg(long, default_value = "archive", value_parser = ["archive", "mirror"])]
        role: String,
    },
    /// No new images on it; what is there is served
    Retire {
        name: String,
        /// Let it receive again
        #[arg(long)]
        undo: bool,
    },
    /// Move everything on it to the other volumes, each copy checked; it is retired then
    Drain {
        name: String,
        /// Leave the rest where it is
        #[arg(long)]
        stop: bool,
    },
    /// Finish what is in flight and close it: it may be unplugged then
    Eject { name: String },
    /// Take it back after it was ejected, or look at it again after a failure
    Return { name: String },
    /// Another name, also on its label
    Rename { name: String, new_name: String },
    /// Its disk is mounted at another path now
    Relocate { name: String, path: PathBuf },
    /// Its disk is dead: put a new one in its place and fill it from the other copies
    Replace(super::replace::Replace),
    /// It will not come back: take it out of the archive
    Forget {
        name: String,
        /// Also when instances on it are nowhere else: they are written off
        #[arg(long)]
        yes: bool,
    },
}

pub fn run(verb: Volume, config: &Config, json: bool) -> Result<End, Failure> {
    let verb = match verb.action {
        Action::List => return list(config, json),
        Action::Check { name, depth } => {
            return super::equalize::check(vec![name], &depth, config, json);
        }
        Action::Add { name, path, role } => VolumeVerb::Add {
            name,
            path: std::path::absolute(path)?,
            role: match role.as_str() {
                "mirror" => Role::Mirror,
                _ => Role::Archive,
            },
        },
        Action::Retire { name, undo } => VolumeVerb::Retire { name, undo },
        Action::Drain { name, stop } => VolumeVerb::Drain { name, stop },
        Action::Eject { name } => VolumeVerb::Eject { name },
        Action::Return { name } => VolumeVerb::Return { name },
        Action::Rename { name, new_name } => VolumeVerb::Rename { name, new_name },
        Action::Relocate { name, path } => VolumeVerb::Relocate {
            name,
            path: std::path::absolute(path)?,
        },
        Action::Replace(verb) => return super::replace::run(verb, config, json),
        Action::Forget { name, yes } => VolumeVerb::Forget { name, yes },
    };
    match super::ask(config, Request::Volume(verb))?.0 {
        Response::Said(said) => {
            if json {
                output::json(&serde_json::json!({ "version": 1, "done": said }));
            } else {
                output::line(&said);
            }
            Ok(End::Ok)
        }
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn list(config: &Config, json: bool) -> Result<End, Failure> {
    let status = match super::ask(config, Request::Status)?.0 {
        Response::Status { status, .. } => status,
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    if json {
        let (volumes, capacity) = (&status.volumes, &status.capacity);
        output::json(
            &serde_json::json!({ "version": 1, "volumes": volumes, "capacity": capacity }),
        );
    } else {
        output::line(&format!(
            "{}{}",
            screen(&status.volumes),
            outlook(&status.capacity)
        ));
    }
    let well = |volume: &VolumeStatus| !matches!(volume.state.as_str(), "failed" | "away");
    Ok(match status.volumes.iter().all(well) {
        true => End::Ok,
        false => End::Degraded,
    })
}

/// Room, rate and the day it ends, in a sentence.
pub fn outlook(capacity: &Capacity) -> String {
    let rate = |rate: Option<u64>| rate.map_or("-".to_owned(), output::bytes);
    let end = match &capacity.full_on {
        Some(day) => format!("full on {day} at that rate"),
        None if capacity.bytes_per_day_30.is_some_and(|rate| rate > 0) => {
            "full in more than a hundred years at that rate".to_owned()
        }
        None => "nothing came lately".to_owned(),
    };
    format!(
        "room for {}; a day brings {} (last 7 days), {} (last 30): {end}\n",
        output::bytes(capacity.room_bytes),
        rate(capacity.bytes_per_day_7),
        rate(capacity.bytes_per_day_30),
    )
}

/// The table, and below it why a volume is not ok.
pub fn screen(volumes: &[VolumeStatus]) -> String {
    let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    let bytes = |bytes: Option<u64>| bytes.map_or("-".to_owned(), output::bytes);
    let rows: Vec<Vec<String>> = volumes
        .iter()
        .map(|volume| {
            let dates = match (&volume.oldest_date, &volume.newest_date) {
                (Some(oldest), Some(newest)) => format!("{oldest}-{newest}"),
                _ => "-".to_owned(),
            };
            vec![
                volume.name.clone(),
                volume.role.clone(),
                volume.state.clone(),
                bytes(volume.used_bytes),
                bytes(volume.free_bytes),
                bytes(volume.reserve_bytes),
                count(volume.instances_count),
                count(volume.studies_count),
                dates,
                volume.path.clone(),
            ]
        })
        .collect();
    let mut text = output::table(
        &[
            "VOLUME",
            "ROLE",
            "STATE",
            "USED",
            "FREE",
            "RESERVE",
            "INSTANCES",
            "STUDIES",
            "STUDY DATES",
            "PATH",
        ],
        &rows,
    );
    for volume in volumes {
        text.push_str(&intake(volume));
    }
    for volume in volumes
        .iter()
        .filter(|volume| !volume.reason.is_empty() && volume.reason != volume.state)
    {
        text.push_str(&format!(
            "{}: {}\n",
            volume.name,
            output::plain(&volume.reason)
        ));
    }
    text
}

/// Which way instances come in, why, and what waits; empty for a volume on which none do, and for one that is as simple as it
/// was told to be.
fn intake(volume: &VolumeStatus) -> String {
    let plain = |way_in: &&WayIn| {
        way_in.way == Way::Direct && way_in.flush_us.is_none() && !way_in.lacks_journal
    };
    let Some(way_in) = volume.intake.as_ref().filter(|way_in| !plain(way_in)) else {
        return String::new();
    };
    let mut text = match way_in.way {
        Way::Direct => format!("{}: intake direct: ", volume.name),
        Way::Journal => format!("{}: intake journal: ", volume.name),
    };
    text.push_str(&output::plain(&way_in.reason));
    if let Some(journal) = &volume.intake_journal {
        let risk = match journal.is_elsewhere {
            true => " on another disk (what waits is lost if that disk is)",
            false => "",
        };
        text.push_str(&format!(
            "; {} wait for their files ({}) in {}{risk}",
            journal.waiting_count,
            output::bytes(journal.waiting_bytes),
            output::plain(&journal.path),
        ));
    }
    text.push('\n');
    text
}
