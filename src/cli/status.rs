//! `kura status`: the answer first, then what to do, then the table.

use super::output;
use super::{End, Failure};
use crate::archive::Status;
use crate::config::Config;
use crate::control::{Request, Response};

pub fn run(config: &Config, json: bool) -> Result<End, Failure> {
    let (response, running) = super::ask(config, Request::Status)?;
    let status = match response {
        Response::Status(status) => status,
        Response::Failed { reason } => return Err(reason.into()),
        _ => return Err("the server answered something else".into()),
    };
    if json {
        let mut value = serde_json::to_value(&*status)?;
        value["running"] = running.into();
        output::json(&value);
    } else {
        output::line(&screen(&status, running));
    }
    Ok(match status.state.as_str() {
        "ok" => End::Ok,
        "lost" => End::Lost,
        _ => End::Degraded,
    })
}

fn screen(status: &Status, running: bool) -> String {
    let index = &status.index;
    let mut text = format!(
        "state   {}: {} instances in {} studies, {}\n",
        status.state,
        index.instances_count,
        index.studies_count,
        output::bytes(index.instances_bytes),
    );
    if !running {
        text.push_str("server  not running; start it with: kura serve\n");
    }
    for action in &status.actions {
        text.push_str(&format!("action  {action}\n"));
    }
    if index.variants_count > 0 {
        text.push_str(&format!(
            "note    {} variants in another transfer syntax are kept\n",
            index.variants_count
        ));
    }
    for volume in &status.volumes {
        for note in &volume.notes {
            text.push_str(&format!("note    volume {}: {note}\n", volume.name));
        }
    }
    let rows: Vec<Vec<String>> = status
        .volumes
        .iter()
        .map(|volume| {
            vec![
                volume.name.clone(),
                volume.role.clone(),
                volume.state.clone(),
                volume.used_bytes.map_or("-".to_owned(), output::bytes),
                volume.free_bytes.map_or("-".to_owned(), output::bytes),
                volume.path.clone(),
            ]
        })
        .collect();
    text.push_str(&output::table(
        &["VOLUME", "ROLE", "STATE", "USED", "FREE", "PATH"],
        &rows,
    ));
    if index.conflicts_count > 0 {
        text.push_str(&format!(
            "\n{} conflicts: other data came under a UID that is taken; both are kept\n",
            index.conflicts_count
        ));
        for conflict in &status.conflicts {
            text.push_str(&format!(
                "  {}\n",
                output::plain(conflict["sop_instance_uid"].as_str().unwrap_or("?"))
            ));
        }
    }
    if !status.quarantine.is_empty() {
        text.push_str(&format!(
            "\n{} refused instances in quarantine:\n",
            status.quarantine.len()
        ));
        for report in &status.quarantine {
            let field = |name: &str| output::plain(report[name].as_str().unwrap_or("?"));
            text.push_str(&format!(
                "  {} from {}: {}\n",
                field("at"),
                field("calling_ae_title"),
                field("reason")
            ));
        }
    }
    text
}
