//! Forwarding as a person and a peer see it.

use std::time::{Duration, Instant};

use kura::archive::{Archive, Mode};
use kura::audit::Who;
use kura::config::Config;
use kura::control::{self, Desk, Request, Response};
use kura::forward::{ForwardSaid, ForwardVerb, Item, PeerStatus};

use super::{Server, Settings};

/// How long anything that comes by itself may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Everything goes to these peers (AE title, port), a moment after the study is quiet; quick tries and probes.
pub fn settings(peers: &[(&str, u16)]) -> Settings {
    let mut settings = Settings::default();
    let to: Vec<String> = peers
        .iter()
        .map(|(title, _)| format!("{title:?}"))
        .collect();
    settings.extra = format!(
        "[forward]\nretry_seconds = 1\nretry_max_seconds = 4\nprobe_seconds = 1\n\
         [[forward.rule]]\nname = \"all\"\nto = [{}]\nquiet_seconds = 1\n",
        to.join(", ")
    );
    for (title, port) in peers {
        settings = settings.peer(title, *port);
    }
    settings
}

/// Asks the running server; one that reads in much at its start may not be there to be asked at once.
pub fn try_ask(server: &Server, verb: ForwardVerb) -> Result<ForwardSaid, String> {
    let begun = Instant::now();
    let response = loop {
        let response = control::ask(&server.state(), &Request::Forward(verb.clone()));
        match response.expect("the server answers") {
            None if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            response => break response,
        }
    };
    match response {
        Some(Response::Forward(said)) => Ok(*said),
        Some(Response::Failed { reason }) => Err(reason),
        other => panic!("{other:?}"),
    }
}

/// A verb that must succeed; the sentence that it answers.
pub fn does(server: &Server, verb: ForwardVerb) -> String {
    match try_ask(server, verb) {
        Ok(ForwardSaid::Done(said)) => said,
        other => panic!("{other:?}"),
    }
}

pub fn list(server: &Server) -> (Vec<Item>, Vec<PeerStatus>) {
    let verb = ForwardVerb::List {
        peer: None,
        all: true,
        state: None,
    };
    items(try_ask(server, verb).expect("a list"))
}

fn items(said: ForwardSaid) -> (Vec<Item>, Vec<PeerStatus>) {
    match said {
        ForwardSaid::Items { items, peers, .. } => (items, peers),
        other => panic!("{other:?}"),
    }
}

/// What the outbox of a server that does not run says.
pub fn list_stopped(server: &Server) -> Vec<Item> {
    let config = Config::load(Some(&server.config())).expect("kura.toml");
    let archive = Archive::open(&config, Mode::Existing).expect("the archive");
    let desk = Desk::of(std::sync::Arc::new(archive), &config).expect("the outbox");
    let verb = ForwardVerb::List {
        peer: None,
        all: true,
        state: None,
    };
    match control::answer(&desk, &Who::here(), Request::Forward(verb)) {
        Response::Forward(said) => items(*said).0,
        other => panic!("{other:?}"),
    }
}

/// The item of a study and a peer, if there is one.
pub fn item(server: &Server, peer: &str, study: &str) -> Option<Item> {
    let (items, _) = list(server);
    let mut items = items.into_iter();
    items.find(|item| item.peer == peer && item.study_instance_uid == study)
}

/// Waits until it is so, and returns it.
pub fn wait_for(server: &Server, peer: &str, study: &str, is: impl Fn(&Item) -> bool) -> Item {
    let mut last = None;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        last = item(server, peer, study);
        if let Some(item) = last.as_ref().filter(|item| is(item)) {
            return item.clone();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("after {PATIENCE:?} {last:?}");
}

pub fn wait_for_peer(server: &Server, peer: &str, is: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
    let mut last = None;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let (_, peers) = list(server);
        last = peers.into_iter().find(|status| status.peer == peer);
        if let Some(status) = last.as_ref().filter(|status| is(status)) {
            return status.clone();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("after {PATIENCE:?} {last:?}");
}

/// Waits until it is so.
pub fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
