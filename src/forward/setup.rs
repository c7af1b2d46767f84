//! Peers and rules by command: into the configuration file, and in effect at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::config::edit::{self, PeerChange};
use crate::config::{Config, Forward, ForwardRule, PeerEntry, Peers};

use super::Forwarder;
use super::rules::Rules;

/// `kura peer …`, `kura forward rules`, `add-rule` and `remove-rule`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SetupVerb {
    Show,
    /// Or changes the one of that AE title.
    AddPeer {
        /// `AE@HOST:PORT`
        peer: String,
        associations: Option<usize>,
        fuzzy_names: Option<bool>,
        commitment: Option<bool>,
        #[serde(default)]
        uncompressed: Option<bool>,
        #[serde(default)]
        tls: Option<bool>,
        #[serde(default)]
        tls_name: Option<String>,
        #[serde(default)]
        tls_fingerprint: Option<String>,
    },
    RemovePeer {
        ae_title: String,
    },
    AddRule {
        rule: Box<ForwardRule>,
    },
    RemoveRule {
        name: String,
    },
}

/// What is in effect.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Shown {
    pub peers: Vec<ShownPeer>,
    pub rules: Vec<ForwardRule>,
    /// AE title of the peer that gets what no rule takes.
    pub default: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ShownPeer {
    pub ae_title: String,
    pub host: String,
    pub port: u16,
    pub associations: usize,
    pub fuzzy_names: bool,
    pub commitment: bool,
    #[serde(default)]
    pub uncompressed: bool,
    #[serde(default)]
    pub tls: bool,
    /// Names of the rules that send to it.
    pub rules: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SetupSaid {
    Shown(Shown),
    /// Done; what it means, in a sentence.
    Done(String),
}

/// Another configuration, looked at.
pub struct Ready {
    forward: Forward,
    peers: Vec<PeerEntry>,
    rules: Rules,
}

/// What of the configuration is changed while the server runs.
pub struct Setup {
    file: Option<PathBuf>,
    peers: Peers,
    /// Held while the file is changed, so that two commands do not undo each other.
    forward: Mutex<Forward>,
    /// `None`: no server runs; the next one reads the file.
    forwarder: Option<Arc<Forwarder>>,
}

impl Setup {
    pub fn of(config: &Config, forwarder: Option<Arc<Forwarder>>) -> Setup {
        Setup {
            file: config.file.clone(),
            peers: config.peers.clone(),
            forward: Mutex::new(config.forward.clone()),
            forwarder,
        }
    }

    /// The error is a sentence.
    pub fn verb(&self, verb: SetupVerb) -> Result<SetupSaid, String> {
        let said = match verb {
            SetupVerb::Show => return Ok(SetupSaid::Shown(self.shown())),
            SetupVerb::AddPeer {
                peer,
                associations,
                fuzzy_names,
                commitment,
                uncompressed,
                tls,
                tls_name,
                tls_fingerprint,
            } => {
                let expected = "expected AE@HOST:PORT, such as HOROS@192.168.1.20:11112";
                let entry: PeerEntry = peer
                    .parse()
                    .map_err(|reason| format!("{peer}: {reason}; {expected}"))?;
                let change = PeerChange {
                    peer: entry,
                    associations,
                    fuzzy_names,
                    commitment,
                    uncompressed,
                    tls,
                    tls_name,
                    tls_fingerprint,
                };
                self.change(&mut |text| edit::with_peer(text, &change), None, None)?;
                let peer = &change.peer;
                format!(
                    "{} is a peer, at {}:{}",
                    peer.ae_title, peer.host, peer.port
                )
            }
            SetupVerb::RemovePeer { ae_title } => {
                self.is_not_used(&ae_title)?;
                let known = self.peers.get(&ae_title);
                let mut edit = |text: &str| {
                    let left = edit::without_peer(text, &ae_title)?;
                    left.ok_or_else(|| match &known {
                        Some(_) => format!(
                            "{ae_title} was given when the server was started and is not in its file"
                        ),
                        None => format!("there is no peer {ae_title}; see: kura peer list"),
                    })
                };
                self.change(&mut edit, Some(&ae_title), None)?;
                format!("{} is no peer any more", ae_title.trim())
            }
            SetupVerb::AddRule { rule } => {
                let same = |other: &ForwardRule| other.name.eq_ignore_ascii_case(&rule.name);
                if self.forward().rules.iter().any(same) {
                    let name = &rule.name;
                    return Err(format!(
                        "there is a rule {name}; to replace it, first: kura forward remove-rule {name}"
                    ));
                }
                let name = Some(rule.name.as_str());
                self.change(&mut |text| edit::with_rule(text, &rule), None, name)?;
                format!("{} go to {} now: {rule}", rule.name, rule.to.join(", "))
            }
            SetupVerb::RemoveRule { name } => {
                let mut edit = |text: &str| {
                    let left = edit::without_rule(text, &name)?;
                    left.ok_or_else(|| format!("there is no rule {name}; see: kura forward rules"))
                };
                self.change(&mut edit, None, None)?;
                format!("rule {name} is gone")
            }
        };
        Ok(SetupSaid::Done(match self.forwarder {
            Some(_) => said,
            None => format!("{said}; no server runs, the next start reads it"),
        }))
    }

    /// Writes the file, and puts in effect what of it can change while the server runs. `without`: the AE title of a peer
    /// that goes; `with`: the name of a rule that comes, whose map must be readable.
    fn change(
        &self,
        edit: &mut dyn FnMut(&str) -> Result<String, String>,
        without: Option<&str>,
        with: Option<&str>,
    ) -> Result<(), String> {
        let file = self.file.as_deref().ok_or(
            "there is no configuration file to write it into; make one (kura init), and start the server with it",
        )?;
        let unchanged = |reason: String| format!("{reason}; nothing was changed");
        let mut now = self.forward();
        let (forward, peers, rules) = edit::change(
            file,
            |text| edit(text),
            |config| {
                let mut peers = config.peers.all();
                // Those that were given on the command line are in no file.
                for peer in self.peers.all() {
                    let title = peer.ae_title.as_str();
                    let goes = without.is_some_and(|without| peer.is(without));
                    if !goes && !peers.iter().any(|other| other.is(title)) {
                        peers.push(peer);
                    }
                }
                let rules = Rules::of(config)?;
                if let Some((_, reason)) = rules.held().find(|(rule, _)| Some(*rule) == with) {
                    return Err(reason.to_owned());
                }
                Ok((config.forward.clone(), peers, rules))
            },
        )
        .map_err(unchanged)?;
        *now = forward;
        self.peers.set(peers);
        match &self.forwarder {
            Some(forwarder) => forwarder.set_rules(rules).map_err(|error| {
                format!("it is written down, but in effect only after a start: {error}")
            }),
            None => Ok(()),
        }
    }

    /// Looks at what this configuration sends where, and changes nothing. The error is a sentence.
    pub fn ready(config: &Config, peers: Vec<PeerEntry>) -> Result<Ready, String> {
        let rules = Rules::between(&config.forward, peers.clone())?;
        let forward = config.forward.clone();
        Ok(Ready {
            forward,
            peers,
            rules,
        })
    }

    /// From now on this. Each line of the answer says what is another now.
    pub fn take(&self, ready: Ready) -> Result<Vec<String>, String> {
        let mut now = self.forward();
        let mut changed = changed_peers(&self.peers.all(), &ready.peers);
        changed.extend(changed_rules(&now.rules, &ready.forward.rules));
        *now = ready.forward;
        self.peers.set(ready.peers);
        if let Some(forwarder) = &self.forwarder {
            forwarder.set_config(now.clone());
            let set = forwarder.set_rules(ready.rules);
            set.map_err(|error| format!("the rules are in effect only after a start: {error}"))?;
        }
        Ok(changed)
    }

    /// Maps may have got another line since. The error is a sentence.
    pub fn read_maps_again(&self) -> Result<(), String> {
        let forward = self.forward();
        let has_map = |rule: &ForwardRule| rule.rewrite.as_ref().is_some_and(|r| r.map.is_some());
        match &self.forwarder {
            Some(forwarder) if forward.rules.iter().any(has_map) => {
                let rules = Rules::between(&forward, self.peers.all())?;
                forwarder
                    .set_rules(rules)
                    .map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// A peer that something goes to stays.
    fn is_not_used(&self, ae_title: &str) -> Result<(), String> {
        let forward = self.forward();
        let title = ae_title.trim();
        let is = |other: &str| other.trim().eq_ignore_ascii_case(title);
        if let Some(rule) = forward
            .rules
            .iter()
            .find(|rule| rule.to.iter().any(|to| is(to)))
        {
            let name = &rule.name;
            return Err(format!(
                "rule {name} sends to {title}; first: kura forward remove-rule {name}"
            ));
        }
        match forward.default.as_deref().is_some_and(is) {
            true => Err(format!(
                "{title} gets what no rule takes ([forward] default in the configuration); it stays"
            )),
            false => Ok(()),
        }
    }

    fn shown(&self) -> Shown {
        let forward = self.forward();
        let of = |peer: &PeerEntry| {
            let sends = |rule: &&ForwardRule| rule.to.iter().any(|to| peer.is(to));
            let rules = forward.rules.iter().filter(sends);
            rules.map(|rule| rule.name.clone()).collect()
        };
        let peers = self.peers.all().into_iter();
        Shown {
            peers: peers
                .map(|peer| ShownPeer {
                    rules: of(&peer),
                    ae_title: peer.ae_title.as_str().to_owned(),
                    host: peer.host,
                    port: peer.port,
                    associations: peer.associations,
                    fuzzy_names: peer.fuzzy_names,
                    commitment: peer.commitment,
                    uncompressed: peer.uncompressed,
                    tls: peer.tls.is_some(),
                })
                .collect(),
            rules: forward.rules.clone(),
            default: forward.default.clone(),
        }
    }

    fn forward(&self) -> std::sync::MutexGuard<'_, Forward> {
        self.forward
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn changed_peers(old: &[PeerEntry], new: &[PeerEntry]) -> Vec<String> {
    let known =
        |peers: &[PeerEntry], title: &str| peers.iter().find(|peer| peer.is(title)).cloned();
    let mut lines = Vec::new();
    for peer in new {
        let title = peer.ae_title.as_str();
        let at = format!("{}:{}", peer.host, peer.port);
        match known(old, title) {
            None => lines.push(format!("peer {title}: new, at {at}")),
            Some(was) if was != *peer => {
                lines.push(format!("peer {title}: changed, at {at}"));
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().map(|peer| peer.ae_title.as_str());
    let gone = gone.filter(|title| known(new, title).is_none());
    lines.extend(gone.map(|title| format!("peer {title}: gone")));
    lines
}

fn changed_rules(old: &[ForwardRule], new: &[ForwardRule]) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in new {
        let name = &rule.name;
        match old.iter().find(|other| other.name == *name) {
            None => lines.push(format!("forward.rule {name}: new")),
            Some(was) if was != rule => lines.push(format!("forward.rule {name}: changed")),
            Some(_) => {}
        }
    }
    let gone = old.iter().map(|rule| &rule.name);
    let gone = gone.filter(|name| !new.iter().any(|rule| rule.name == **name));
    lines.extend(gone.map(|name| format!("forward.rule {name}: gone")));
    lines
}
