//! `kura drill`: would everything come back?

use super::output;
use super::{End, Failure};
use crate::archive::WorkVerb;
use crate::config::Config;

#[derive(clap::Args)]
pub struct Drill {
    /// Files of each volume that are read to their end, chosen by lot
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    sample: u32,
    /// Choose as an earlier drill with this seed did
    #[arg(long)]
    seed: Option<u64>,
}

/// Missing contents of each side on the screen; the report has more.
const MISSING_MOST: usize = 10;

pub fn run(verb: &Drill, config: &Config, json: bool) -> Result<End, Failure> {
    let work = WorkVerb::Drill {
        sample: verb.sample,
        seed: verb.seed,
    };
    let status = super::equalize::wait(config, work)?;
    let Some(report) = status.drill else {
        let reason = status
            .error
            .unwrap_or_else(|| "there is no report".to_owned());
        return Err(reason.into());
    };
    match json {
        true => output::json(&serde_json::to_value(&report)?),
        false => output::line(&format!(
            "{}report   {}.txt, .json",
            report.text(MISSING_MOST),
            report.file
        )),
    }
    if let Some(error) = status.error {
        return Err(error.into());
    }
    Ok(match report.state.as_str() {
        "proven" => End::Ok,
        "partly" => End::Degraded,
        _ => End::Lost,
    })
}
