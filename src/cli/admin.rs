//! `kura admin`: who may use the page and the API, and the certificate of the page.

use std::io::{BufRead, IsTerminal, Write};

use rustix::termios::{self, LocalModes, OptionalActions};

use super::output;
use super::{End, Failure};
use crate::accounts::{Accounts, certificate};
use crate::audit::{Audit, Event, Kind, Who};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Admin {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Users and tokens
    List,
    /// Give a user a password, or another one; asks for it, or reads it from standard input. From the first on nobody gets
    /// in without. Writes admin/accounts.json in the state folder
    Password {
        #[arg(long, value_name = "NAME", default_value = "admin")]
        user: String,
        /// May look, and change nothing
        #[arg(long)]
        read_only: bool,
    },
    /// Take a user out; signed out at once
    Remove {
        #[arg(value_name = "USER")]
        name: String,
    },
    /// For programs: add, list, remove
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// A certificate that this server signs itself. Writes certificate.pem and key.pem into admin/ of the state folder, or
    /// into tls/
    Certificate {
        /// Names and addresses by which this server is called, beside those of this machine
        names: Vec<String>,
        /// For DICOM over TLS instead of the page
        #[arg(long)]
        dicom: bool,
        /// In the place of the one that is there
        #[arg(long)]
        again: bool,
    },
}

#[derive(clap::Subcommand)]
enum TokenAction {
    /// Make one; it is shown now, and never again
    Add {
        name: String,
        /// May look, and change nothing
        #[arg(long)]
        read_only: bool,
    },
    /// Their names
    List,
    /// It is not taken any more
    Remove { name: String },
}

pub fn run(verb: Admin, config: &Config, json: bool) -> Result<End, Failure> {
    let state = &config.state;
    let noted = |what: String| {
        let event = Event::new(Kind::Account);
        Audit::open(state).note(&Who::here(), &what, "done", event);
    };
    let kind = |read_only: bool| if read_only { ", to look only" } else { "" };
    match verb.action {
        Action::List
        | Action::Token {
            action: TokenAction::List,
        } => {
            let accounts = Accounts::read(state)?;
            match json {
                true => output::json(&as_json(&accounts)),
                false => output::line(&screen(&accounts)),
            }
            return Ok(End::Ok);
        }
        Action::Password { user, read_only } => {
            let password = password(&user)?;
            Accounts::set_password(state, &user, &password, read_only)?;
            noted(format!("password of {user}{}", kind(read_only)));
            let said = format!(
                "{user} has this password from now on{}; nobody gets into the page without one",
                kind(read_only)
            );
            done(json, &said);
        }
        Action::Remove { name } => {
            Accounts::remove_user(state, &name)?;
            noted(format!("user {name} taken out"));
            let left = Accounts::read(state)?.users.len();
            let note = match left {
                0 if config.admin.bind.is_loopback() => {
                    "; nobody has a password now: whoever works on this machine gets in"
                }
                _ => "",
            };
            done(json, &format!("{name} does not get in any more{note}"));
        }
        Action::Token {
            action: TokenAction::Add { name, read_only },
        } => {
            let token = Accounts::add_token(state, &name, read_only)?;
            noted(format!("token {name} made{}", kind(read_only)));
            match json {
                true => output::json(
                    &serde_json::json!({ "version": 1, "name": name, "token": token, "read_only": read_only }),
                ),
                false => output::line(&format!(
                    "{token}\nkeep it now: it is not shown again. Sent as: Authorization: Bearer TOKEN"
                )),
            }
        }
        Action::Token {
            action: TokenAction::Remove { name },
        } => {
            Accounts::remove_token(state, &name)?;
            noted(format!("token {name} taken out"));
            done(json, &format!("token {name} is not taken any more"));
        }
        Action::Certificate {
            names,
            dicom,
            again,
        } => {
            let (for_what, bind) = match dicom {
                true => (certificate::Use::Dicom, config.tls.bind),
                false => (certificate::Use::Page, config.admin.bind),
            };
            let made = certificate::make(state, for_what, bind, &names, again)?;
            noted(format!("certificate for {}", made.names.join(", ")));
            let (certificate, key) = (made.certificate.display(), made.key.display());
            match json {
                true => output::json(&serde_json::json!({
                    "version": 1,
                    "certificate": made.certificate,
                    "key": made.key,
                    "names": made.names,
                    "until": made.until,
                    "fingerprint": made.fingerprint,
                })),
                false if dicom => output::line(&format!(
                    "a certificate for {}, until {}, fingerprint {}\naction  write into kura.toml, and start kura again:\n\n[tls]\nport = 2762\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n",
                    made.names.join(", "),
                    made.until,
                    made.fingerprint,
                )),
                false => output::line(&format!(
                    "a certificate for {}, until {}\naction  write into kura.toml, and start kura again:\n\n[admin]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n",
                    made.names.join(", "),
                    made.until,
                )),
            }
        }
    }
    Ok(End::Ok)
}

pub(super) fn done(json: bool, said: &str) {
    match json {
        true => output::json(&serde_json::json!({ "version": 1, "done": said })),
        false => output::line(said),
    }
}

/// Nothing secret: neither hashes nor digests.
fn as_json(accounts: &Accounts) -> serde_json::Value {
    let users = accounts.users.iter().map(|user| {
        serde_json::json!({ "name": user.name, "read_only": user.read_only, "set_at": user.set_at })
    });
    let tokens = accounts.tokens.iter().map(|token| {
        serde_json::json!({ "name": token.name, "read_only": token.read_only, "made_at": token.made_at })
    });
    serde_json::json!({
        "version": 1,
        "users": users.collect::<Vec<_>>(),
        "tokens": tokens.collect::<Vec<_>>(),
    })
}

fn screen(accounts: &Accounts) -> String {
    let users = accounts.users.iter();
    let users = users.map(|user| ("user", &user.name, user.read_only, &user.set_at));
    let tokens = accounts.tokens.iter();
    let tokens = tokens.map(|token| ("token", &token.name, token.read_only, &token.made_at));
    let rows: Vec<Vec<String>> = users
        .chain(tokens)
        .map(|(kind, name, read_only, at)| {
            vec![
                kind.to_owned(),
                name.clone(),
                if read_only { "look" } else { "everything" }.to_owned(),
                at.get(..10).unwrap_or(at).to_owned(),
            ]
        })
        .collect();
    let answer = match accounts.users.is_empty() {
        true => {
            "nobody has a password: whoever works on this machine gets in\naction  kura admin password"
                .to_owned()
        }
        false => format!("{} users with a password", accounts.users.len()),
    };
    let header = ["KIND", "NAME", "MAY", "SINCE"];
    format!("{answer}\n{}", output::table(&header, &rows))
}

/// Twice from a terminal, without showing it; else the first line of standard input.
pub(super) fn password(user: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return line();
    }
    let first = hidden(&format!("password of {user}: "))?;
    match hidden("once more: ")? == first {
        true => Ok(first),
        false => Err("that was another one; nothing was changed".into()),
    }
}

fn line() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text)?;
    let text = text.trim_end_matches('\n').trim_end_matches('\r');
    Ok(text.to_owned())
}

fn hidden(question: &str) -> Result<String, Failure> {
    let mut errors = std::io::stderr();
    write!(errors, "{question}")?;
    errors.flush()?;
    let input = std::io::stdin();
    let before = termios::tcgetattr(&input)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    termios::tcsetattr(&input, OptionalActions::Flush, &silent)?;
    let text = line();
    termios::tcsetattr(&input, OptionalActions::Flush, &before)?;
    writeln!(errors)?;
    text
}
