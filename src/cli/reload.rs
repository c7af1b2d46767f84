//! `kura reload`

use std::path::Path;

use super::{End, Failure, output};
use crate::config::Config;
use crate::control::{self, Reloaded, Request, Response};

pub fn run(file: Option<&Path>, json: bool) -> Result<End, Failure> {
    let config = Config::load(file).map_err(|error| {
        let error = error.to_string();
        let reason = error.trim_end_matches("; nothing was started");
        format!("{reason}; nothing was changed, a running server goes on with what it has")
    })?;
    match control::ask(&config.state, &Request::Reload)? {
        Some(Response::Reloaded(reloaded)) => said(&reloaded, json),
        Some(Response::Failed { reason }) => Err(reason.into()),
        Some(_) => Err("the server answered something else".into()),
        // The file was read to come here: it is a configuration.
        None => {
            let state = config.state.display();
            let said = format!("no server runs on {state}; the next start reads the configuration");
            match json {
                true => output::json(&serde_json::json!({ "version": 1, "said": said })),
                false => output::line(&output::plain(&said)),
            }
            Ok(End::Ok)
        }
    }
}

fn said(reloaded: &Reloaded, json: bool) -> Result<End, Failure> {
    let Reloaded {
        file,
        changed,
        wants_restart,
    } = reloaded;
    if json {
        let mut value = serde_json::to_value(reloaded)?;
        value["version"] = 1.into();
        output::json(&value);
        return Ok(End::Ok);
    }
    let mut text = match (changed.len(), wants_restart.len()) {
        (0, 0) => format!("{} says what is in effect already\n", output::plain(file)),
        (0, _) => format!(
            "{} was read; nothing of it is in effect yet\n",
            output::plain(file)
        ),
        _ => format!("{} is in effect\n", output::plain(file)),
    };
    if !wants_restart.is_empty() {
        text.push_str("action   some of it wants a restart of the server\n");
    }
    for line in changed {
        text.push_str(&format!("changed  {}\n", output::plain(line)));
    }
    for line in wants_restart {
        text.push_str(&format!("restart  {}\n", output::plain(line)));
    }
    output::line(text.trim_end());
    Ok(End::Ok)
}
