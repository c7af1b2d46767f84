//! The command line: one file per verb.

mod access;
mod admin;
mod adopt;
mod amend;
mod audit;
mod backup;
mod changes;
mod commit;
mod conflicts;
mod doctor;
mod drill;
mod dump;
mod echo;
mod equalize;
mod find;
mod forward;
mod forward_rules;
mod index;
mod init;
mod journal;
mod manual;
mod mirror;
mod notices;
mod on_disk;
mod output;
mod peer;
mod protect;
mod pull;
mod reload;
mod remove;
mod replace;
mod report;
mod retention;
mod scrub;
mod send;
mod serve;
mod stats;
mod status;
mod trash;
mod volume;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::archive::{Archive, Mode};
use crate::audit::{Audit, Event, Kind, Who};
use crate::config::Config;
use crate::control::{self, Desk, Request, Response};
use crate::sending::worker;

/// What a verb ends with; `main` turns it into the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// 0: ok or done.
    Ok,
    /// 1: degraded; a person is needed.
    Degraded,
    /// 4: something is lost.
    Lost,
}

/// Any failure to do what was asked: exit code 3.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    name = "kura",
    version,
    about = "An embedded DICOM archive server",
    arg_required_else_help = true
)]
struct Arguments {
    /// Configuration file [default: ./kura.toml where present, else the embedded default]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON: one object, with "version"
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the archive; stays in the foreground until SIGTERM or Ctrl-C
    Serve(serve::Serve),
    /// Is everything well? Looks at the disks now
    Status,
    /// Search the archive
    Find(find::Find),
    /// What of this machine, or of a DICOM node, stands in the way? Measures the disks
    Doctor(doctor::Doctor),
    /// How much is in the archive, also by modality, month, station or volume
    Stats(stats::Stats),
    /// What came and went: studies received, sent and pulled, with peer, status and seconds
    Journal(journal::Journal),
    /// Studies from another archive to here, compared on both sides at the end
    Pull(pull::Pull),
    /// Ask a DICOM node whether it is there (C-ECHO)
    Echo(echo::Echo),
    /// Send files, folders, or studies of the archive to a DICOM node (C-STORE)
    Send(send::Send),
    /// What goes by itself to where it is read: list, show, retry, pause; the rules
    Forward(forward::Forward),
    /// DICOM nodes that something may be sent to: list, add, remove
    Peer(peer::Peer),
    /// Show the tags of a DICOM file
    Dump(dump::Dump),
    /// Look after the index
    Index(index::Index),
    /// Disks: list, check, add, retire, drain, eject, return, rename, relocate, replace, forget
    Volume(volume::Volume),
    /// Second copies: what is left to do, now, pause, resume
    Mirror(mirror::Mirror),
    /// Images leave the volumes that received them, by rule: what would go, and now
    Retention(retention::Retention),
    /// What became of dead disks and of pulls, and what left by rule: list, show
    Report(report::Report),
    /// Every file read again and compared with its checksum: how far it is, or all of it now
    Scrub(scrub::Scrub),
    /// Serve a folder of DICOM files where it lies, or store what is in it
    Adopt(adopt::Adopt),
    /// Make index, ledgers and disks agree, and say what does not
    Equalize(equalize::Equalize),
    /// Would everything come back? Proves it from the ledgers and some files; changes nothing
    Drill(drill::Drill),
    /// The wrong patient or study: amend, move, take back; shown first
    Amend(Box<amend::Amend>),
    /// Who changed what, when and why: list, show
    Changes(changes::Changes),
    /// Who may use the administrator's page and the API: passwords, tokens; its certificate
    Admin(admin::Admin),
    /// Who may do what on the DICOM port: the rules, what fits a caller, users with passwords
    Access(access::Access),
    /// Who stored, read, moved, changed and deleted what: list, verify, export
    Audit(audit::Audit),
    /// A study, series or instance to the trash
    Remove(remove::Remove),
    /// What was removed: list, restore, empty
    Trash(trash::Trash),
    /// Studies that nobody removes or changes
    Protect(protect::Protect),
    /// What needs a decision: show, prefer, discard, undo
    Conflicts(conflicts::Settle),
    /// Read the configuration again while the server runs; a wrong one is refused whole
    Reload,
    /// Who is told when the state changes, and every day; whether it arrives
    Notices(notices::Notices),
    /// Configuration and state in one file; no image, no index
    Backup(backup::Backup),
    /// Put a backup in place; shown first with --dry-run
    Restore(backup::Restore),
    /// Write a commented kura.toml with the defaults
    Init(init::Init),
    /// Completions of the command line, for a shell to read
    Completions(manual::Completions),
    /// Write a manual page for each verb
    Man(manual::Man),
    /// Decompresses for a server, which starts it and talks to it over its pipes
    #[command(name = worker::VERB, hide = true)]
    TranscodeWorker,
}

/// Every verb, with what it changes on disk.
fn command() -> clap::Command {
    on_disk::said(plain_command())
}

fn plain_command() -> clap::Command {
    Arguments::command()
}

pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = arguments.json;
    match dispatch(arguments) {
        Ok(End::Ok) => ExitCode::SUCCESS,
        Ok(End::Degraded) => ExitCode::from(1),
        Ok(End::Lost) => ExitCode::from(4),
        Err(failure) => {
            output::failure(json, failure.as_ref());
            ExitCode::from(3)
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<End, Failure> {
    let json = arguments.json;
    match arguments.verb {
        // It reads the file itself: a wrong one is its answer.
        Verb::Reload => return reload::run(arguments.config.as_deref(), json),
        // What it needs of the configuration may be in the backup.
        Verb::Restore(verb) => return backup::restore(&verb, arguments.config.as_deref(), json),
        Verb::Completions(verb) => return manual::completions(&verb),
        Verb::Man(verb) => return manual::man(&verb, json),
        Verb::Init(verb) => return init::run(&verb, json),
        Verb::Dump(verb) => return dump::run(&verb, json),
        Verb::TranscodeWorker => return Ok(worker::work().map(|()| End::Ok)?),
        _ => {}
    }
    let config = Config::load(arguments.config.as_deref())?;
    match arguments.verb {
        Verb::Serve(verb) => serve::run(verb, config),
        Verb::Status => status::run(&config, json),
        Verb::Find(verb) => find::run(&verb, &config, json),
        Verb::Doctor(verb) => doctor::run(&verb, &config, json),
        Verb::Stats(verb) => stats::run(&verb, &config, json),
        Verb::Journal(verb) => journal::run(&verb, &config, json),
        Verb::Pull(verb) => pull::run(verb, &config, json),
        Verb::Echo(verb) => echo::run(&verb, &config, json),
        Verb::Send(verb) => send::run(&verb, &config, json),
        Verb::Forward(verb) => forward::run(verb, &config, json),
        Verb::Peer(verb) => peer::run(verb, &config, json),
        Verb::Index(verb) => index::run(&verb, &config, json),
        Verb::Volume(verb) => volume::run(verb, &config, json),
        Verb::Mirror(verb) => mirror::run(verb, &config, json),
        Verb::Report(verb) => report::run(verb, &config, json),
        Verb::Retention(verb) => retention::run(verb, &config, json),
        Verb::Scrub(verb) => scrub::run(verb, &config, json),
        Verb::Adopt(verb) => adopt::run(verb, &config, json),
        Verb::Equalize(verb) => equalize::run(&verb, &config, json),
        Verb::Drill(verb) => drill::run(&verb, &config, json),
        Verb::Amend(verb) => amend::run(verb, &config, json),
        Verb::Changes(verb) => changes::run(verb, &config, json),
        Verb::Access(verb) => access::run(verb, &config, json),
        Verb::Admin(verb) => admin::run(verb, &config, json),
        Verb::Audit(verb) => audit::run(verb, &config, json),
        Verb::Remove(verb) => remove::run(&verb, &config, json),
        Verb::Trash(verb) => trash::run(verb, &config, json),
        Verb::Protect(verb) => protect::run(verb, &config, json),
        Verb::Conflicts(verb) => conflicts::run(verb, &config, json),
        Verb::Notices(verb) => notices::run(&verb, &config, json),
        Verb::Backup(verb) => backup::backup(&verb, &config, json),
        Verb::Dump(_)
        | Verb::Init(_)
        | Verb::Reload
        | Verb::Restore(_)
        | Verb::Completions(_)
        | Verb::Man(_)
        | Verb::TranscodeWorker => {
            unreachable!("handled above")
        }
    }
}

/// Asks the running server; where none runs, opens the archive here (taking its locks).
fn ask(config: &Config, request: Request) -> Result<(Response, bool), Failure> {
    if let Some(response) = control::ask(&config.state, &request)? {
        return Ok((response, true));
    }
    Ok((
        control::answer(&open(config)?, &Who::here(), request),
        false,
    ))
}

/// The archive without a server, its locks taken.
fn open(config: &Config) -> Result<Desk, Failure> {
    let archive = Arc::new(Archive::open(config, Mode::Existing)?);
    Ok(Desk::of(archive, config)?)
}

/// What a verb made itself, without a server, is in the audit as if one had been asked.
fn note(config: &Config, request: &Request, outcome: &str) {
    let what = serde_json::to_string(request).unwrap_or_default();
    let event = Event::new(Kind::Change);
    Audit::open(&config.state).note(&Who::here(), &what, outcome, event);
}

/// As [`ask`], for what is answered in pieces.
fn ask_each(
    config: &Config,
    request: Request,
    give: &mut dyn FnMut(Response) -> ControlFlow<()>,
) -> Result<(), Failure> {
    if !control::ask_each(&config.state, &request, give)? {
        control::answer_each(&open(config)?, &Who::here(), request, give);
    }
    Ok(())
}

/// The node that a verb is to call: a configured peer's AE title, or `AE@HOST:PORT`.
fn peer(config: &Config, text: &str) -> Result<crate::config::PeerEntry, Failure> {
    if text.contains('@') {
        let typed: crate::config::PeerEntry = text
            .parse()
            .map_err(|reason| format!("{text}: {reason}; expected AE@HOST:PORT"))?;
        // Typed as it is configured it is that peer, with all that is known of it.
        let known = config.peer(typed.ae_title.as_str());
        let is_known =
            |known: &crate::config::PeerEntry| known.host == typed.host && known.port == typed.port;
        return Ok(known.filter(is_known).unwrap_or(typed));
    }
    let known = config.peer(text);
    known.ok_or_else(|| {
        format!("{text} is not a configured peer; add it (kura peer add), or give AE@HOST:PORT")
            .into()
    })
}

fn address(peer: &crate::config::PeerEntry) -> Result<Vec<std::net::SocketAddr>, Failure> {
    use std::net::ToSocketAddrs;
    if peer.is_caller() {
        let title = &peer.ae_title;
        return Err(format!("{title} has host \"caller\"; give {title}@HOST:PORT").into());
    }
    let found = (peer.host.as_str(), peer.port).to_socket_addrs();
    Ok(found
        .map_err(|error| format!("{}: {error}", peer.host))?
        .collect())
}
