//! SOP Class Extended Negotiation of the query and retrieve models (PS3.4 C.5.1.1, C.5.2.1, C.5.3.1): what was asked in,
//! what is done out.
//!
//! Each byte of the application information is one question. As many are answered as were asked, since older requestors
//! know only the first ones; later bytes ask for what is not done here.

use crate::dicom::sop;

// Bytes of the application information for FIND. Source: PS3.4 Table C.5-1.
pub const RELATIONAL: usize = 0;
pub const DATE_TIME: usize = 1;
pub const FUZZY_NAMES: usize = 2;

/// Most bytes of application information that are answered; the models define five.
const ANSWERED_MAX: usize = 5;

/// The application information to send back; `None` for a class with which nothing is negotiated.
///
/// Relational queries and retrieves are served whether asked for or not, and this says so. The two ways of matching are
/// the requestor's choice.
pub fn answer(sop_class_uid: &str, asked: &[u8]) -> Option<Vec<u8>> {
    let find = match sop_class_uid {
        sop::PATIENT_ROOT_FIND | sop::STUDY_ROOT_FIND | sop::PATIENT_STUDY_ONLY_FIND => true,
        sop::PATIENT_ROOT_MOVE
        | sop::STUDY_ROOT_MOVE
        | sop::PATIENT_STUDY_ONLY_MOVE
        | sop::PATIENT_ROOT_GET
        | sop::STUDY_ROOT_GET
        | sop::PATIENT_STUDY_ONLY_GET => false,
        _ => return None,
    };
    let answers = asked.iter().take(ANSWERED_MAX).enumerate();
    let answers = answers.map(|(at, wanted)| match at {
        RELATIONAL => 1,
        DATE_TIME | FUZZY_NAMES if find => u8::from(*wanted == 1),
        _ => 0,
    });
    Some(answers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_answered_byte_by_byte() {
        type Case<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);
        let cases: [Case; 10] = [
            (sop::STUDY_ROOT_FIND, &[], Some(&[])),
            (sop::STUDY_ROOT_FIND, &[0], Some(&[1])),
            (sop::STUDY_ROOT_FIND, &[1, 0, 0, 0], Some(&[1, 0, 0, 0])),
            (sop::STUDY_ROOT_FIND, &[1, 1, 0, 1], Some(&[1, 1, 0, 0])),
            (
                sop::PATIENT_ROOT_FIND,
                &[0, 0, 1, 1, 1],
                Some(&[1, 0, 1, 0, 0]),
            ),
            (sop::PATIENT_STUDY_ONLY_FIND, &[7, 7, 7], Some(&[1, 0, 0])),
            (sop::STUDY_ROOT_MOVE, &[1, 1, 1], Some(&[1, 0, 0])),
            (sop::STUDY_ROOT_GET, &[0, 1], Some(&[1, 0])),
            (sop::STUDY_ROOT_FIND, &[1; 60_000], Some(&[1, 1, 1, 0, 0])),
            (sop::VERIFICATION, &[1], None),
        ];
        for (class, asked, expected) in cases {
            assert_eq!(answer(class, asked).as_deref(), expected, "{class}");
        }
    }
}
