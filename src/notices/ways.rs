//! Program, mail, webhook. None may hold up the others for long: each ends at its bound.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Notice;
use crate::config::Notices;

/// So long a program, a mail program or a webhook gets.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Of what a program or a peer says of its failure, characters.
const REASON_MAX: usize = 200;
/// Bytes of text in an encoded word, so that it has at most 75 characters (RFC 2047, 2).
const WORD_BYTES: usize = 42;

pub fn configured(config: &Notices) -> Vec<&'static str> {
    let mut ways = Vec::new();
    if !config.command.is_empty() {
        ways.push("command");
    }
    if !config.mail_to.is_empty() {
        ways.push("mail");
    }
    if config.webhook.is_some() {
        ways.push("webhook");
    }
    ways
}

/// The error is why, in words.
pub fn send(way: &str, notice: &Notice, config: &Notices) -> Result<(), String> {
    match (way, &config.webhook) {
        ("command", _) => {
            let (program, arguments) = config.command.split_first().ok_or("no program")?;
            let mut command = Command::new(program);
            command.args(arguments);
            let text = format!("{}\n\n{}", notice.subject, notice.text);
            run(command, notice, text.as_bytes())
        }
        ("mail", _) => {
            let mut command = Command::new(&config.sendmail);
            // A line with a dot alone is no end; who gets it stands in the head.
            command.args(["-i", "-t"]);
            if let Some(from) = &config.mail_from {
                command.args(["-f", from]);
            }
            run(command, notice, mail(notice, config).as_bytes())
        }
        (_, Some(webhook)) => post(webhook, notice),
        _ => Err("it is not configured".to_owned()),
    }
}

fn run(mut command: Command, notice: &Notice, text: &[u8]) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .env("KURA_NOTICE", notice.kind.as_str())
        .env("KURA_STATE", &notice.state)
        .env("KURA_SUBJECT", &notice.subject)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // What it starts ends with it.
        .process_group(0);
    let begun = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut input = child.stdin.take();
    let text = text.to_vec();
    // One that does not read must not keep us: a text longer than a pipe would.
    let writing = std::thread::Builder::new().spawn(move || {
        if let Some(input) = &mut input {
            // One that ends without reading decides by its exit code.
            drop(input.write_all(&text));
        }
    });
    drop(writing.map_err(|error| format!("{program}: {error}"))?);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{program} ended with {status}")),
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(POLL),
            Ok(None) => {
                end(&mut child);
                let seconds = PATIENCE.as_secs();
                return Err(format!(
                    "{program} did not end within {seconds} s and was ended"
                ));
            }
            Err(error) => {
                end(&mut child);
                return Err(format!("{program}: {error}"));
            }
        }
    }
}

/// With all that it started.
fn end(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    drop(child.kill());
    drop(child.wait());
}

fn mail(notice: &Notice, config: &Notices) -> String {
    let mut text = format!("To: {}\n", config.mail_to.join(", "));
    if let Some(from) = &config.mail_from {
        text.push_str(&format!("From: Kura <{from}>\n"));
    }
    text.push_str(&format!("Subject: {}\n", header(&notice.subject)));
    // RFC 3834: nobody who is on holiday answers.
    text.push_str("Auto-Submitted: auto-generated\nMIME-Version: 1.0\n");
    text.push_str("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n");
    let body = BASE64.encode(&notice.text);
    for line in body.as_bytes().chunks(76) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text
}

/// As it may stand in a header: RFC 2047 where it is not ASCII, each encoded word of whole characters.
fn header(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        let word = words.last_mut().expect("one at least");
        match word.len() + c.len_utf8() > WORD_BYTES {
            true => words.push(c.to_string()),
            false => word.push(c),
        }
    }
    let words = words
        .iter()
        .map(|word| format!("=?UTF-8?B?{}?=", BASE64.encode(word)));
    words.collect::<Vec<_>>().join("\n ")
}

fn post(webhook: &str, notice: &Notice) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .user_agent("kura")
        .build()
        .into();
    let body = serde_json::json!({
        "version": 1,
        "notice": notice.kind.as_str(),
        "state": notice.state,
        "subject": notice.subject,
        "text": format!("{}\n{}", notice.subject, notice.text),
    });
    let sent = agent
        .post(webhook)
        .header("Content-Type", "application/json")
        .send(body.to_string());
    // The address may let in who knows it: it is not repeated.
    let reason = |error: ureq::Error| error.to_string().replace(webhook, "the webhook");
    sent.map(drop)
        .map_err(|error| reason(error).chars().take(REASON_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_another_script_is_made_of_short_words_of_whole_characters() {
        assert_eq!(header("Kura A: ok"), "Kura A: ok");
        let text = "Kura: 要対応(以前: 正常)、日次まとめ、画像の喪失あり、どのディスクからも";
        let mut read = Vec::new();
        for line in header(text).split("\n ") {
            assert!(line.len() <= 75, "{line}");
            let word = line
                .strip_prefix("=?UTF-8?B?")
                .unwrap()
                .strip_suffix("?=")
                .unwrap();
            let bytes = BASE64.decode(word).unwrap();
            assert!(std::str::from_utf8(&bytes).is_ok(), "{line}");
            read.extend(bytes);
        }
        assert_eq!(String::from_utf8(read).unwrap(), text);
    }
}
