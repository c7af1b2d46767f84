//! Who changed what, and when: a line for each change that a person or a program asked for.

use std::path::Path;

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// A user of this machine, of the page, or the name of a token.
    pub name: String,
    /// `command line`, or the address of the browser or program.
    pub from: String,
}

impl Who {
    /// Of this process.
    pub fn here() -> Who {
        let uid = rustix::process::getuid().as_raw();
        Who::of_user(uid)
    }

    /// Of a program on this machine.
    pub fn of_user(uid: u32) -> Who {
        Who {
            name: format!("user {uid}"),
            from: "command line".to_owned(),
        }
    }
}

pub struct Audit {}

impl Audit {
    pub fn open(_state: &Path) -> Audit {
        Audit {}
    }

    /// `what`: the request, without anything secret; `outcome`: what was answered, in a few words.
    pub fn note(&self, who: &Who, what: &str, outcome: &str) {
        tracing::info!(who = who.name, from = who.from, what, outcome, "a change");
    }
}
