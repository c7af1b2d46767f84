//! `kura conflicts …`: what needs a person's decision, side by side, and the command that settles it.

use clap::Parser;

use super::find::keyword;
use super::output;
use super::remove::{Why, confirm, with_version};
use super::{Arguments, End, Failure, Verb};
use crate::archive::{
    Cause, Conflicts, ConflictsSaid, ConflictsVerb, Duplicate, MixedStudy, SplitSeries, TwoPeople,
};
use crate::config::Config;
use crate::control::{Request, Response};

#[derive(clap::Args)]
pub struct Settle {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// All of them, or one with every element that differs
    Show {
        /// Id as shown, or the UID or Patient ID
        id: Option<String>,
        /// Also those that are settled
        #[arg(long)]
        all: bool,
    },
    /// Answer that content, or make one person of several
    Prefer {
        id: String,
        /// Number of the content that is to be answered
        #[arg(long, value_name = "K")]
        content: Option<u32>,
        /// Study of the person who is right
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// Also when an image came to a study less than a minute ago
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        why: Why,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Do not keep that content, or (of people and studies) say that it is well as it is
    Discard {
        id: String,
        /// Number of the content that is not wanted
        #[arg(long, value_name = "K")]
        content: Option<u32>,
        #[command(flatten)]
        why: Why,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Take a settlement back
    Undo {
        /// Number of the change
        number: u64,
        #[command(flatten)]
        why: Why,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Rows of each kind on a screen; JSON has more.
const ROWS_MAX: usize = 20;

pub fn run(verb: Settle, config: &Config, json: bool) -> Result<End, Failure> {
    let (verb, yes, now) = match verb.action {
        Action::Show { id, all } => {
            let one = id.is_some();
            let verb = match id {
                Some(id) => ConflictsVerb::One { id },
                None => ConflictsVerb::Show { all },
            };
            return show(config, verb, one, json);
        }
        Action::Prefer {
            id,
            content,
            study,
            now,
            why,
            yes,
        } => {
            let cause = why.cause(None)?;
            let verb = ConflictsVerb::Prefer {
                id,
                content,
                study,
                cause,
            };
            (verb, yes, now)
        }
        Action::Discard {
            id,
            content,
            why,
            yes,
        } => {
            let cause = why.cause(None)?;
            (ConflictsVerb::Discard { id, content, cause }, yes, false)
        }
        Action::Undo { number, why, yes } => {
            let cause = why.cause(Some("taken back"))?;
            (ConflictsVerb::Undo { number, cause }, yes, false)
        }
    };
    let cause = match &verb {
        ConflictsVerb::Prefer { id, cause, .. } | ConflictsVerb::Discard { id, cause, .. } => {
            if !yes && !json {
                show(config, ConflictsVerb::One { id: id.clone() }, true, false)?;
            }
            cause.clone()
        }
        _ => Cause::default(),
    };
    // An amendment is shown, and asked for, by itself.
    if !yes && !matches!(&verb, ConflictsVerb::Prefer { content: None, .. }) {
        confirm("settle it")?;
    }
    match ask(config, verb)? {
        ConflictsSaid::Done { said, number } => {
            match json {
                true => output::json(
                    &serde_json::json!({ "version": 1, "done": said, "number": number }),
                ),
                false => output::line(&said),
            }
            Ok(End::Ok)
        }
        ConflictsSaid::Amend { amendments, .. } => {
            for arguments in amendments {
                amend(arguments, &cause, (now, yes), config, json)?;
            }
            Ok(End::Ok)
        }
        ConflictsSaid::List(_) => Err("the server answered something else".into()),
    }
}

/// As if it had been typed: what is shown, asked and refused is the same.
fn amend(
    arguments: Vec<String>,
    cause: &Cause,
    (now, yes): (bool, bool),
    config: &Config,
    json: bool,
) -> Result<End, Failure> {
    let mut typed = vec!["kura".to_owned(), "amend".to_owned()];
    typed.extend(arguments);
    // One word each: a reason may begin with a dash.
    typed.push(format!("--reason={}", cause.why));
    typed.push(format!("--who={}", cause.who));
    typed.extend(now.then(|| "--now".to_owned()));
    typed.extend(yes.then(|| "--yes".to_owned()));
    match Arguments::try_parse_from(typed)?.verb {
        Verb::Amend(verb) => super::amend::run(verb, config, json),
        _ => Err("the amendment is not understood; nothing was changed".into()),
    }
}

fn ask(config: &Config, verb: ConflictsVerb) -> Result<ConflictsSaid, Failure> {
    match super::ask(config, Request::Conflicts(verb))?.0 {
        Response::Conflicts(said) => Ok(*said),
        Response::Failed { reason } => Err(reason.into()),
        _ => Err("the server answered something else".into()),
    }
}

fn show(config: &Config, verb: ConflictsVerb, one: bool, json: bool) -> Result<End, Failure> {
    let ConflictsSaid::List(found) = ask(config, verb)? else {
        return Err("the server answered something else".into());
    };
    match json {
        true => output::json(&with_version(
            serde_json::to_value(&found).unwrap_or_default(),
        )),
        false => output::line(&screen(&found, one)),
    }
    let open =
        found.duplicates_count + found.patients_count + found.studies_count + found.series_count;
    Ok(match open > 0 && !one {
        true => End::Degraded,
        false => End::Ok,
    })
}

fn screen(found: &Conflicts, one: bool) -> String {
    let mut text = String::new();
    if !one {
        text.push_str(&format!(
            "{} duplicates, {} patient IDs with several people, {} studies with several patients, {} series in several studies; {} settled\n",
            found.duplicates_count,
            found.patients_count,
            found.studies_count,
            found.series_count,
            found.settled_count
        ));
        if found.variants_count > 0 {
            text.push_str(&format!(
                "{} instances are kept in several transfer syntaxes: no conflict\n",
                found.variants_count
            ));
        }
    }
    for duplicate in found.duplicates.iter().take(ROWS_MAX) {
        text.push_str(&duplicate_text(duplicate));
    }
    for people in found.patients.iter().take(ROWS_MAX) {
        text.push_str(&people_text(people));
    }
    for study in found.studies.iter().take(ROWS_MAX) {
        text.push_str(&study_text(study));
    }
    for series in found.series.iter().take(ROWS_MAX) {
        text.push_str(&series_text(series));
    }
    let told = found.duplicates.len().max(found.patients.len());
    if told.max(found.studies.len()).max(found.series.len()) > ROWS_MAX {
        text.push_str(&format!(
            "only the first {ROWS_MAX} of each kind are shown; --json has more\n"
        ));
    }
    text
}

fn settled(by: Option<u64>) -> String {
    by.map_or_else(String::new, |number| {
        format!(" (settled by change {number})")
    })
}

fn duplicate_text(duplicate: &Duplicate) -> String {
    let mut text = format!(
        "\n{}  {} data sets under SOP Instance UID {}{}\n",
        duplicate.id,
        duplicate.contents.len(),
        duplicate.sop_instance_uid,
        settled(duplicate.settled_by)
    );
    let rows: Vec<Vec<String>> = duplicate
        .contents
        .iter()
        .map(|content| {
            let differs: Vec<String> = content
                .differs
                .iter()
                .map(|(tag, value)| format!("{}={}", keyword(*tag), output::plain(value)))
                .collect();
            let state = match (content.answered, content.variant) {
                (true, _) => "answered",
                (_, true) => "variant",
                _ => "kept",
            };
            vec![
                content.number.to_string(),
                state.to_owned(),
                minutes(&content.received),
                output::plain(&content.source_ae_title),
                content.data_bytes.to_string(),
                content.transfer_syntax.clone(),
                output::plain(&content.patient_id),
                output::plain(&content.patient_name),
                content.volumes.join(","),
                content.study_instance_uid.clone(),
                differs.join(" "),
            ]
        })
        .collect();
    let header = [
        "K",
        "STATE",
        "RECEIVED (UTC)",
        "FROM",
        "BYTES",
        "TRANSFER SYNTAX",
        "PATIENT ID",
        "NAME",
        "VOLUMES",
        "STUDY INSTANCE UID",
        "DIFFERS IN",
    ];
    text.push_str(&output::table(&header, &rows));
    for one in &duplicate.differences {
        let side = |side: &Option<String>| match side {
            Some(text) => format!("\"{}\"", output::plain(text)),
            None => "absent".to_owned(),
        };
        text.push_str(&match one.tag {
            0 => format!(
                "K {}: {}\n",
                one.number,
                output::plain(one.other.as_deref().unwrap_or_default())
            ),
            tag => format!(
                "K {}: {}: {} where the answered one has {}\n",
                one.number,
                keyword(tag),
                side(&one.other),
                side(&one.answered)
            ),
        });
    }
    text.push_str(&format!(
        "    to answer one and keep the others: kura conflicts prefer {} --content K --reason TEXT\n    not to keep one: kura conflicts discard {} --content K --reason TEXT\n",
        duplicate.id, duplicate.id
    ));
    text
}

fn people_text(people: &TwoPeople) -> String {
    let mut text = format!(
        "\n{}  {} people under Patient ID {}{}\n",
        people.id,
        people.people.len(),
        output::plain(&match people.issuer.is_empty() {
            true => people.patient_id.clone(),
            false => format!("{} of {}", people.patient_id, people.issuer),
        }),
        settled(people.settled_by)
    );
    let rows: Vec<Vec<String>> = people
        .people
        .iter()
        .map(|one| {
            vec![
                output::plain(&one.name),
                output::plain(&one.birth_date),
                one.study_instance_uids.len().to_string(),
                one.study_instance_uids.first().cloned().unwrap_or_default(),
            ]
        })
        .collect();
    let header = ["NAME", "BIRTH DATE", "STUDIES", "ONE OF THEM"];
    text.push_str(&output::table(&header, &rows));
    text.push_str(&format!(
        "    one is right for all: kura conflicts prefer {} --study UID --reason TEXT\n    one ID is wrong: kura amend --study UID --patient-id ID --reason TEXT\n    it is well as it is: kura conflicts discard {} --reason TEXT\n",
        people.id, people.id
    ));
    text
}

fn study_text(study: &MixedStudy) -> String {
    let deviating: u64 = study.others.iter().map(|one| one.instances_count).sum();
    let mut text = format!(
        "\n{}  {deviating} of {} instances of study {} say another patient{}\n",
        study.id,
        study.instances_count,
        study.study_instance_uid,
        settled(study.settled_by)
    );
    let row = |id: &str, name: &str, count: String, sop: &str| {
        vec![
            output::plain(id),
            output::plain(name),
            count,
            sop.to_owned(),
        ]
    };
    let own = study.instances_count.saturating_sub(deviating);
    let mut rows = vec![row(
        &study.patient_id,
        &study.patient_name,
        own.to_string(),
        "",
    )];
    rows.extend(study.others.iter().map(|one| {
        row(
            &one.patient_id,
            &one.patient_name,
            one.instances_count.to_string(),
            one.sop_instance_uids.first().map_or("", String::as_str),
        )
    }));
    let header = ["PATIENT ID", "NAME", "INSTANCES", "ONE OF THEM"];
    text.push_str(&output::table(&header, &rows));
    text.push_str(&format!(
        "    they are of the study's patient: kura conflicts prefer {} --reason TEXT\n    they are another study's: kura amend --instance UID --to-study UID --reason TEXT\n    it is well as it is: kura conflicts discard {} --reason TEXT\n",
        study.id, study.id
    ));
    text
}

fn series_text(series: &SplitSeries) -> String {
    let mut text = format!(
        "\n{}  series {} is in {} studies{}\n",
        series.id,
        series.series_instance_uid,
        series.parts.len(),
        settled(series.settled_by)
    );
    let rows: Vec<Vec<String>> = series
        .parts
        .iter()
        .map(|part| {
            vec![
                part.study_instance_uid.clone(),
                output::plain(&part.patient_id),
                output::plain(&part.patient_name),
                output::plain(&part.modality),
                part.instances_count.to_string(),
                part.sop_instance_uid.clone(),
            ]
        })
        .collect();
    let header = [
        "STUDY INSTANCE UID",
        "PATIENT ID",
        "NAME",
        "MODALITY",
        "INSTANCES",
        "ONE OF THEM",
    ];
    text.push_str(&output::table(&header, &rows));
    text.push_str(&format!(
        "    some are another study's: kura amend --instance UID --to-study UID --reason TEXT\n    it is well as it is: kura conflicts discard {} --reason TEXT\n",
        series.id
    ));
    text
}

fn minutes(at: &str) -> String {
    at.chars().take(16).collect::<String>().replace('T', " ")
}
