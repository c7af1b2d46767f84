//! Asks a peer whether it keeps what it got (storage commitment as SCU).

use super::{Failure, output};
use crate::commitment::{Answer, Asking, PATIENCE};
use crate::config::{Config, PeerEntry};
use crate::control::{self, Request, Response};
use crate::dicom::Reference;
use crate::dicom::references::REFERENCES_MAX;
use crate::scu;

/// Not committed ones named on the screen; JSON has all.
const SHOWN: usize = 10;

/// The running server asks, as the report may come to its port; where none runs, only one over the same association can.
pub fn ask(
    config: &Config,
    to: &str,
    peer: &PeerEntry,
    instances: &[Reference],
) -> Result<Answer, Failure> {
    let mut all = Answer::default();
    for some in instances.chunks(REFERENCES_MAX) {
        let request = Request::Commit {
            to: to.to_owned(),
            instances: some.to_vec(),
        };
        let answer = match control::ask(&config.state, &request)? {
            Some(Response::Commit(answer)) => answer,
            Some(Response::Failed { reason }) => return Err(reason.into()),
            Some(_) => return Err("the server answered something else".into()),
            None => {
                let asking = Asking {
                    calling: &config.ae_title,
                    peer,
                    caller: None,
                    patience: PATIENCE,
                };
                Answer::of(&asking, some)?
            }
        };
        all.committed_count += answer.committed_count;
        all.failed.extend(answer.failed);
    }
    Ok(all)
}

pub fn screen(answer: &Answer) -> String {
    let mut text = format!(
        "{} committed, {} not",
        answer.committed_count,
        answer.failed.len()
    );
    for (sop, reason) in answer.failed.iter().take(SHOWN) {
        text.push_str(&format!(
            "\n  {}: {reason:04X}H {}",
            output::plain(sop),
            scu::failure_reason(*reason)
        ));
    }
    text
}
