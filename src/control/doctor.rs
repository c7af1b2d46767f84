//! What the doctor looks at beside the archive: the administrator's page, the associations that failed lately, a peer.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use jiff::Timestamp;

use crate::accounts::Accounts;
use crate::archive::DoctorFinding as Finding;
use crate::config::{Config, Unknown};
use crate::metrics::Ended;
use crate::probe::{ProbeReport, Trial};

use super::Desk;

/// Older failures are not named.
const DAYS_NAMED: i64 = 7;
const NAMED_MAX: usize = 10;
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn look_over(desk: &Desk) -> Vec<Finding> {
    let mut findings = desk.archive.look_over();
    if desk.serves {
        findings.push(page(desk));
    }
    findings.extend(access(&desk.live.now()));
    findings.extend(failures(desk.metrics.failed(), Timestamp::now()));
    findings
}

fn page(desk: &Desk) -> Finding {
    let admin = &desk.config.admin;
    if !admin.enabled {
        let next = "[admin] enabled = true, or kura serve without --admin-port off";
        return Finding::note("page", "the administrator's page is switched off", next);
    }
    if admin.port == 0 {
        return Finding::ok("page", "the administrator's page is where the log says");
    }
    // What listens everywhere is reached at home.
    let at = match admin.bind {
        IpAddr::V4(bind) if bind.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(bind) if bind.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        bind => bind,
    };
    let at = SocketAddr::new(at, admin.port);
    match TcpStream::connect_timeout(&at, CONNECT_PATIENCE) {
        Ok(_) => Finding::ok("page", format!("the administrator's page is at {at}")),
        Err(error) => Finding::problem(
            "page",
            format!("the administrator's page does not answer at {at}: {error}"),
            "the log says why; if the port is taken: [admin] port = another one",
        ),
    }
}

/// What of `[access]` is wider or narrower than somebody may have meant.
fn access(config: &Config) -> Option<Finding> {
    let access = &config.access;
    let has_users = || match Accounts::read(&config.state) {
        Ok(accounts) => !accounts.dicom_users.is_empty(),
        // That is said where somebody needs them.
        Err(_) => true,
    };
    if access.require_user && !has_users() {
        return Some(Finding::problem(
            "access",
            "nobody can send or ask: [access] require_user = true, and there is no user of the DICOM port",
            "kura access user add NAME; or take require_user out of kura.toml",
        ));
    }
    if access.asks_for_users() && !has_users() {
        return Some(Finding::note(
            "access",
            "an [[access.rule]] asks for a user, and there is no user of the DICOM port",
            "kura access user add NAME",
        ));
    }
    (access.unknown == Unknown::Accept && !config.bind.is_loopback()).then(|| {
        Finding::note(
            "access",
            "whoever reaches the DICOM port may store and fetch: [access] unknown = \"accept\"",
            "unknown = \"private\", and an [[access.rule]] for those from elsewhere",
        )
    })
}

/// A note for each kind of failure of each node.
fn failures(failed: Vec<Ended>, now: Timestamp) -> Vec<Finding> {
    let is_new = |ended: &&Ended| {
        let begun: Option<Timestamp> = ended.begun.parse().ok();
        begun.is_some_and(|begun| now.duration_since(begun).as_hours() < DAYS_NAMED * 24)
    };
    let of_late: Vec<&Ended> = failed.iter().filter(is_new).collect();
    let named = of_late.iter().take(NAMED_MAX).map(|ended| {
        let who = match ended.calling.as_str() {
            "" => ended.address.clone(),
            title => format!("{title} at {}", ended.address),
        };
        let times = match ended.times {
            0 | 1 => String::new(),
            times => format!(", {times} times"),
        };
        let at = ended.begun.get(..16).unwrap_or(&ended.begun);
        let at = at.replace('T', " ");
        let says = format!("{who} failed at {at} UTC{times}: {}", ended.end);
        Finding::note("senders", says, ended.next.clone())
    });
    let mut findings: Vec<Finding> = named.collect();
    let more = of_late.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        let says = format!("{more} other kinds of failures within {DAYS_NAMED} days");
        findings.push(Finding::note("senders", says, "the log names them"));
    } else if findings.is_empty() {
        let says = format!("no association failed within {DAYS_NAMED} days");
        findings.push(Finding::ok("senders", says));
    }
    findings
}

/// Of a configured peer.
pub(super) fn probe(desk: &Desk, peer: &str, send_image: bool) -> Result<ProbeReport, String> {
    let Some(peer) = desk.config.peer(peer) else {
        return Err(format!(
            "{peer} is not a configured peer; add it: kura peer add {peer}@HOST:PORT"
        ));
    };
    let mut trial = Trial::new(&desk.config, &peer);
    trial.archive = desk.serves.then_some(&desk.archive);
    trial.lately = desk.metrics.associations();
    trial.failed = desk.metrics.failed();
    trial.send_image = send_image;
    Ok(trial.run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_in_nobody_or_everybody_is_named() {
        let state = tempfile::TempDir::new().unwrap();
        let finding = |text: &str| {
            let mut config = Config::of_text(text).unwrap();
            config.state = state.path().to_owned();
            access(&config)
        };
        let required = "[access]\nrequire_user = true\n";
        let rule = "[[access.rule]]\nuser = \"sato\"\nallow = [\"find\"]\n";
        let open = "[access]\nunknown = \"accept\"\n";
        assert!(finding("").is_none());
        assert!(finding(required).unwrap().says.starts_with("nobody"));
        assert!(finding(rule).unwrap().says.contains("asks for a user"));
        assert!(finding(open).unwrap().says.starts_with("whoever"));
        assert!(finding(&format!("bind = \"127.0.0.1\"\n{open}")).is_none());
        Accounts::set_dicom_password(state.path(), "sato", "long enough it is").unwrap();
        assert!(finding(required).is_none() && finding(rule).is_none());
    }

    #[test]
    fn only_what_failed_lately_is_named_and_not_all_of_it() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let failed = |begun: &str, calling: &str| Ended {
            begun: begun.to_owned(),
            calling: calling.to_owned(),
            address: "10.0.0.1".to_owned(),
            end: "why".to_owned(),
            failed: true,
            times: 3,
            ..Ended::default()
        };
        let old = failures(vec![failed("2026-03-01T12:00:00Z", "CT1")], now);
        assert!(old[0].says.starts_with("no association failed"), "{old:?}");
        let many = (0..30).map(|n| failed("2026-03-10T11:59:00Z", &format!("CT{n}")));
        let many = failures(many.collect(), now);
        assert_eq!(many.len(), NAMED_MAX + 1);
        let says = "CT0 at 10.0.0.1 failed at 2026-03-10 11:59 UTC, 3 times: why";
        assert_eq!(many[0].says, says);
        assert!(many[NAMED_MAX].says.starts_with("20 other"), "{many:?}");
    }
}
