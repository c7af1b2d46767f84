//! `kura notices`: who is told, and whether it arrives.

use super::{End, Failure, output};
use crate::config::Config;
use crate::control::{NoticesVerb, Request, Response};
use crate::notices::NoticesStatus;

#[derive(clap::Args)]
pub struct Notices {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Tell everybody now that this is a test
    Test,
}

pub fn run(verb: &Notices, config: &Config, json: bool) -> Result<End, Failure> {
    let verb = match verb.action {
        Some(Action::Test) => NoticesVerb::Test,
        None => NoticesVerb::Show,
    };
    let status = match super::ask(config, Request::Notices(verb))? {
        (Response::Notices(status), _) => status,
        (Response::Failed { reason }, _) => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    if json {
        let mut value = serde_json::to_value(&*status)?;
        value["version"] = 1.into();
        output::json(&value);
    } else {
        output::line(&screen(&status, verb));
    }
    let failed = status.ways.iter().any(|way| !way.failure.is_empty());
    Ok(match failed {
        true => End::Degraded,
        false => End::Ok,
    })
}

fn screen(status: &NoticesStatus, verb: NoticesVerb) -> String {
    if status.ways.is_empty() {
        return "notices  nobody is told: there is no command, mail_to or webhook in [notices] of kura.toml\n"
            .to_owned();
    }
    let failed = status.ways.iter().any(|way| !way.failure.is_empty());
    let mut text = match (failed, verb) {
        (true, _) => "notices  not every one arrives\n".to_owned(),
        (false, NoticesVerb::Test) => "notices  the test was sent\n".to_owned(),
        (false, NoticesVerb::Show) => "notices  as they should be\n".to_owned(),
    };
    for way in &status.ways {
        let at = way.at.as_deref().unwrap_or("not used yet");
        let failure = match way.failure.as_str() {
            "" => String::new(),
            failure => format!(": {}", output::plain(failure)),
        };
        text.push_str(&format!("{:8} {at}{failure}\n", way.way));
    }
    match status.told.as_str() {
        "" => {}
        told => text.push_str(&format!("told     {}\n", output::plain(told))),
    }
    match &status.daily {
        Some(daily) => text.push_str(&format!("daily    {}\n", output::plain(daily))),
        None => text.push_str("daily    no summary\n"),
    }
    text
}
