//! `kura completions SHELL` and `kura man DIR`: made from the same description of the verbs that reads the command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap_complete::Shell;

use super::{End, Failure, output};

#[derive(clap::Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish", "elvish", "powershell"]))]
    shell: String,
}

#[derive(clap::Args)]
pub struct Man {
    /// A folder that is there; a page for each verb is written into it
    folder: PathBuf,
}

pub fn completions(verb: &Completions) -> Result<End, Failure> {
    let shell: Shell = verb.shell.parse()?;
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "kura", &mut text);
    output::bytes_as_they_are(&String::from_utf8(text)?);
    Ok(End::Ok)
}

pub fn man(verb: &Man, json: bool) -> Result<End, Failure> {
    let folder = verb.folder.display().to_string();
    clap_mangen::generate_to(super::command(), &verb.folder)
        .map_err(|error| format!("{folder}: {error}; not every page was written"))?;
    match json {
        true => output::json(&serde_json::json!({ "version": 1, "written": folder })),
        false => output::line(&format!(
            "written: the pages, in {}",
            output::plain(&folder)
        )),
    }
    Ok(End::Ok)
}
