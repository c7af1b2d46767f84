//! Browsers that have signed in. All of it is in memory: a restart signs everybody out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::accounts::User;

const SESSIONS_MAX: usize = 1_000;
/// From signing in; a day's work.
pub const LIFE: Duration = Duration::from_secs(12 * 3_600);
struct Session {
    user: User,
    begun: Instant,
}

/// By the digest of what the cookie says, so that comparing tells nothing about it.
#[derive(Default)]
pub struct Sessions {
    open: HashMap<[u8; 32], Session>,
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Sessions {
    pub fn begin(&mut self, secret: &str, user: User) {
        self.open
            .retain(|_, session| session.begun.elapsed() < LIFE);
        if self.open.len() >= SESSIONS_MAX {
            let oldest = self.open.iter().min_by_key(|(_, session)| session.begun);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.open.remove(&oldest);
            }
        }
        let begun = Instant::now();
        self.open.insert(key(secret), Session { user, begun });
    }

    pub fn user(&self, secret: &str) -> Option<&User> {
        let session = self.open.get(&key(secret))?;
        (session.begun.elapsed() < LIFE).then_some(&session.user)
    }

    pub fn end(&mut self, secret: &str) {
        self.open.remove(&key(secret));
    }
}
