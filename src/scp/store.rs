//! C-STORE as SCP (PS3.4 Annex B): bytes from the association to the archive, one answer back.

use std::time::Instant;

use crate::archive::{Announced, IngestError, Outcome};
use crate::dicom::uid;
use crate::metrics::Taken;
use crate::net::dimse::CommandSet;
use crate::net::{Association, NetError};
use crate::transfers::Arrived;

use super::ended::Why;
use super::limited;
use super::status::{self, Status};
use super::{Counts, Services};

pub fn answer(
    services: &Services,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    counts: &mut Counts,
) -> Result<(), NetError> {
    let Some(context) = association.context(context_id) else {
        return super::drain(association);
    };
    if !uid::is_storage_class(&context.abstract_syntax) {
        super::drain(association)?;
        let status = Status::new(
            status::SOP_CLASS_NOT_SUPPORTED,
            "not a storage presentation context",
        );
        return super::refuse(association, context_id, command, &status);
    }
    let announced = Announced {
        sop_class_uid: command.affected_sop_class_uid().unwrap_or_default(),
        sop_instance_uid: command.affected_sop_instance_uid().unwrap_or_default(),
        transfer_syntax: context.transfer_syntax.clone(),
        calling_ae_title: association.peer().calling.clone(),
        prefer: counts.volume_id.clone(),
    };
    let (begun, bytes_before) = (Instant::now(), counts.bytes);
    let received = receive(services, association, announced, counts)?;
    match received {
        Ok(kept) => {
            counts.instances += 1;
            counts.volume_id = Some(kept.volume_id.clone());
            let kept_as = kept.outcome;
            match kept_as {
                Outcome::Stored | Outcome::Duplicate => {}
                Outcome::Variant => tracing::info!(
                    sop_instance_uid = command.affected_sop_instance_uid(),
                    "a variant: the instance is here in another transfer syntax; both are kept"
                ),
                Outcome::Conflict => tracing::warn!(
                    sop_instance_uid = command.affected_sop_instance_uid(),
                    "a conflict: another data set has this SOP Instance UID; both are kept, the first is answered"
                ),
                Outcome::Newest => tracing::warn!(
                    sop_instance_uid = command.affected_sop_instance_uid(),
                    "another data set has this SOP Instance UID; both are kept, the newest is answered"
                ),
            }
            if let Some(study) = &kept.another_patient
                && counts.another_patient.len() < NAMED_COUNT_MAX
                && counts.another_patient.insert(study.clone())
            {
                tracing::warn!(
                    study_instance_uid = study,
                    calling = association.peer().calling,
                    "instances of this study name another patient than the study"
                );
            }
            let sent = association.send(
                context_id,
                &CommandSet::response_to(command, status::SUCCESS),
                None,
            );
            let bytes = counts.bytes - bytes_before;
            let study = Some(kept.study_instance_uid.as_str());
            let status = Status::new(status::SUCCESS, "");
            note(services, counts, study, bytes, begun, &status);
            kept.answered();
            let taken = match kept_as {
                Outcome::Stored => Taken::Stored,
                Outcome::Duplicate => Taken::Duplicate,
                Outcome::Variant => Taken::Variant,
                Outcome::Conflict => Taken::Conflict,
                Outcome::Newest => Taken::Newest,
            };
            services.metrics.stored(taken, bytes, begun.elapsed());
            sent
        }
        Err(error) => {
            let limit = limited::of_instance(&error);
            if let Some(exceeded) = limit {
                services.metrics.counters.limit_reached(exceeded.key);
            }
            let limit = limit.map(tracing::field::display);
            tracing::warn!(calling = association.peer().calling, %error, limit, "an instance was refused");
            let (bytes, status) = (counts.bytes - bytes_before, Status::from(&error));
            note(services, counts, None, bytes, begun, &status);
            let counters = &services.metrics.counters;
            counters.received(Taken::Refused, bytes, begun.elapsed());
            counts.troubles.note(|| refused(&error));
            super::refuse(association, context_id, command, &status)
        }
    }
}

/// A line of the journal of transfers, to be put together with others.
fn note(
    services: &Services,
    counts: &Counts,
    study_instance_uid: Option<&str>,
    bytes: u64,
    begun: Instant,
    status: &Status,
) {
    services.transfers.arrived(&Arrived {
        association_id: counts.association_id,
        requestor: &counts.requestor,
        study_instance_uid,
        bytes,
        begun,
        status: status.code,
        reason: status.comment.clone(),
    });
}

/// In words, for who looks at what failed lately.
fn refused(error: &IngestError) -> Why {
    match error {
        IngestError::Missing { .. } | IngestError::Mismatch { .. } | IngestError::DataSet(_) => {
            Why::new(
                "refused-instance",
                format!("an instance was refused: {error}"),
                "the sender's data set is wrong, and it is to send a right one; what it sent is kept in quarantine: kura status",
            )
        }
        _ => Why::new(
            "not-stored",
            format!("an instance was refused: {error}"),
            "kura status says what is wrong here; then have it sent again",
        ),
    }
}

/// The outer result is the association's, the inner one the instance's. A refused instance is still received to its end,
/// because the sender listens only then.
fn receive(
    services: &Services,
    association: &mut Association,
    announced: Announced,
    counts: &mut Counts,
) -> Result<Result<crate::archive::Kept, IngestError>, NetError> {
    let mut receiving = match services.archive.begin(announced) {
        Ok(receiving) => receiving,
        Err(error) => {
            super::drain(association)?;
            return Ok(Err(error));
        }
    };
    while let Some(fragment) = association.data_fragment()? {
        counts.bytes += fragment.len() as u64;
        if let Err(error) = receiving.write(fragment) {
            // The partial file goes now, so that the disk has its room again while the rest is read.
            drop(receiving);
            super::drain(association)?;
            return Ok(Err(error));
        }
    }
    Ok(receiving.finish())
}

/// Studies that the log names of one association.
const NAMED_COUNT_MAX: usize = 1_000;
