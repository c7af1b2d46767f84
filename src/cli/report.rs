//! `kura report`: what became of dead disks and of pulls, kept for later.

use super::output;
use super::{End, Failure};
use crate::archive::ReportVerb;
use crate::config::Config;
use crate::control::{Request, Response};

#[derive(clap::Args)]
pub struct Report {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Every report, the newest first
    List,
    /// One of them; without a name the newest
    Show { name: Option<String> },
}

pub fn run(verb: Report, config: &Config, json: bool) -> Result<End, Failure> {
    let verb = match verb.action {
        Action::List => ReportVerb::List,
        Action::Show { name } => ReportVerb::Show { name },
    };
    match super::ask(config, Request::Report(verb))?.0 {
        Response::Reports(reports) if json => {
            output::json(&serde_json::json!({ "version": 1, "reports": reports }));
        }
        Response::Reports(reports) => {
            let row = |report: &crate::archive::ReportName| {
                vec![output::plain(&report.name), output::bytes(report.bytes)]
            };
            let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
            output::line(&output::table(&["REPORT", "SIZE"], &rows));
        }
        Response::Report(shown) if json => output::json(&shown.json),
        Response::Report(shown) => output::line(&shown.text),
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    }
    Ok(End::Ok)
}
