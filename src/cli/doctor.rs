//! `kura doctor`: does this machine, or a DICOM node, let the archive do its work? In plain words.

use std::sync::Arc;

use super::output;
use super::{End, Failure};
use crate::archive::{Archive, DoctorFinding as Finding, Grade, Mode, before_opening};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::probe::{ProbeReport, Trial};

#[derive(clap::Args)]
pub struct Doctor {
    /// AE title of a configured peer, or AE@HOST:PORT: look at that node instead of this machine
    peer: Option<String>,
    /// Send it a small image of nobody (KURA^TEST), and ask it back; it stays on that node, and is stored here
    #[arg(long, requires = "peer")]
    send_test_image: bool,
}

pub fn run(verb: &Doctor, config: &Config, json: bool) -> Result<End, Failure> {
    if let Some(peer) = &verb.peer {
        return look_at_peer(peer, verb.send_test_image, config, json);
    }
    let mut findings = look_at_machine(config)?;
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
        let mut text = format!("doctor   {}\n", answer(problems, notes));
        for finding in &findings {
            let grade = match finding.grade {
                Grade::Ok => "ok",
                Grade::Note => "note",
                Grade::Problem => "problem",
            };
            text.push_str(&line(grade, &finding.about, &finding.says, &finding.next));
        }
        output::line(&text);
    }
    Ok(end(problems))
}

fn answer(problems: usize, notes: usize) -> String {
    match (problems, notes) {
        (0, 0) => "all is well".to_owned(),
        (0, notes) => format!("nothing is wrong; to be noted: {notes}"),
        (problems, 0) => format!("problems: {problems}"),
        (problems, notes) => format!("problems: {problems}; to be noted: {notes}"),
    }
}

fn line(grade: &str, about: &str, says: &str, next: &str) -> String {
    let mut text = format!("{grade:<9}{about}: {}", output::plain(says));
    if !next.is_empty() {
        text.push_str(&format!(" -> {}", output::plain(next)));
    }
    text.push('\n');
    text
}

fn end(problems: usize) -> End {
    match problems {
        0 => End::Ok,
        _ => End::Degraded,
    }
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

fn look_at_peer(text: &str, image: bool, config: &Config, json: bool) -> Result<End, Failure> {
    let peer = super::peer(config, text)?;
    let title = peer.ae_title.as_str().to_owned();
    // A server knows what the peer did lately, and receives what it sends back. It calls only whom it knows.
    let request = match image {
        true => Request::ProbeByImage { peer: title },
        false => Request::Probe { peer: title },
    };
    let asked = match text.contains('@') {
        true => None,
        false => control::ask(&config.state, &request)?,
    };
    let report = match asked {
        Some(Response::Probe(report)) => *report,
        Some(Response::Failed { reason }) => return Err(reason.into()),
        Some(_) => return Err("the server answered something else".into()),
        None => {
            let mut trial = Trial::new(config, &peer);
            trial.send_image = image;
            if let Ok(Some(Response::Failures(failed))) =
                control::ask(&config.state, &Request::Failures)
            {
                trial.failed = failed;
            }
            trial.run()
        }
    };
    let at = match peer.is_caller() {
        true => peer.ae_title.to_string(),
        false => format!("{} at {}:{}", peer.ae_title, peer.host, peer.port),
    };
    Ok(show(report, &at, json))
}

/// How bad, and the word for it.
const OUTCOMES: [(&str, &str); 4] = [
    ("failed", "problem"),
    ("warning", "note"),
    ("ok", "ok"),
    ("skipped", "skipped"),
];

fn show(mut report: ProbeReport, at: &str, json: bool) -> End {
    let place = |outcome: &str| OUTCOMES.iter().position(|(known, _)| *known == outcome);
    report.tried.sort_by_key(|tried| place(&tried.outcome));
    let count = |outcome: &str| report.tried.iter().filter(|t| t.outcome == outcome).count();
    let (problems, notes) = (count("failed"), count("warning"));
    if json {
        output::json(&serde_json::json!({
            "version": 1,
            "peer": report.peer,
            "problems_count": problems,
            "notes_count": notes,
            "tried": report.tried,
        }));
        return end(problems);
    }
    let mut text = format!("doctor   {at}: {}\n", answer(problems, notes));
    for tried in &report.tried {
        let known = OUTCOMES.iter().find(|(known, _)| *known == tried.outcome);
        let grade = known.map_or("note", |(_, word)| word);
        text.push_str(&line(grade, &tried.what, &tried.found, &tried.next));
    }
    output::line(&text);
    end(problems)
}
