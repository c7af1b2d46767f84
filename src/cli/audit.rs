//! `kura audit`: who stored, read, moved, changed and deleted what; and whether the lines are as they were written.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::output;
use super::{End, Failure};
use crate::audit::{
    self, Audit as Trail, Entry, Event, Kind, ListEnd, Source, Verified, Wanted, Who,
};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::volume::io::{Disk, DiskFile};

#[derive(clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Who did what, the newest first
    List {
        /// Words that are all in the line: of a name, an address, a verb, a UID
        text: Vec<String>,
        #[command(flatten)]
        which: Which,
        /// Shown at most; 0: all
        #[arg(long, default_value_t = 100, value_name = "N")]
        most: u64,
    },
    /// Reads every line again: was one changed, taken out or put in?
    Verify {
        /// One that was written down earlier: is its line still there?
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
    },
    /// Audit messages of the standard (PS3.15 A.5), one a line, the oldest first
    Export {
        #[command(flatten)]
        which: Which,
        /// A new file; without it they are printed
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Which {
    /// A user, a token, an AE title or an address, on either side
    #[arg(long)]
    who: Option<String>,
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    /// Patient ID
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// Such as stored, moved, queried, looked, change, refused; several times
    #[arg(long, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only those since this day, UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    since: Option<Date>,
    /// Only those until this day, UTC, which is included
    #[arg(long, value_name = "YYYY-MM-DD")]
    until: Option<Date>,
}

impl Which {
    fn wanted(&self, text: &[String], most: u64) -> Result<Wanted, Failure> {
        let begin = |day: Date| format!("{day}T00:00:00Z");
        let until = self.until.map(Date::tomorrow).transpose()?;
        Ok(Wanted {
            words: text.to_vec(),
            who: self.who.clone(),
            study: self.study.clone(),
            patient: self.patient.clone(),
            kinds: self.kind.clone(),
            since: self.since.map(begin),
            until: until.map(begin),
            most,
        })
    }
}

pub fn run(verb: Audit, config: &Config, json: bool) -> Result<End, Failure> {
    match verb.action {
        Action::List { text, which, most } => {
            let mut entries = Vec::new();
            let end = ask(config, which.wanted(&text, most)?, &mut entries)?;
            match json {
                true => output::json(&serde_json::json!({
                    "version": 1,
                    "lines": entries,
                    "more": end.more,
                    "damaged_count": end.damaged_count,
                })),
                false => output::line(&list(&entries, &end)),
            }
            Ok(End::Ok)
        }
        Action::Verify { digest } => {
            let verified = audit::verify(&config.state, digest.as_deref())?;
            match json {
                true => output::json(&super::remove::with_version(serde_json::to_value(
                    &verified,
                )?)),
                false => output::line(&screen(&verified)),
            }
            Ok(match verified.faults_count {
                0 => End::Ok,
                _ => End::Degraded,
            })
        }
        Action::Export { which, to } => export(config, &which, to, json),
    }
}

/// By the running server, which has events that are not written yet; without one, from its files.
fn ask(config: &Config, wanted: Wanted, entries: &mut Vec<Entry>) -> Result<ListEnd, Failure> {
    let mut last = None;
    let request = Request::Audit(wanted.clone());
    let asked = control::ask_each(&config.state, &request, &mut |response| {
        match response {
            Response::Audited(some) => entries.extend(some),
            response => last = Some(response),
        }
        ControlFlow::Continue(())
    })?;
    if !asked {
        let end = audit::list(&config.state, &wanted, &mut |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })?;
        was_read(config, &format!("{} lines", entries.len()));
        return Ok(end);
    }
    match last {
        Some(Response::Audit(end)) => Ok(end),
        Some(Response::Failed { reason }) => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

/// Who reads the audit is in it, too.
fn was_read(config: &Config, outcome: &str) {
    if config.state.exists() {
        let event = Event::new(Kind::AuditRead);
        Trail::open(&config.state).note(&Who::here(), "the audit was read", outcome, event);
    }
}

fn export(config: &Config, which: &Which, to: Option<PathBuf>, json: bool) -> Result<End, Failure> {
    let own = &config.audit;
    let source = Source::new(
        config.ae_title.as_str(),
        own.source_id.as_deref(),
        own.site_id.as_deref(),
        &config.state.join("audit").display().to_string(),
    );
    let wanted = which.wanted(&[], 0)?;
    let out: Box<dyn Write> = match &to {
        Some(path) => Box::new(NewFile::create(path)?),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut out = std::io::BufWriter::new(out);
    let mut give = |message: &str| writeln!(out, "{message}");
    let count = audit::messages(&config.state, &wanted, &source, &mut give)?;
    out.flush()?;
    was_read(config, &format!("{count} messages exported"));
    if let Some(path) = &to {
        match json {
            true => output::json(
                &serde_json::json!({ "version": 1, "file": path, "messages_count": count }),
            ),
            false => output::line(&format!("{count} audit messages in {}\n", path.display())),
        }
    }
    Ok(End::Ok)
}

/// For its owner alone: it names patients.
struct NewFile {
    file: DiskFile,
    length: u64,
}

impl NewFile {
    fn create(path: &Path) -> std::io::Result<NewFile> {
        let file = Disk::default().create_new(path)?;
        file.set_private()?;
        Ok(NewFile { file, length: 0 })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_at(self.length, bytes)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

fn list(entries: &[Entry], end: &ListEnd) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let cells = [
                entry.at.get(..19).unwrap_or(&entry.at),
                &entry.who,
                &entry.from,
                entry.kind().as_str(),
                &entry.said(),
                &entry.outcome,
            ];
            cells.map(output::plain).to_vec()
        })
        .collect();
    let header = ["AT (UTC)", "WHO", "FROM", "KIND", "WHAT", "OUTCOME"];
    let mut text = format!("{} lines\n{}", entries.len(), output::table(&header, &rows));
    if end.more {
        text.push_str("note    there are more; say more of what you look for, or: --most 0\n");
    }
    if end.damaged_count > 0 {
        text.push_str(&format!(
            "note    {} lines cannot be read; run: kura audit verify\n",
            end.damaged_count
        ));
    }
    text
}

fn screen(verified: &Verified) -> String {
    let mut text = match (verified.faults_count, verified.lines_count) {
        (0, 0) => "nothing was noted yet\n".to_owned(),
        (0, lines) => format!(
            "{lines} lines, all as they were written\nfrom    {} to {}\n",
            verified.first, verified.last
        ),
        (faults, lines) => format!(
            "{faults} of {lines} lines are not as they were written\naction  the log of the server has the digest of each change, and a backup the lines themselves\n"
        ),
    };
    if verified.digest_found == Some(true) {
        text.push_str("digest  its line is there; all before it is as it was then\n");
    }
    for fault in &verified.faults {
        text.push_str(&format!("fault   {}\n", output::plain(fault)));
    }
    for note in &verified.notes {
        text.push_str(&format!("note    {}\n", output::plain(note)));
    }
    if !verified.last_digest.is_empty() {
        text.push_str(&format!(
            "last    {}\n        written down elsewhere, it tells later whether lines were cut off at the end: kura audit verify --digest DIGEST\n",
            verified.last_digest
        ));
    }
    text
}
