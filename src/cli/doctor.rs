//! `kura doctor`: does this machine, or a DICOM node, let the archive do its work? In plain words.

use std::sync::Arc;

use super::output;
use super::{End, Failure};
use crate::archive::{Archive, DoctorFinding as Finding, Grade, Mode, before_opening};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::net::NetError;

#[derive(clap::Args)]
pub struct Doctor {
    /// AE title of a configured peer, or AE@HOST:PORT: look at that node instead of this machine
    peer: Option<String>,
}

pub fn run(verb: &Doctor, config: &Config, json: bool) -> Result<End, Failure> {
    let mut findings = match &verb.peer {
        Some(peer) => vec![look_at_peer(peer, config)?],
        None => look_at_machine(config)?,
    };
    // What matters first; otherwise as it was found.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    let (problems, notes) = (count(Grade::Problem), count(Grade::Note));
    if json {
        output::json(&serde_json::json!({
            "version": 1,
            "problems_count": problems,
            "notes_count": notes,
            "findings": findings,
        }));
    } else {
        output::line(&screen(&findings, problems, notes));
    }
    Ok(match problems {
        0 => End::Ok,
        _ => End::Degraded,
    })
}

fn screen(findings: &[Finding], problems: usize, notes: usize) -> String {
    let answer = match (problems, notes) {
        (0, 0) => "all is well".to_owned(),
        (0, notes) => format!("nothing is wrong; to be noted: {notes}"),
        (problems, 0) => format!("problems: {problems}"),
        (problems, notes) => format!("problems: {problems}; to be noted: {notes}"),
    };
    let mut text = format!("doctor   {answer}\n");
    for finding in findings {
        let grade = match finding.grade {
            Grade::Ok => "ok",
            Grade::Note => "note",
            Grade::Problem => "problem",
        };
        let says = output::plain(&finding.says);
        text.push_str(&format!("{grade:<9}{}: {says}", finding.about));
        if !finding.next.is_empty() {
            text.push_str(&format!(" -> {}", output::plain(&finding.next)));
        }
        text.push('\n');
    }
    text
}

/// By the running server; without one by this process, which opens the archive, and says why if that cannot be done.
fn look_at_machine(config: &Config) -> Result<Vec<Finding>, Failure> {
    let asked = control::ask(&config.state, &Request::Doctor)?;
    let (answer, running) = match asked {
        Some(answer) => (answer, true),
        None => match Archive::open(config, Mode::Existing) {
            Ok(archive) => (Response::Doctor(Arc::new(archive).look_over()), false),
            Err(error) => return Ok(before_opening(config, &error)),
        },
    };
    let mut findings = match answer {
        Response::Doctor(findings) => findings,
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    if !running {
        let says = "it does not run; this was found without it";
        findings.push(Finding::note("server", says, "kura serve"));
    }
    Ok(findings)
}

fn look_at_peer(text: &str, config: &Config) -> Result<Finding, Failure> {
    let peer = super::peer(config, text)?;
    let about = format!("{} at {}:{}", peer.ae_title, peer.host, peer.port);
    Ok(match super::echo::ask(&peer, config) {
        Ok(ms) => Finding::ok(&about, format!("it answers C-ECHO, in {ms} ms")),
        Err(failure) => {
            let next = next_step(failure.as_ref(), config);
            Finding::problem(&about, failure.to_string(), next)
        }
    })
}

/// Where to look when a node does not answer as it should.
fn next_step(failure: &(dyn std::error::Error + 'static), config: &Config) -> String {
    let ours = &config.ae_title;
    match failure.downcast_ref::<NetError>() {
        Some(NetError::Connect { source, .. })
            if source.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            "nothing listens there: is the program started, and is that its port?".to_owned()
        }
        Some(NetError::Connect { .. }) => {
            "is the address right, the machine on, and the port open in its firewall?".to_owned()
        }
        Some(NetError::Rejected(_)) => {
            format!("does it know us as {ours}, and is its own AE title written like that?")
        }
        Some(NetError::Timeout { .. }) => {
            "something accepts the connection and says nothing: is that a DICOM port?".to_owned()
        }
        _ => "its own log says more".to_owned(),
    }
}
