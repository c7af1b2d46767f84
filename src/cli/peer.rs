//! `kura peer …`: DICOM nodes that something may be sent to.

use super::output;
use super::{End, Failure};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::forward::setup::{Setup, SetupSaid, SetupVerb, Shown, ShownPeer};

#[derive(clap::Args)]
pub struct Peer {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Who they are, and which rules send to them
    List,
    /// Write it into kura.toml, in effect at once; one of the same AE title is changed
    Add {
        /// AE@HOST:PORT, such as HOROS@192.168.1.20:11112
        peer: String,
        /// Associations to it at the same moment, for what goes to it by itself [default: 2]
        #[arg(long, value_name = "COUNT")]
        associations: Option<usize>,
        /// Its queries find person names whatever the order of their parts
        #[arg(long)]
        fuzzy_names: Option<bool>,
        /// Ask it, after a study went there by itself, whether it keeps it
        #[arg(long, num_args = 0..=1, default_missing_value = "true")]
        commitment: Option<bool>,
        /// Compressed images go to it uncompressed where that can be done
        #[arg(long)]
        uncompressed: Option<bool>,
        /// It is called over TLS
        #[arg(long, num_args = 0..=1, default_missing_value = "true")]
        tls: Option<bool>,
        /// Name that its certificate has, where that is not HOST; "" for none
        #[arg(long, value_name = "NAME")]
        tls_name: Option<String>,
        /// SHA-256 of the one certificate that is taken, for one that no CA has signed; "" for none
        #[arg(long, value_name = "HEX")]
        tls_fingerprint: Option<String>,
    },
    /// Take it out of kura.toml, in effect at once
    Remove {
        /// AE title
        peer: String,
    },
}

pub fn run(verb: Peer, config: &Config, json: bool) -> Result<End, Failure> {
    let verb = match verb.action {
        Action::List => {
            let shown = shown(config)?;
            match json {
                true => output::json(
                    &serde_json::json!({ "version": 1, "peers": shown.peers, "default": shown.default }),
                ),
                false => output::line(&screen(&shown)),
            }
            return Ok(End::Ok);
        }
        Action::Add {
            peer,
            associations,
            fuzzy_names,
            commitment,
            uncompressed,
            tls,
            tls_name,
            tls_fingerprint,
        } => SetupVerb::AddPeer {
            peer,
            associations,
            fuzzy_names,
            commitment,
            uncompressed,
            tls,
            tls_name,
            tls_fingerprint,
        },
        Action::Remove { peer } => SetupVerb::RemovePeer { ae_title: peer },
    };
    done(config, verb, json)
}

/// What is in effect.
pub fn shown(config: &Config) -> Result<Shown, Failure> {
    match ask(config, SetupVerb::Show)? {
        SetupSaid::Shown(shown) => Ok(shown),
        SetupSaid::Done(_) => Err("the server answered something else".into()),
    }
}

/// Changes it, and says what that means.
pub fn done(config: &Config, verb: SetupVerb, json: bool) -> Result<End, Failure> {
    match ask(config, verb)? {
        SetupSaid::Done(said) if json => {
            output::json(&serde_json::json!({ "version": 1, "done": said }));
        }
        SetupSaid::Done(said) => output::line(&output::plain(&said)),
        SetupSaid::Shown(_) => return Err("the server answered something else".into()),
    }
    Ok(End::Ok)
}

/// Of the running server; where none runs, of the file alone: no disk is needed for that.
fn ask(config: &Config, verb: SetupVerb) -> Result<SetupSaid, Failure> {
    let request = Request::Setup(verb.clone());
    let response = match control::ask(&config.state, &request)? {
        Some(response) => response,
        None => {
            let response = control::set_up(&Setup::of(config, None), verb);
            if request.is_a_change() {
                super::note(config, &request, response.outcome());
            }
            response
        }
    };
    match response {
        Response::Setup(said) => Ok(*said),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn screen(shown: &Shown) -> String {
    if shown.peers.is_empty() {
        return "no peers: nothing can be sent\naction  kura peer add AE@HOST:PORT\n".to_owned();
    }
    let header = ["PEER", "ADDRESS", "ASSOCIATIONS", "BY ITSELF"];
    let rows: Vec<_> = shown.peers.iter().map(|peer| row(peer, shown)).collect();
    format!("{} peers\n{}", rows.len(), output::table(&header, &rows))
}

fn row(peer: &ShownPeer, shown: &Shown) -> Vec<String> {
    let mut gets = peer.rules.clone();
    let default = shown.default.as_deref().unwrap_or_default();
    if default.trim().eq_ignore_ascii_case(&peer.ae_title) {
        gets.push("what no rule takes".to_owned());
    }
    let host = match peer.host.contains(':') {
        true => format!("[{}]", peer.host),
        false => peer.host.clone(),
    };
    vec![
        peer.ae_title.clone(),
        output::plain(&format!(
            "{host}:{}{}",
            peer.port,
            if peer.tls { " TLS" } else { "" }
        )),
        peer.associations.to_string(),
        match gets.is_empty() {
            true => "nothing".to_owned(),
            false => gets.join(", "),
        },
    ]
}
