//! `kura index rebuild`: throw the index away and read the ledgers again, with progress. `kura index fill`: look at the
//! images that were there before a key was configured.

use std::time::Duration;

use super::output::{self, Bar};
use super::{End, Failure};
use crate::archive::{Archive, FillStatus, Mode, Status};
use crate::config::Config;
use crate::control::{self, Request, Response};

#[derive(clap::Args)]
pub struct Index {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make the index anew from the volumes' ledgers; the server goes on receiving meanwhile
    Rebuild,
    /// Read the images that were there before a key of [index] extra_keys, now and to the end; the server does so by itself
    Fill,
}

pub fn run(verb: &Index, config: &Config, json: bool) -> Result<End, Failure> {
    match verb.action {
        Action::Rebuild => rebuild(config, json),
        Action::Fill => fill(config, json),
    }
}

fn fill(config: &Config, json: bool) -> Result<End, Failure> {
    let status = match control::ask(&config.state, &Request::IndexFill)? {
        Some(Response::Done) => {
            wait_for_fill(|| match control::ask(&config.state, &Request::Status)? {
                Some(Response::Status { status, .. }) => Ok(status.extra_keys),
                _ => {
                    Err("the server stopped answering; what is left is done when it starts".into())
                }
            })?
        }
        Some(_) => return Err("the server answered something else".into()),
        None => {
            let archive = Archive::open(config, Mode::Existing)?;
            archive.fill_keys_now();
            super::note(config, &Request::IndexFill, "done");
            std::thread::scope(|scope| {
                let filling = scope.spawn(|| {
                    while archive.fill_is_wanted() {
                        archive.fill_keys();
                        std::thread::sleep(Duration::from_millis(50));
                    }
                });
                let status = wait_for_fill(|| Ok(archive.fill_status()));
                // A panic there was reported by its own message.
                drop(filling.join());
                status
            })?
        }
    };
    let Some(status) = status else {
        if json {
            output::json(&serde_json::json!({ "version": 1, "extra_keys": null }));
        } else {
            output::line(
                "no extra keys are configured; nothing was read; docs/queries.md says how",
            );
        }
        return Ok(End::Ok);
    };
    if json {
        output::json(&serde_json::json!({ "version": 1, "extra_keys": status }));
    } else {
        output::line(&line(&status));
    }
    Ok(match status.left_count {
        0 => End::Ok,
        _ => End::Degraded,
    })
}

/// How far the extra keys are.
pub fn line(status: &FillStatus) -> String {
    let keys = match status.keys_count {
        1 => "1 extra key".to_owned(),
        count => format!("{count} extra keys"),
    };
    let left = match status.left_count {
        0 => String::new(),
        count => format!("; {count} series could not be read now and are tried again"),
    };
    match status.state.as_str() {
        "filled" => format!("{keys}, filled for all images{left}"),
        "filling" => format!(
            "{keys}, filling: {} of {} studies, {} images read{left}",
            status.studies_done_count, status.studies_count, status.read_count
        ),
        _ => format!("{keys}, not filled for older images yet: waits for the window{left}"),
    }
}

fn wait_for_fill(
    mut status: impl FnMut() -> Result<Option<FillStatus>, Failure>,
) -> Result<Option<FillStatus>, Failure> {
    let mut bar = Bar::new(100);
    loop {
        match status()? {
            Some(now) if now.state != "filled" => {
                let percent = now.studies_done_count * 100 / now.studies_count.max(1);
                bar.at(percent.min(100), &format!("{} images read", now.read_count));
            }
            end => {
                bar.end();
                return Ok(end);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rebuild(config: &Config, json: bool) -> Result<End, Failure> {
    let status = match control::ask(&config.state, &Request::IndexRebuild)? {
        Some(Response::Done) => wait(|| match control::ask(&config.state, &Request::Status)? {
            Some(Response::Status { status, .. }) => Ok(*status),
            _ => Err("the server stopped answering; the rebuild goes on when it starts".into()),
        })?,
        Some(_) => return Err("the server answered something else".into()),
        None => {
            let archive = Archive::open(config, Mode::Existing)?;
            archive.rebuild_index();
            super::note(config, &Request::IndexRebuild, "done");
            wait(|| Ok(archive.status()))?
        }
    };
    let index = &status.index;
    if json {
        output::json(&serde_json::json!({ "version": 1, "index": index }));
    } else {
        output::line(&format!(
            "done: {} instances in {} studies; {} damaged ledger lines",
            index.instances_count, index.studies_count, index.ledger_bad_lines_count
        ));
    }
    Ok(if index.ledger_bad_lines_count == 0 {
        End::Ok
    } else {
        End::Degraded
    })
}

fn wait(mut status: impl FnMut() -> Result<Status, Failure>) -> Result<Status, Failure> {
    let mut bar = Bar::new(100);
    loop {
        let now = status()?;
        match now.index.rebuilding_percent {
            None => {
                bar.end();
                return Ok(now);
            }
            Some(percent) => bar.at(
                percent.into(),
                &format!("{} instances", now.index.instances_count),
            ),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
