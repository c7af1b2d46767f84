//! `kura index rebuild`: throw the index away and read the ledgers again, with progress.

use std::time::Duration;

use super::output::{self, Bar};
use super::{End, Failure};
use crate::archive::{Archive, Mode, Status};
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
}

pub fn run(verb: &Index, config: &Config, json: bool) -> Result<End, Failure> {
    let Action::Rebuild = verb.action;
    let status = match control::ask(&config.state, &Request::IndexRebuild)? {
        Some(Response::Done) => wait(|| match control::ask(&config.state, &Request::Status)? {
            Some(Response::Status(status)) => Ok(*status),
            _ => Err("the server stopped answering; the rebuild goes on when it starts".into()),
        })?,
        Some(_) => return Err("the server answered something else".into()),
        None => {
            let archive = Archive::open(config, Mode::Existing)?;
            archive.rebuild_index();
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
