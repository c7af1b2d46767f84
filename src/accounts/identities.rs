//! User names and passwords of the DICOM port (PS3.7 D.3.3.7): checked, and remembered for a while.
//!
//! A workstation opens an association for every few images: a password that was right a moment ago costs no Argon2 again.
//! So who floods the port with wrong ones does not hold up those who come every day.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{Accounts, Guessers, PASSWORD_BYTES_MAX, User, chance};

/// Users are read again after this long.
const ACCOUNTS_AGE_MAX: Duration = Duration::from_secs(1);
/// Passwords that are remembered to have been right, and for how long.
const RIGHT_MAX: usize = 256;
const RIGHT_FOR: Duration = Duration::from_secs(600);

/// What came of a name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Of this user.
    Right(String),
    Wrong,
    /// Too many wrong ones came from that address; until it may try again.
    Wait(Duration),
    /// Nobody has a password here: there is nothing to compare with.
    Nobody,
}

struct Right {
    user: User,
    at: Instant,
}

pub struct Identities {
    state: PathBuf,
    accounts: Mutex<Option<(Instant, Arc<Accounts>)>>,
    /// By the digest of name and password, with chance of this process in it.
    right: Mutex<HashMap<[u8; 32], Right>>,
    salt: Option<String>,
    guessers: Mutex<Guessers>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Identities {
    pub fn new(state: &Path) -> Identities {
        Identities {
            state: state.to_owned(),
            accounts: Mutex::default(),
            right: Mutex::default(),
            // Without chance nothing is remembered.
            salt: chance(32).ok(),
            guessers: Mutex::default(),
        }
    }

    /// As they were a moment ago. May wait for a disk; the error is a sentence.
    fn accounts(&self) -> Result<Arc<Accounts>, String> {
        let mut kept = lock(&self.accounts);
        if let Some((read, accounts)) = kept.as_ref()
            && read.elapsed() < ACCOUNTS_AGE_MAX
        {
            return Ok(accounts.clone());
        }
        let accounts = Arc::new(Accounts::read(&self.state)?);
        *kept = Some((Instant::now(), accounts.clone()));
        Ok(accounts)
    }

    /// What can be said at once; `None`: it takes Argon2 (19 MiB, some hundredths of a second), that is
    /// [`Identities::check`]. May wait for a disk. The error is a sentence.
    pub fn known(
        &self,
        address: IpAddr,
        name: &str,
        password: &str,
    ) -> Result<Option<Checked>, String> {
        let accounts = self.accounts()?;
        if accounts.dicom_users.is_empty() {
            return Ok(Some(Checked::Nobody));
        }
        if let Some(key) = self.key(name, password)
            && let Some(right) = lock(&self.right).get(&key)
            && right.at.elapsed() < RIGHT_FOR
            && let Some(user) = accounts.dicom_user(name)
            && user.is_still(&right.user)
        {
            return Ok(Some(Checked::Right(user.name.clone())));
        }
        let wait = lock(&self.guessers).wait(address);
        Ok((!wait.is_zero()).then_some(Checked::Wait(wait)))
    }

    /// The caller sees to it that few do this at the same moment, and asks [`Identities::known`] before, when it is its turn.
    pub fn check(&self, address: IpAddr, name: &str, password: &str) -> Result<Checked, String> {
        let accounts = self.accounts()?;
        let is_long = name.len().max(password.len()) > PASSWORD_BYTES_MAX;
        let user = match is_long {
            true => None,
            false => accounts.check_dicom_password(name, password),
        };
        let Some(user) = user else {
            lock(&self.guessers).wrong(address);
            return Ok(Checked::Wrong);
        };
        lock(&self.guessers).right(address);
        if let Some(key) = self.key(name, password) {
            let mut right = lock(&self.right);
            right.retain(|_, one| one.at.elapsed() < RIGHT_FOR);
            if right.len() >= RIGHT_MAX {
                let oldest = right.iter().min_by_key(|(_, one)| one.at);
                if let Some(oldest) = oldest.map(|(key, _)| *key) {
                    right.remove(&oldest);
                }
            }
            let (user, at) = (user.clone(), Instant::now());
            right.insert(key, Right { user, at });
        }
        Ok(Checked::Right(user.name.clone()))
    }

    fn key(&self, name: &str, password: &str) -> Option<[u8; 32]> {
        let mut digest = Sha256::new();
        digest.update(self.salt.as_ref()?);
        digest.update(name.len().to_be_bytes());
        digest.update(name);
        digest.update(password);
        Some(digest.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "long enough it is";

    /// Reads the users anew, whatever was read a moment ago.
    fn known(
        identities: &Identities,
        address: [u8; 4],
        name: &str,
        password: &str,
    ) -> Option<Checked> {
        *lock(&identities.accounts) = None;
        let known = identities.known(IpAddr::from(address), name, password);
        known.unwrap()
    }

    fn check(identities: &Identities, address: [u8; 4], name: &str, password: &str) -> Checked {
        let checked = identities.check(IpAddr::from(address), name, password);
        checked.unwrap()
    }

    #[test]
    fn a_right_password_is_known_at_once_until_it_is_another_and_who_guesses_waits() {
        let state = tempfile::TempDir::new().unwrap();
        let state = state.path();
        let identities = Identities::new(state);
        let (good, bad) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        assert_eq!(known(&identities, good, "ct", GOOD), Some(Checked::Nobody));
        // Users of the page are others.
        Accounts::set_password(state, "ct", GOOD, false).unwrap();
        assert_eq!(known(&identities, good, "ct", GOOD), Some(Checked::Nobody));
        Accounts::set_dicom_password(state, "ct", GOOD).unwrap();
        assert_eq!(known(&identities, good, "ct", GOOD), None);
        let right = Checked::Right("ct".to_owned());
        assert_eq!(check(&identities, good, "ct", GOOD), right);
        assert_eq!(known(&identities, good, "ct", GOOD), Some(right.clone()));
        for (name, password) in [
            ("ct", "long enough it was"),
            ("ct", ""),
            ("nobody", GOOD),
            (&*"x".repeat(60_000), GOOD),
        ] {
            assert_eq!(check(&identities, bad, name, password), Checked::Wrong);
        }
        let wait = known(&identities, bad, "ct", "long enough it was");
        assert!(matches!(wait, Some(Checked::Wait(_))), "{wait:?}");
        // Who has a good one is not held up, not even beside the guesser.
        assert_eq!(known(&identities, bad, "ct", GOOD), Some(right));
        Accounts::set_dicom_password(state, "ct", "another one it is").unwrap();
        assert_eq!(known(&identities, good, "ct", GOOD), None);
        assert_eq!(check(&identities, good, "ct", GOOD), Checked::Wrong);
        Accounts::remove_dicom_user(state, "ct").unwrap();
        assert!(Accounts::remove_dicom_user(state, "ct").is_err());
        assert_eq!(known(&identities, good, "ct", GOOD), Some(Checked::Nobody));
        assert!(Accounts::read(state).unwrap().user("ct").is_some());
    }
}
