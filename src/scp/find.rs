//! C-FIND as SCP (PS3.4 C.4.1): the identifier in, one pending answer for each match, one final status.

use std::ops::ControlFlow;

use crate::dicom::{Level, sop};
use crate::index::Query;
use crate::net::dimse::CommandSet;
use crate::net::{Association, NetError};

use super::Services;
use super::identifier;
use super::status::{self, Status};

pub fn answer(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
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
    let identifier = match identifier::receive(association, &context.transfer_syntax)? {
        Ok(identifier) => identifier,
        Err(status) => return super::refuse(association, context_id, command, &status),
    };
    if let Some(status) = level_is_outside(&context.abstract_syntax, identifier.level) {
        return super::refuse(association, context_id, command, &status);
    }
    let query = Query::new(identifier.level, identifier.keys());
    let ae_title = services.config.ae_title.as_str();
    let message_id = command.message_id().unwrap_or_default();
    let pending = CommandSet::response_to(command, status::PENDING);
    let mut broken = None;
    let mut cancelled = false;
    let result = services.archive.find(&query, &mut |found| {
        let step = association.pending_cancel(message_id).and_then(|cancel| {
            cancelled = cancel;
            if cancel {
                return Ok(());
            }
            let data = identifier::answer(
                query.level,
                &query.keys,
                &found.values,
                ae_title,
                &context.transfer_syntax,
            );
            association.send(context_id, &pending, Some(&data))
        });
        if let Err(error) = step {
            broken = Some(error);
        }
        if cancelled || broken.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if let Some(error) = broken {
        return Err(error);
    }
    let status = match result {
        _ if cancelled => Status::new(status::CANCEL, "cancelled"),
        Ok(()) => Status::new(status::SUCCESS, ""),
        Err(error) => Status::from(&error),
    };
    super::refuse(association, context_id, command, &status)
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
