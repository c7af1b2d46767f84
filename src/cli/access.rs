//! `kura access`: who may do what on the DICOM port.

use std::net::{IpAddr, ToSocketAddrs};

use super::output;
use super::{End, Failure, admin};
use crate::accounts::Accounts;
use crate::audit::{Audit, Event, Kind, Who as Asker};
use crate::config::{At, By, Config, Decision, Who};
use crate::dicom::{Service, Services};

#[derive(clap::Args)]
pub struct Access {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// The rules in their order, as kura.toml says
    List,
    /// Which rule fits a caller, and what it may do; nobody is asked, nothing is tried out
    Check {
        /// Calling AE title
        #[arg(long, value_name = "AE")]
        calling: String,
        /// It calls from there
        #[arg(long, value_name = "ADDRESS")]
        address: IpAddr,
        /// Called AE title [default: ours]
        #[arg(long, value_name = "AE")]
        called: Option<String>,
        /// User of the DICOM port whose password it gives
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// SHA-256 fingerprint of its client certificate, hexadecimal
        #[arg(long, value_name = "DIGITS")]
        fingerprint: Option<String>,
        /// Subject of its client certificate
        #[arg(long, value_name = "SUBJECT", default_value = "")]
        subject: String,
        /// A name in its client certificate; may be given several times
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
    },
    /// User names and passwords for workstations and modalities: add, list, remove
    User {
        #[command(subcommand)]
        action: UserAction,
    },
}

#[derive(clap::Subcommand)]
enum UserAction {
    /// Give a user a password, or another one; asks for it, or reads it from standard input. Counts within a second
    Add { name: String },
    /// Their names
    List,
    /// Its password is not taken any more
    Remove { name: String },
}

pub fn run(verb: Access, config: &Config, json: bool) -> Result<End, Failure> {
    let state = &config.state;
    let noted = |what: String| {
        let event = Event::new(Kind::Account);
        Audit::open(state).note(&Asker::here(), &what, "done", event);
    };
    match verb.action {
        Action::List => list(config, json),
        Action::Check {
            calling,
            address,
            called,
            user,
            fingerprint,
            subject,
            name,
        } => {
            let fingerprint = fingerprint.map(|digits| plain_digits(&digits));
            // A name without a certificate would be nobody's.
            let has_one = fingerprint.is_some() || !subject.is_empty() || !name.is_empty();
            let who = Who {
                calling: &calling,
                address,
                fingerprint: fingerprint.as_deref().or(has_one.then_some("")),
                subject: &subject,
                names: &name,
                user: user.as_deref(),
            };
            check(&who, called.as_deref(), config, json)?;
        }
        Action::User {
            action: UserAction::List,
        } => {
            let accounts = Accounts::read(state)?;
            let users: Vec<_> = accounts.dicom_users.iter().collect();
            if json {
                let users = users
                    .iter()
                    .map(|user| serde_json::json!({ "name": user.name, "set_at": user.set_at }));
                let users: Vec<_> = users.collect();
                output::json(&serde_json::json!({ "version": 1, "users": users }));
                return Ok(End::Ok);
            }
            let rows = users.iter().map(|user| {
                let since = user.set_at.get(..10).unwrap_or(&user.set_at);
                vec![user.name.clone(), since.to_owned()]
            });
            let rows: Vec<_> = rows.collect();
            output::line(&match rows.is_empty() {
                true => {
                    "no user has a password for the DICOM port\naction  kura access user add NAME"
                        .to_owned()
                }
                false => format!(
                    "{} users of the DICOM port\n{}",
                    rows.len(),
                    output::table(&["NAME", "SINCE"], &rows)
                ),
            });
        }
        Action::User {
            action: UserAction::Add { name },
        } => {
            let password = admin::password(&name)?;
            Accounts::set_dicom_password(state, &name, &password)?;
            noted(format!("password of {name} for the DICOM port"));
            admin::done(
                json,
                &format!(
                    "{name} has this password on the DICOM port from now on; without TLS whoever listens on the network can read it"
                ),
            );
        }
        Action::User {
            action: UserAction::Remove { name },
        } => {
            Accounts::remove_dicom_user(state, &name)?;
            noted(format!("user {name} of the DICOM port taken out"));
            admin::done(
                json,
                &format!("the password of {name} is not taken any more"),
            );
        }
    }
    Ok(End::Ok)
}

/// As `openssl x509 -fingerprint -sha256` writes them, too.
fn plain_digits(text: &str) -> String {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.strip_prefix("sha256:").unwrap_or(&lower);
    digits.replace(':', "")
}

fn list(config: &Config, json: bool) {
    let access = &config.access;
    let of = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let rules = access.rules.iter().map(|rule| {
        let texts = [
            rule.address
                .as_ref()
                .map(|all| all.iter().map(ToString::to_string).collect()),
            rule.certificate
                .as_ref()
                .map(|all| all.iter().map(ToString::to_string).collect()),
            rule.user
                .as_ref()
                .map(|all| all.iter().map(ToString::to_string).collect()),
        ];
        let services: Services = rule.allow.iter().copied().collect();
        (rule, texts, services)
    });
    let rules: Vec<(_, [Option<Vec<String>>; 3], Services)> = rules.collect();
    if json {
        let rules: Vec<_> = rules
            .iter()
            .map(|(rule, [address, certificate, user], services)| {
                serde_json::json!({
                    "name": rule.name,
                    "calling": rule.calling,
                    "address": address,
                    "certificate": certificate,
                    "user": user,
                    "allow": services.iter().collect::<Vec<Service>>(),
                })
            })
            .collect();
        output::json(&serde_json::json!({
            "version": 1,
            "unknown": access.unknown.to_string(),
            "called": if config.accept_any_called { "any" } else { "ours" },
            "require_user": access.require_user,
            "rules": rules,
        }));
        return;
    }
    let strangers = match access.unknown {
        crate::config::Unknown::Private => {
            "who fits no rule may do everything from a private address or as a peer, and is refused else"
        }
        crate::config::Unknown::Accept => "who fits no rule may do everything",
        crate::config::Unknown::Refuse => "who fits no rule and is no peer is refused",
    };
    let mut text = format!("{} rules; {strangers}\n", rules.len());
    if access.require_user {
        text.push_str("note    nobody gets in without a user name and password\n");
    }
    let rows = rules.iter().enumerate();
    let rows = rows.map(|(at, (rule, [address, certificate, user], services))| {
        let cells = [
            (at + 1).to_string(),
            rule.name.clone(),
            rule.calling.clone().unwrap_or_default(),
            of(address).join(" "),
            of(certificate).join(" "),
            of(user).join(" "),
            services.to_string(),
        ];
        cells.map(|cell| output::plain(&cell)).to_vec()
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        let header = [
            "RULE",
            "NAME",
            "CALLING",
            "ADDRESS",
            "CERTIFICATE",
            "USER",
            "MAY",
        ];
        text.push_str(&output::table(&header, &rows));
    }
    output::line(&text);
}

/// The peer that a caller is, and what is odd about that.
fn peer(who: &Who, config: &Config) -> (Option<String>, Option<String>) {
    let Some(peer) = config.peer(who.calling) else {
        return (None, None);
    };
    let (title, host) = (peer.ae_title.to_string(), &peer.host);
    let at = match peer.is_at(who.address) {
        At::Named => {
            let found: Result<Vec<_>, _> = (host.as_str(), 0u16)
                .to_socket_addrs()
                .map(|all| all.map(|one| one.ip().to_canonical()).collect());
            match found {
                Ok(all) if all.contains(&who.address.to_canonical()) => At::Here,
                Ok(_) => At::Elsewhere,
                Err(error) => {
                    let note =
                        format!("the peer {title} is at {host}, which has no address: {error}");
                    return (None, Some(note));
                }
            }
        }
        at => at,
    };
    match at {
        At::Here => (Some(title), None),
        _ if peer.is_caller() => {
            let note =
                format!("the peer {title} (host \"caller\") is known only from private addresses");
            (None, Some(note))
        }
        _ => {
            let note = format!("it says the AE title of the peer {title}, which is at {host}");
            (None, Some(note))
        }
    }
}

fn check(who: &Who, called: Option<&str>, config: &Config, json: bool) -> Result<(), Failure> {
    let (peer, odd) = peer(who, config);
    let Decision { services, by } = config.access.decide(who, peer.as_deref());
    let mut notes: Vec<String> = odd.into_iter().collect();
    let accounts = match who.user {
        Some(_) => Accounts::read(&config.state)?,
        None => Accounts::default(),
    };
    let mut refused = (services == Services::NONE).then(|| match &by {
        By::Unknown(_) => format!("nobody is known who calls so ({by})"),
        by => format!("by {by}"),
    });
    let title = called.unwrap_or(config.ae_title.as_str());
    if !config.accept_any_called && !title.trim().eq_ignore_ascii_case(config.ae_title.as_str()) {
        let ours = &config.ae_title;
        refused = Some(format!(
            "it calls {title}, and this server is {ours} ([access] called = \"ours\")"
        ));
    } else if let Some(user) = who.user
        && accounts.dicom_user(user).is_none()
    {
        let reason =
            format!("there is no user {user} of the DICOM port (kura access user add {user})");
        // Where nobody has a password none is looked at.
        match accounts.dicom_users.is_empty() && !config.access.asks_for_users() {
            true => notes.push(format!(
                "{reason}; as there is none at all, it is not looked at"
            )),
            false => refused = Some(reason),
        }
    } else if config.access.require_user && who.user.is_none() {
        refused =
            Some("it gives no user name and password ([access] require_user = true)".to_owned());
    }
    if services.has(Service::Store) != services.has(Service::Echo) && refused.is_none() {
        notes.push("many systems try the connection with echo before they store".to_owned());
    }
    let allowed = match refused {
        Some(_) => Services::NONE,
        None => services,
    };
    if json {
        let rule = match &by {
            By::Rule { number, .. } => Some(number),
            _ => None,
        };
        output::json(&serde_json::json!({
            "version": 1,
            "accepted": refused.is_none(),
            "allowed": allowed.iter().collect::<Vec<Service>>(),
            "by": by.to_string(),
            "rule": rule,
            "reason": refused,
            "notes": notes,
        }));
        return Ok(());
    }
    let mut text = match &refused {
        Some(reason) => format!("refused: {reason}\n"),
        None => format!("may {allowed}\nby      {by}\n"),
    };
    if refused.is_some() && matches!(by, By::Unknown(_)) {
        text.push_str("action  if it is to come in: an [[access.rule]] in kura.toml, or kura peer add AE@HOST:PORT\n");
    }
    for note in notes {
        text.push_str(&format!("note    {note}\n"));
    }
    output::line(&plain_lines(&text));
    Ok(())
}

/// Each line made safe for a terminal.
fn plain_lines(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", output::plain(line)))
        .collect()
}
