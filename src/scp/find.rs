//! C-FIND as SCP (PS3.4 C.4.1): the identifier in, one pending answer for each match, one final status.

use std::ops::ControlFlow;

use crate::audit::{self, Event, Kind};
use crate::dicom::{Answering, Level, sop, ts};
use crate::index::{Options, Query, Step};
use crate::net::dimse::CommandSet;
use crate::net::{Association, Context, NetError, extended};

use super::answer::Answers;
use super::identifier;
use super::limited::Request;
use super::status::{self, Status};
use super::{Counts, Services};

/// Why a query ended before all was looked at.
enum Ended {
    Cancelled,
    /// There was one match more than a query may have.
    Enough(u64),
    TooLong,
    Broken(NetError),
}

pub fn answer(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    counts: &Counts,
) -> Result<(), NetError> {
    let Some(context) = association.context(context_id).cloned() else {
        return super::drain(association);
    };
    if ![
        sop::PATIENT_ROOT_FIND,
        sop::STUDY_ROOT_FIND,
        sop::PATIENT_STUDY_ONLY_FIND,
    ]
    .contains(&context.abstract_syntax.as_str())
    {
        super::drain(association)?;
        let status = Status::new(
            status::SOP_CLASS_NOT_SUPPORTED,
            "not a query presentation context",
        );
        return super::refuse(association, context_id, command, &status);
    }
    let request = Request::begin(&services.config.limits);
    let identifier = match identifier::receive(services, association, &context.transfer_syntax)? {
        Ok(identifier) => identifier,
        Err(status) => return super::refuse(association, context_id, command, &status),
    };
    if let Some(status) = level_is_outside(&context.abstract_syntax, identifier.level) {
        return super::refuse(association, context_id, command, &status);
    }
    let mut query = Query::new(identifier.level, identifier.keys());
    query.options = options(services, association, &context);
    let answers = Answers {
        query: &query,
        ae_title: services.config.ae_title.as_str(),
        explicit: context.transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN,
        character_sets: Answering::new(&identifier.character_set()),
    };
    let matches_max = services.config.query.matches_max.unwrap_or(u64::MAX);
    let message_id = command.message_id().unwrap_or_default();
    let pending = CommandSet::response_to(command, status::PENDING);
    let mut given = 0;
    let mut ended = None;
    let result = services.archive.search(&query, &mut |step| {
        let step = match (association.pending_cancel(message_id), step) {
            (Ok(true), _) => Err(Ended::Cancelled),
            (Ok(false), _) if request.is_too_long() => Err(Ended::TooLong),
            (Ok(false), Step::Looked) => Ok(()),
            (Ok(false), Step::Found(_)) if given == matches_max => Err(Ended::Enough(given)),
            (Ok(false), Step::Found(found)) => {
                given += 1;
                let data = answers.encode(&found.values);
                let sent = association.send(context_id, &pending, Some(&data));
                sent.map_err(Ended::Broken)
            }
            (Err(error), _) => Err(Ended::Broken(error)),
        };
        match step {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                ended = Some(why);
                ControlFlow::Break(())
            }
        }
    });
    let status = match (ended, result) {
        (Some(Ended::Broken(error)), _) => {
            note(
                services,
                counts,
                &context,
                &query,
                &format!("{given} answers, then it broke off"),
            );
            return Err(error);
        }
        (Some(Ended::Cancelled), _) => Status::new(status::CANCEL, "cancelled"),
        (Some(Ended::Enough(count)), _) => Status::new(
            status::OUT_OF_RESOURCES,
            format!("more than {count} matches, the limit here; ask for less"),
        ),
        (Some(Ended::TooLong), _) => Status::new(
            status::OUT_OF_RESOURCES,
            request.ended(services, association, "C-FIND"),
        ),
        (None, Ok(())) => Status::new(status::SUCCESS, ""),
        (None, Err(error)) => Status::from(&error),
    };
    let outcome = format!("{given} answers, {:04X}H", status.code);
    note(services, counts, &context, &query, &outcome);
    super::refuse(association, context_id, command, &status)
}

/// For the audit: who asked by what.
fn note(services: &Services, counts: &Counts, context: &Context, query: &Query, outcome: &str) {
    let keys = query.keys.iter();
    let keys: Vec<_> = keys
        .map(|key| (identifier::tag(key.tag), key.value.as_str()))
        .collect();
    let with_values = services.config.audit.query_values;
    let asked = audit::query(query.level.as_str(), &keys, with_values);
    let event = Event {
        model: context.abstract_syntax.clone(),
        query: asked.identifier,
        studies: asked.studies,
        ..super::event(counts, Kind::Queried)
    };
    services
        .audit
        .gather(&super::who(counts), &asked.words, outcome, event);
}

/// What was agreed for this context, and what is set up for the peer.
fn options(services: &Services, association: &Association, context: &Context) -> Options {
    let agreed = |at: usize| context.extended.get(at) == Some(&1);
    let peer = services.config.peer(&association.peer().calling);
    Options {
        combined_date_time: agreed(extended::DATE_TIME),
        fuzzy_names: agreed(extended::FUZZY_NAMES) || peer.is_some_and(|peer| peer.fuzzy_names),
    }
}

/// PS3.4 C.6.2: Study Root has no patient level; C.6.3: Patient/Study Only has nothing below the study.
pub fn level_is_outside(abstract_syntax: &str, level: Level) -> Option<Status> {
    let patient_study_only = [
        sop::PATIENT_STUDY_ONLY_FIND,
        sop::PATIENT_STUDY_ONLY_MOVE,
        sop::PATIENT_STUDY_ONLY_GET,
    ];
    let study_root = [
        sop::STUDY_ROOT_FIND,
        sop::STUDY_ROOT_MOVE,
        sop::STUDY_ROOT_GET,
    ];
    let outside = (study_root.contains(&abstract_syntax) && level == Level::Patient)
        || (patient_study_only.contains(&abstract_syntax) && level > Level::Study);
    outside.then(|| {
        Status::new(
            status::DATA_SET_MISMATCH,
            format!("this information model has no {level} level"),
        )
    })
}
