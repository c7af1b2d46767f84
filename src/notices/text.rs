//! The words of a notice, English and Japanese.

use super::{Came, Kind, Notice, Seen, Source};
use crate::config::{NoticeLanguage as Language, Notices};

/// What is to be done, listed at most; the status has all of it.
const ACTIONS_MAX: usize = 20;

fn say(language: Language, english: &'static str, japanese: &'static str) -> &'static str {
    match language {
        Language::English => english,
        Language::Japanese => japanese,
    }
}

fn state_word(language: Language, state: &str) -> &str {
    match (language, state) {
        (Language::Japanese, "ok") => "正常",
        (Language::Japanese, "degraded") => "要対応",
        (Language::Japanese, "lost") => "画像の喪失あり",
        (_, other) => other,
    }
}

fn meaning(language: Language, state: &str) -> &'static str {
    match state {
        "ok" => say(
            language,
            "Everything is well again.",
            "すべて正常に戻りました。",
        ),
        "lost" => say(
            language,
            "Some images cannot be read from any disk.",
            "どのディスクからも読めない画像があります。",
        ),
        _ => say(
            language,
            "All images can be read, but a person is needed.",
            "画像はすべて読めますが、対応が必要です。",
        ),
    }
}

pub fn state(seen: &Seen, was: &str, config: &Notices, source: &dyn Source) -> Notice {
    let language = config.language;
    let (is, was) = (state_word(language, &seen.state), state_word(language, was));
    let title = &seen.ae_title;
    let subject = match language {
        Language::English => format!("Kura {title}: {is} (was {was})"),
        Language::Japanese => format!("Kura {title}: {is}(以前: {was})"),
    };
    let mut text = format!("{}\n", meaning(language, &seen.state));
    text.push_str(&to_do(seen, language, source));
    notice(Kind::State, &seen.state, subject, text)
}

pub fn daily(seen: &Seen, came: &Came, config: &Notices, source: &dyn Source) -> Notice {
    let language = config.language;
    let is = state_word(language, &seen.state);
    let title = &seen.ae_title;
    let subject = match language {
        Language::English => format!("Kura {title}: {is}, summary of the day"),
        Language::Japanese => format!("Kura {title}: {is}、日次まとめ"),
    };
    let mut text = to_do(seen, language, source);
    text.push_str(&match language {
        Language::English => english(seen, came),
        Language::Japanese => japanese(seen, came),
    });
    notice(Kind::Daily, &seen.state, subject, text)
}

pub fn test(ae_title: &str, config: &Notices) -> Notice {
    let (subject, text) = match config.language {
        Language::English => (
            format!("Kura {ae_title}: a test"),
            "This is a test. Who reads it is told when the state of the archive changes.\n",
        ),
        Language::Japanese => (
            format!("Kura {ae_title}: テスト"),
            "これはテストです。画像サーバーの状態が変わると、ここに通知されます。\n",
        ),
    };
    notice(Kind::Test, "", subject, text.to_owned())
}

fn notice(kind: Kind, state: &str, subject: String, text: String) -> Notice {
    Notice {
        kind,
        state: state.to_owned(),
        subject: plain(&subject).replace('\n', " "),
        text: plain(&text),
    }
}

/// AE titles and names of volumes come from people.
fn plain(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' => '\n',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(plain).collect()
}

fn to_do(seen: &Seen, language: Language, source: &dyn Source) -> String {
    if seen.actions.is_empty() {
        return format!(
            "{}\n",
            say(
                language,
                "Nothing is to be done.",
                "必要な対応はありません。"
            )
        );
    }
    let mut text = format!("{}\n", say(language, "What to do:", "必要な対応:"));
    for action in seen.actions.iter().take(ACTIONS_MAX) {
        text.push_str(&format!("- {}\n", source.translated(action, language)));
    }
    if seen.actions.len() > ACTIONS_MAX {
        let more = seen.actions.len() - ACTIONS_MAX;
        text.push_str(&match language {
            Language::English => format!("- and {more} more: kura status\n"),
            Language::Japanese => format!("- ほか {more} 件: kura status\n"),
        });
    }
    text
}

/// Decimal, as printed on the disk.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let count = count as f64;
    match UNITS.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.2} {unit}", count / size),
        None => format!("{count} B"),
    }
}

fn english(seen: &Seen, came: &Came) -> String {
    let mut lines = vec![format!(
        "Came in 24 hours: {} images of {} studies, {}; refused: {}",
        came.instances_count,
        came.studies_count,
        bytes(came.bytes),
        came.refused_count
    )];
    lines.push(format!(
        "In the archive: {} images of {} studies, {}",
        seen.instances_count,
        seen.studies_count,
        bytes(seen.bytes)
    ));
    if let Some((two, one, none)) = seen.copies {
        lines.push(format!(
            "Copies: {two} images have two, {one} one, {none} none that can be read"
        ));
    }
    if let Some(at) = &seen.last_mirror {
        lines.push(format!("Second copies last made: {at}"));
    }
    if let Some(at) = &seen.last_scrub {
        lines.push(format!(
            "Everything was last read again by {at}; bad: {}",
            seen.bad_count
        ));
    }
    for (peer, waiting, failed) in &seen.queues {
        lines.push(format!(
            "To {peer}: {waiting} studies wait, {failed} failed"
        ));
    }
    lines.push(match &seen.full_on {
        Some(day) => format!("Room: {}; full on {day} as it goes", bytes(seen.room_bytes)),
        None => format!("Room: {}", bytes(seen.room_bytes)),
    });
    lines.join("\n") + "\n"
}

fn japanese(seen: &Seen, came: &Came) -> String {
    let mut lines = vec![format!(
        "24時間の受信: 画像 {} 枚({} 検査)、{}。受信拒否: {}",
        came.instances_count,
        came.studies_count,
        bytes(came.bytes),
        came.refused_count
    )];
    lines.push(format!(
        "保管中: 画像 {} 枚({} 検査)、{}",
        seen.instances_count,
        seen.studies_count,
        bytes(seen.bytes)
    ));
    if let Some((two, one, none)) = seen.copies {
        lines.push(format!(
            "コピー: 2つある画像 {two}、1つだけ {one}、読めるものがない {none}"
        ));
    }
    if let Some(at) = &seen.last_mirror {
        lines.push(format!("最後のミラー: {at}"));
    }
    if let Some(at) = &seen.last_scrub {
        lines.push(format!(
            "全データの再読込み確認: {at}、不良: {}",
            seen.bad_count
        ));
    }
    for (peer, waiting, failed) in &seen.queues {
        lines.push(format!(
            "{peer} への転送: 待ち {waiting} 検査、失敗 {failed} 検査"
        ));
    }
    lines.push(match &seen.full_on {
        Some(day) => format!("空き容量: {}、満杯の見込み: {day}", bytes(seen.room_bytes)),
        None => format!("空き容量: {}", bytes(seen.room_bytes)),
    });
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    struct AsItIs;

    impl Source for AsItIs {
        fn look(&self) -> Option<Seen> {
            None
        }

        fn came(&self) -> Came {
            Came::default()
        }

        fn translated(&self, sentence: &str, _: Language) -> String {
            sentence.to_owned()
        }
    }

    #[test]
    fn both_languages_say_the_same_numbers() {
        let seen = Seen {
            ae_title: "KURA".to_owned(),
            state: "degraded".to_owned(),
            actions: vec!["volume C is away\r\nBcc: x".to_owned()],
            copies: Some((11, 22, 33)),
            queues: vec![("HOROS".to_owned(), 44, 55)],
            full_on: Some("2027-01-31".to_owned()),
            room_bytes: 66_000_000_000,
            ..Seen::default()
        };
        let came = Came {
            instances_count: 77,
            ..Came::default()
        };
        for language in [Language::English, Language::Japanese] {
            let config = Notices {
                language,
                ..Notices::default()
            };
            let notice = daily(&seen, &came, &config, &AsItIs);
            for number in ["11", "22", "33", "44", "55", "66.00 GB", "77", "2027-01-31"] {
                assert!(notice.text.contains(number), "{number}: {}", notice.text);
            }
            assert!(!notice.text.contains('\r'), "{}", notice.text);
            let change = state(&seen, "ok", &config, &AsItIs);
            assert!(!change.subject.contains('\n') && change.text.contains("volume C"));
        }
    }
}
