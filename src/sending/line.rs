//! An association that stays open for more, as senders do that send each image as it comes.

use std::time::Duration;

use crate::net::{Association, Received};

use super::To;

/// Open, or not; released when it is dropped.
#[derive(Default)]
pub struct Line(Option<Open>);

struct Open {
    association: Association,
    address: String,
    offered: Offered,
}

/// Presentation contexts: abstract syntax and transfer syntaxes.
pub type Offered = Vec<(String, Vec<String>)>;

impl Line {
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// The association, where it is open still and these contexts were offered on it; with all that were.
    pub(super) fn take_for(
        &mut self,
        to: &To,
        offered: &Offered,
    ) -> Option<(Association, Offered)> {
        let fits = |open: &Open| {
            open.address == to.address() && offered.iter().all(|one| open.offered.contains(one))
        };
        if !self.0.as_ref().is_some_and(fits) {
            self.release();
        }
        let Open {
            mut association,
            offered,
            ..
        } = self.0.take()?;
        match association.comes_within(Duration::ZERO) {
            Ok(false) => Some((association, offered)),
            // Nothing of ours is open there, so it can only be the end.
            _ => {
                if let Ok(Received::Release) = association.next_command() {
                    association.release_reply();
                }
                None
            }
        }
    }

    pub(super) fn keep(&mut self, to: &To, association: Association, offered: Offered) {
        self.0 = Some(Open {
            association,
            address: to.address(),
            offered,
        });
    }

    pub fn release(&mut self) {
        if let Some(mut open) = self.0.take()
            && let Err(error) = open.association.release()
        {
            tracing::debug!(destination = open.address, %error, "released without an answer");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.release();
    }
}
