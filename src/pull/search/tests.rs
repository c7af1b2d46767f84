use std::sync::Mutex;

use super::*;
use crate::config::PeerEntry;
use crate::dicom::{AeTitle, VR, elements};
use crate::net::loopback::{policy, serve, title};
use crate::net::{Association, CommandSet, Received};

/// Answers each question with all of `studies` and ends it with `status`; how many there were.
fn answer_all(association: &mut Association, studies: &[&str], status: u16) -> u32 {
    let mut count = 0;
    while let Ok(Received::Command {
        context_id,
        command,
    }) = association.next_command()
    {
        while association.data_fragment().unwrap().is_some() {}
        for uid in studies {
            let mut identifier = Vec::new();
            let tag = tags::STUDY_INSTANCE_UID;
            elements::put(&mut identifier, true, tag, VR::UI, uid.as_bytes());
            let pending = CommandSet::response_to(&command, 0xFF00);
            association
                .send(context_id, &pending, Some(&identifier))
                .unwrap();
        }
        let last = CommandSet::response_to(&command, status);
        association.send(context_id, &last, None).unwrap();
        count += 1;
    }
    association.release_reply();
    count
}

/// Of a peer that answers so, whatever it is asked; and how many questions there were.
fn asked(studies: &'static [&'static str], status: u16) -> (Result<Found, Trouble>, u32) {
    let (address, server) = serve(policy(), false, move |result| {
        answer_all(&mut result.unwrap(), studies, status)
    });
    let peer = PeerEntry::new(title("OLD"), "127.0.0.1", address.port());
    let calling: AeTitle = title("KURA");
    let (open, cancelled) = (Mutex::default(), || false);
    let other = Other {
        peer: &peer,
        calling: &calling,
        port: 104,
        // So that the peer need not have C-MOVE.
        get: true,
        open: &open,
        cancelled: &cancelled,
    };
    let found = search(&other, &Keys::new(), &|_| {});
    (found, server.join().unwrap())
}

#[test]
fn a_peer_that_does_not_look_at_dates_is_not_asked_for_ever() {
    let (found, questions_count) = asked(&["1.1", "1.2", "1.3"], 0xA700);
    let Err(Trouble::Ends(reason)) = found else {
        panic!("{found:?}");
    };
    assert!(reason.contains("whatever dates"), "{reason}");
    // Down to a day is seventeen, and its hours are twenty-four.
    assert!(questions_count < 20 * 100, "{questions_count}");
}

#[test]
fn names_that_are_no_uids_are_counted_and_never_asked_for() {
    let (found, questions_count) = asked(&["1.1", "1.*", "", "x\\y", "1.1"], 0);
    let found = found.unwrap();
    assert_eq!(questions_count, 1);
    assert_eq!(found.studies.len(), 1);
    assert_eq!(&*found.studies[0].uid, "1.1");
    assert!(found.notes[0].starts_with("3 answers"), "{:?}", found.notes);
}

#[test]
fn a_search_that_is_refused_ends_the_pull_with_the_status() {
    let (found, _) = asked(&[], 0xA900);
    let Err(Trouble::Ends(reason)) = found else {
        panic!("{found:?}");
    };
    assert!(reason.contains("A900H"), "{reason}");
}
