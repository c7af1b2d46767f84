//! `[notices]`: who is told when the state changes, and every day.

use std::path::PathBuf;

use jiff::civil::Time;
use serde::Deserialize;

/// Without a way nobody is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// Program and arguments; the text comes on its standard input.
    pub command: Vec<String>,
    /// Addresses.
    pub mail_to: Vec<String>,
    /// Address of the sender; absent: the one that sendmail gives.
    pub mail_from: Option<String>,
    pub sendmail: PathBuf,
    /// Gets a JSON object by POST.
    pub webhook: Option<String>,
    /// Local time of the daily summary, HH:MM; absent: none.
    pub daily: Option<String>,
    pub language: NoticeLanguage,
    /// A change is told when it has lasted so long.
    pub settle_seconds: u64,
    /// Changes told in an hour at most.
    pub per_hour: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum NoticeLanguage {
    #[default]
    #[serde(rename = "en")]
    English,
    #[serde(rename = "ja")]
    Japanese,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices {
            command: Vec::new(),
            mail_to: Vec::new(),
            mail_from: None,
            sendmail: "/usr/sbin/sendmail".into(),
            webhook: None,
            daily: None,
            language: NoticeLanguage::English,
            settle_seconds: 120,
            per_hour: 6,
        }
    }
}

/// Longer and a change would be told too late for anybody.
const SETTLE_SECONDS_MAX: u64 = 24 * 3_600;
const PER_HOUR_MAX: usize = 60;

impl Notices {
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |reason: String| Err(format!("[notices] {reason}"));
        for address in self.mail_to.iter().chain(&self.mail_from) {
            // It stands in a header.
            let plain = |c: char| !c.is_control() && !c.is_whitespace() && !",;<>\"".contains(c);
            if !address.contains('@') || address.starts_with('-') || !address.chars().all(plain) {
                return wrong(format!(
                    "{address:?} is not an address such as admin@example.jp"
                ));
            }
        }
        if let Some(webhook) = &self.webhook
            && !webhook.starts_with("https://")
            && !webhook.starts_with("http://")
        {
            return wrong("webhook begins with https://, or http:// inside the house".to_owned());
        }
        if self.command.first().is_some_and(String::is_empty) {
            return wrong("command names no program".to_owned());
        }
        if let Some(daily) = &self.daily
            && self.daily_at().is_none()
        {
            return wrong(format!("daily = {daily:?}: a time, such as \"07:30\""));
        }
        if self.settle_seconds > SETTLE_SECONDS_MAX {
            return wrong(format!("settle_seconds: at most {SETTLE_SECONDS_MAX}"));
        }
        if !(1..=PER_HOUR_MAX).contains(&self.per_hour) {
            return wrong(format!("per_hour: 1 to {PER_HOUR_MAX}"));
        }
        Ok(())
    }

    /// When the daily summary is due.
    pub fn daily_at(&self) -> Option<Time> {
        let (hours, minutes) = self.daily.as_deref()?.split_once(':')?;
        Time::new(hours.parse().ok()?, minutes.parse().ok()?, 0, 0).ok()
    }

    /// Somebody is told.
    pub fn is_on(&self) -> bool {
        !self.command.is_empty() || !self.mail_to.is_empty() || self.webhook.is_some()
    }
}

pub(super) const TEMPLATE: &str = r#"
[notices]
# Who is told when the state changes (ok, degraded, lost), and every day; never with data of patients. Try it out with:
# kura notices test
# A program with its arguments; the text comes on its standard input, KURA_STATE says the state.
# command = ["/usr/local/bin/tell-somebody"]
# Addresses, by the sendmail of this machine.
# mail_to = ["admin@example.jp"]
# mail_from = "kura@example.jp"
sendmail = "/usr/sbin/sendmail"
# An address that gets a JSON object ("text" is what a chat shows).
# webhook = "https://chat.example.jp/hooks/abc"
# Local time of the daily summary.
# daily = "07:30"
# "en" or "ja".
language = "en"
# A change is told when it has lasted so many seconds, and so many are told in an hour at most.
settle_seconds = 120
per_hour = 6
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_sent_is_refused() {
        let read = |text: &str| {
            let notices: Notices = toml::from_str(text).map_err(|error| error.to_string())?;
            notices.check().map(|()| notices)
        };
        for wrong in [
            "mail_to = [\"nobody\"]",
            "mail_to = [\"a@b\\nBcc: c@d\"]",
            "mail_to = [\"-oQ@b\"]",
            "webhook = \"ftp://a\"",
            "command = [\"\"]",
            "daily = \"25:00\"",
            "daily = \"noon\"",
            "per_hour = 0",
            "settle_seconds = 100000",
            "language = \"de\"",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let read = read("daily = \"07:30\"\nmail_to = [\"a@b\"]").unwrap();
        assert_eq!(read.daily_at().unwrap().to_string(), "07:30:00");
        assert!(read.is_on() && !Notices::default().is_on());
    }
}
