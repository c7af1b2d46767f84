//! `kura adopt`: images that are on a disk already, served where they lie or stored anew.

use std::path::PathBuf;

use super::equalize::wait;
use super::output;
use super::{End, Failure};
use crate::archive::{VolumeReport, WorkStatus, WorkVerb};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Adopt {
    /// A folder of DICOM files: an old archive's disk, a CD, a gateway's folders
    path: PathBuf,
    /// Name of the volume [default: that of the folder]
    #[arg(long)]
    name: Option<String>,
    /// Store the images in the archive as if they had been sent, instead of serving them where they are
    #[arg(long, conflicts_with = "name")]
    copy: bool,
}

pub fn run(verb: Adopt, config: &Config, json: bool) -> Result<End, Failure> {
    let work = WorkVerb::Adopt {
        path: std::path::absolute(verb.path)?,
        name: verb.name,
        copy: verb.copy,
    };
    let status = wait(config, work)?;
    if json {
        super::equalize::print_json(&status)?;
    } else {
        for report in &status.volumes {
            output::line(&screen(report, verb.copy));
        }
    }
    end(status)
}

fn end(status: WorkStatus) -> Result<End, Failure> {
    if let Some(error) = status.error {
        return Err(error.into());
    }
    let well = |report: &VolumeReport| report.missing + report.wrong == 0;
    Ok(match status.volumes.iter().all(well) {
        true => End::Ok,
        false => End::Degraded,
    })
}

fn screen(report: &VolumeReport, copy: bool) -> String {
    let name = output::plain(&report.volume);
    let mut text = match copy {
        true => format!(
            "{name}: {} stored, {} were here already, {} skipped\n",
            report.added, report.copies, report.extra
        ),
        false => format!(
            "volume {name}: {} images served where they are ({} new), {} skipped\n",
            report.served, report.added, report.extra
        ),
    };
    if !copy && report.copies > 0 {
        text.push_str(&format!(
            "{} of the new ones are copies of images that were here already\n",
            report.copies
        ));
    }
    if report.others > 0 {
        text.push_str(&format!(
            "{} are other data under a UID that is taken, or another transfer syntax: kept, the first is answered\n",
            report.others
        ));
    }
    for (count, what) in [(report.missing, "missing"), (report.wrong, "wrong")] {
        if count > 0 {
            text.push_str(&format!("{count} {what} since they were adopted\n"));
        }
    }
    for note in &report.notes {
        text.push_str(&format!("{}\n", output::plain(note)));
    }
    for finding in &report.findings {
        text.push_str(&format!(
            "{} {}: {}\n",
            finding.kind,
            output::plain(&finding.path),
            output::plain(&finding.reason)
        ));
    }
    let all = report.missing + report.wrong + report.extra;
    let rest = all.saturating_sub(report.findings.len() as u64);
    if rest > 0 {
        text.push_str(&format!("and {rest} more\n"));
    }
    text
}
