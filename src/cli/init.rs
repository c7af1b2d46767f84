//! `kura init`: a commented configuration to begin from.

use std::path::PathBuf;

use super::output;
use super::{End, Failure};

#[derive(clap::Args)]
pub struct Init {
    /// Where to write it
    #[arg(default_value = "kura.toml")]
    file: PathBuf,
}

pub fn run(verb: &Init, json: bool) -> Result<End, Failure> {
    crate::config::write_template(&verb.file)
        .map_err(|error| format!("{}: {error}; it was not written", verb.file.display()))?;
    if json {
        output::json(&serde_json::json!({ "version": 1, "written": verb.file }));
    } else {
        output::line(&format!(
            "written: {}\nedit it, then: kura serve",
            verb.file.display()
        ));
    }
    Ok(End::Ok)
}
