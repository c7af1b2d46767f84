//! What a C-GET proposes, and what comes by it.

use std::collections::BTreeSet;

use crate::archive::{Announced, Archive, IngestError};
use crate::dicom::{sop, ts};
use crate::net::{Association, CommandSet, NetError, RoleSelection};

/// Presentation contexts of an association.
const CONTEXTS_MAX: usize = 128;

/// Offered by C-GET where the peer did not say what is in a study.
const USUAL_CLASSES: [&str; 8] = [
    "1.2.840.10008.5.1.4.1.1.2",     // CT
    "1.2.840.10008.5.1.4.1.1.4",     // MR
    "1.2.840.10008.5.1.4.1.1.1",     // CR
    "1.2.840.10008.5.1.4.1.1.1.1",   // DX
    "1.2.840.10008.5.1.4.1.1.6.1",   // US
    "1.2.840.10008.5.1.4.1.1.7",     // Secondary Capture
    "1.2.840.10008.5.1.4.1.1.88.22", // Enhanced SR
    "1.2.840.10008.5.1.4.1.1.12.1",  // XA
];

/// Each in a context of its own, so that the peer can send what it has as it is. Of many classes the first forms have room.
const FORMS: [&str; 16] = [
    ts::EXPLICIT_VR_LITTLE_ENDIAN,
    ts::IMPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.202",
];

pub(super) type Offered = (Vec<(String, Vec<String>)>, Vec<RoleSelection>);

/// Contexts for C-GET and for what comes by it: each class uncompressed, then the compressed forms as far as there is room.
pub(super) fn offered(classes: &BTreeSet<String>) -> Offered {
    let usual: BTreeSet<String> = USUAL_CLASSES.map(str::to_owned).into();
    let classes = match classes.is_empty() {
        true => &usual,
        false => classes,
    };
    let plain = || {
        let both = [ts::EXPLICIT_VR_LITTLE_ENDIAN, ts::IMPLICIT_VR_LITTLE_ENDIAN];
        both.map(str::to_owned).to_vec()
    };
    let mut contexts = vec![(sop::STUDY_ROOT_GET.to_owned(), plain())];
    let each = classes.iter().take((CONTEXTS_MAX - 1) / 2);
    for syntax in FORMS {
        contexts.extend(
            each.clone()
                .map(|class| (class.clone(), vec![syntax.to_owned()])),
        );
    }
    contexts.truncate(CONTEXTS_MAX);
    let roles = each.map(|class| RoleSelection {
        sop_class_uid: class.clone(),
        scu: false,
        scp: true,
    });
    let roles = roles.collect();
    (contexts, roles)
}

/// One sub-operation of a C-GET.
pub(super) fn store_one(
    archive: &Archive,
    calling: &str,
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
) -> Result<(), NetError> {
    let announced = Announced {
        sop_class_uid: command.affected_sop_class_uid().unwrap_or_default(),
        sop_instance_uid: command.affected_sop_instance_uid().unwrap_or_default(),
        transfer_syntax: association
            .context(context_id)
            .map(|context| context.transfer_syntax.clone())
            .unwrap_or_default(),
        calling_ae_title: calling.to_owned(),
        prefer: None,
    };
    let mut receiving = match archive.begin(announced) {
        Ok(receiving) => Some(receiving),
        Err(error) => return refuse(association, context_id, command, &error),
    };
    let mut wrong = None;
    while let Some(fragment) = association.data_fragment()? {
        if let Some(writing) = &mut receiving
            && let Err(error) = writing.write(fragment)
        {
            // The partial file goes now; the rest is read away.
            (receiving, wrong) = (None, Some(error));
        }
    }
    match (receiving.map(|receiving| receiving.finish()), wrong) {
        (Some(Ok(kept)), _) => {
            let response = CommandSet::response_to(command, 0);
            let sent = association.send(context_id, &response, None);
            kept.answered();
            sent
        }
        (Some(Err(error)), _) | (None, Some(error)) => {
            refuse(association, context_id, command, &error)
        }
        (None, None) => Ok(()),
    }
}

fn refuse(
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    error: &IngestError,
) -> Result<(), NetError> {
    tracing::warn!(%error, "an instance of a C-GET was refused");
    // Out of resources: PS3.4 B.2.3.
    let mut response = CommandSet::response_to(command, 0xA700);
    response.set_error_comment(&error.to_string());
    association.send(context_id, &response, None)
}
