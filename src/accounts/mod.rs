//! Who may use the administrator's page and the JSON API from elsewhere: users with passwords, programs with tokens. And
//! users of the DICOM port, who are others: their passwords lie in the settings of workstations, and mostly cross the
//! network in the clear (PS3.7 D.3.3.7), so that they must not open the page.
//!
//! `<state>/admin/accounts.json` (0600). Of a password the Argon2id hash is kept (RFC 9106), of a token, which is nothing
//! but chance, its SHA-256. Neither can be read back.

pub mod certificate;
mod guessers;
mod identities;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use ctutils::CtEq;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::volume::io::Disk;

pub use guessers::Guessers;
pub use identities::{Checked, Identities};

const FOLDER: &str = "admin";
const FILE: &str = "accounts.json";
const VERSION: u32 = 1;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Users, and tokens, that are kept.
const ACCOUNTS_MAX: usize = 1_000;
const NAME_LENGTH_MAX: usize = 64;
/// Shortest password, characters. Length is what keeps a guesser busy.
const PASSWORD_LENGTH_MIN: usize = 10;
/// Longest password that is looked at, bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// By which a token is recognised where one lies around.
const TOKEN_BEGIN: &str = "kura_";
const TOKEN_BYTES: usize = 32;
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    /// PHC string.
    hash: String,
    /// May look, and change nothing.
    #[serde(default)]
    pub read_only: bool,
    /// When the password was set, RFC 3339.
    pub set_at: String,
}

impl User {
    /// The error is a sentence.
    fn with(name: &str, password: &str, read_only: bool) -> Result<User, String> {
        check_name(name)?;
        if password.chars().count() < PASSWORD_LENGTH_MIN || password.len() > PASSWORD_BYTES_MAX {
            return Err(format!(
                "a password has {PASSWORD_LENGTH_MIN} characters at least; nothing was changed"
            ));
        }
        let hash: PasswordHash = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|error| format!("the password could not be hashed: {error}"))?;
        Ok(User {
            name: name.to_owned(),
            hash: hash.to_string(),
            read_only,
            set_at: jiff::Timestamp::now().to_string(),
        })
    }

    /// Another one after the password was set anew: who signed in with the old one is out.
    pub fn is_still(&self, other: &User) -> bool {
        self.hash == other.hash
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub name: String,
    /// SHA-256 of the token, hexadecimal.
    digest: String,
    #[serde(default)]
    pub read_only: bool,
    /// RFC 3339.
    pub made_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    version: u32,
    pub users: Vec<User>,
    pub tokens: Vec<Token>,
    /// Of the DICOM port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dicom_users: Vec<User>,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts {
            version: VERSION,
            users: Vec::new(),
            tokens: Vec::new(),
            dicom_users: Vec::new(),
        }
    }
}

/// Nothing that two people would type in two ways, or that could break a line of a log.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || "-_.@".contains(c);
    match (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.chars().all(fits) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is not a name: letters, digits, - _ . @, {NAME_LENGTH_MAX} bytes at most"
        )),
    }
}

fn digest(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many bytes of chance, hexadecimal.
pub fn chance(bytes_count: usize) -> Result<String, String> {
    let mut bytes = vec![0; bytes_count];
    getrandom::fill(&mut bytes).map_err(|error| format!("no chance to be had: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Accounts {
    /// Empty where nobody was added yet.
    pub fn read(state: &Path) -> Result<Accounts, String> {
        let path = state.join(FOLDER).join(FILE);
        let failed = |error: String| format!("cannot read {}: {error}", path.display());
        let bytes = match Disk::default().read_small(&path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Accounts::default());
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let accounts: Accounts =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        match accounts.version {
            VERSION => Ok(accounts),
            version => Err(failed(format!(
                "it is of version {version}, and this program reads {VERSION}"
            ))),
        }
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    pub fn dicom_user(&self, name: &str) -> Option<&User> {
        self.dicom_users.iter().find(|user| user.name == name)
    }

    /// Takes as long for a name that there is not as for a wrong password.
    pub fn check_password(&self, name: &str, password: &str) -> Option<&User> {
        Accounts::check(self.user(name), password)
    }

    /// The same, of the DICOM port.
    pub fn check_dicom_password(&self, name: &str, password: &str) -> Option<&User> {
        Accounts::check(self.dicom_user(name), password)
    }

    fn check<'a>(user: Option<&'a User>, password: &str) -> Option<&'a User> {
        // Of a password that nobody has.
        const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let hash = user.map_or(NOBODY, |user| &user.hash);
        let hash = PasswordHash::new(hash).ok()?;
        let password = password.get(..PASSWORD_BYTES_MAX.min(password.len()))?;
        let verified = Argon2::default().verify_password(password.as_bytes(), &hash);
        user.filter(|_| verified.is_ok())
    }

    /// Compares with every token, in the same time whether one fits or not.
    pub fn token(&self, secret: &str) -> Option<&Token> {
        let digest = digest(secret);
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.digest.as_bytes().ct_eq(digest.as_bytes())) {
                found = Some(token);
            }
        }
        found
    }

    /// Adds a user, or gives one another password. The error is a sentence.
    pub fn set_password(
        state: &Path,
        name: &str,
        password: &str,
        read_only: bool,
    ) -> Result<(), String> {
        let user = User::with(name, password, read_only)?;
        Changing::begin(state)?.end(|accounts| {
            accounts.users.retain(|other| other.name != name);
            accounts.users.push(user);
            Ok(())
        })
    }

    /// As [`Accounts::set_password`], of the DICOM port.
    pub fn set_dicom_password(state: &Path, name: &str, password: &str) -> Result<(), String> {
        let user = User::with(name, password, true)?;
        Changing::begin(state)?.end(|accounts| {
            accounts.dicom_users.retain(|other| other.name != name);
            accounts.dicom_users.push(user);
            Ok(())
        })
    }

    pub fn remove_dicom_user(state: &Path, name: &str) -> Result<(), String> {
        Changing::begin(state)?.end(|accounts| {
            let before = accounts.dicom_users.len();
            accounts.dicom_users.retain(|user| user.name != name);
            match accounts.dicom_users.len() < before {
                true => Ok(()),
                false => Err(format!(
                    "there is no user {name} of the DICOM port; nothing was changed"
                )),
            }
        })
    }

    pub fn remove_user(state: &Path, name: &str) -> Result<(), String> {
        Changing::begin(state)?.end(|accounts| {
            let before = accounts.users.len();
            accounts.users.retain(|user| user.name != name);
            match accounts.users.len() < before {
                true => Ok(()),
                false => Err(format!("there is no user {name}; nothing was changed")),
            }
        })
    }

    /// The token itself: it is told now, and never again.
    pub fn add_token(state: &Path, name: &str, read_only: bool) -> Result<String, String> {
        check_name(name)?;
        let secret = format!("{TOKEN_BEGIN}{}", chance(TOKEN_BYTES)?);
        let token = Token {
            name: name.to_owned(),
            digest: digest(&secret),
            read_only,
            made_at: jiff::Timestamp::now().to_string(),
        };
        Changing::begin(state)?.end(|accounts| {
            if accounts.tokens.iter().any(|other| other.name == name) {
                return Err(format!(
                    "there is a token {name} already; remove it first: kura admin token remove {name}"
                ));
            }
            accounts.tokens.push(token);
            Ok(())
        })?;
        Ok(secret)
    }

    pub fn remove_token(state: &Path, name: &str) -> Result<(), String> {
        Changing::begin(state)?.end(|accounts| {
            let before = accounts.tokens.len();
            accounts.tokens.retain(|token| token.name != name);
            match accounts.tokens.len() < before {
                true => Ok(()),
                false => Err(format!("there is no token {name}; nothing was changed")),
            }
        })
    }
}

/// The lock is held meanwhile: two commands must not undo each other.
struct Changing {
    disk: Disk,
    state: PathBuf,
    _lock: crate::volume::io::DiskFile,
}

impl Changing {
    fn begin(state: &Path) -> Result<Changing, String> {
        let disk = Disk::default();
        let folder = state.join(FOLDER);
        let failed = |error: std::io::Error| {
            let folder = folder.display();
            format!("cannot write to {folder}: {error}; nothing was changed")
        };
        disk.create_dir_durable(&folder).map_err(failed)?;
        let lock = disk.open_or_create(&folder.join("lock")).map_err(failed)?;
        let begun = Instant::now();
        while !lock.try_lock().map_err(failed)? {
            if begun.elapsed() > LOCK_PATIENCE {
                return Err("another command changes them; nothing was changed".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Changing {
            disk,
            state: state.to_owned(),
            _lock: lock,
        })
    }

    /// The whole new file or the whole old one, whenever the power goes.
    fn end(self, change: impl FnOnce(&mut Accounts) -> Result<(), String>) -> Result<(), String> {
        let mut accounts = Accounts::read(&self.state)?;
        change(&mut accounts)?;
        let counts = [&accounts.users, &accounts.dicom_users].map(Vec::len);
        if counts.into_iter().any(|count| count > ACCOUNTS_MAX)
            || accounts.tokens.len() > ACCOUNTS_MAX
        {
            return Err(format!("there are {ACCOUNTS_MAX}; nothing was changed"));
        }
        let bytes = serde_json::to_vec_pretty(&accounts).expect("strings always serialize");
        let folder = self.state.join(FOLDER);
        let path = folder.join(FILE);
        let new = path.with_extension("new");
        let written = (|| {
            let file = self.disk.open_or_create(&new)?;
            file.set_private()?;
            file.set_len(0)?;
            file.write_at(0, &bytes)?;
            file.sync_data()?;
            self.disk.rename(&new, &path)?;
            self.disk.sync_dir(&folder)
        })();
        written.map_err(|error: std::io::Error| {
            format!(
                "cannot write {}: {error}; nothing was changed",
                path.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_and_a_token_are_taken_until_they_are_removed_and_nothing_else_is() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::TempDir::new().unwrap();
        let state = state.path();
        assert!(Accounts::set_password(state, "suzuki", "short", false).is_err());
        assert!(Accounts::set_password(state, "a b", "long enough it is", false).is_err());
        Accounts::set_password(state, "suzuki", "long enough it is", true).unwrap();
        let secret = Accounts::add_token(state, "backup", false).unwrap();
        assert!(Accounts::add_token(state, "backup", false).is_err());
        let accounts = Accounts::read(state).unwrap();
        let user = accounts.check_password("suzuki", "long enough it is");
        assert!(user.is_some_and(|user| user.read_only));
        for (name, password) in [
            ("suzuki", "long enough it was"),
            ("suzuki", ""),
            ("sato", "long enough it is"),
        ] {
            assert_eq!(accounts.check_password(name, password), None);
        }
        assert_eq!(accounts.token(&secret).unwrap().name, "backup");
        assert_eq!(accounts.token(&secret[1..]), None);
        assert_eq!(accounts.token(""), None);
        let path = state.join("admin/accounts.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("long enough") && !text.contains(&secret));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Accounts::remove_token(state, "backup").unwrap();
        Accounts::remove_user(state, "suzuki").unwrap();
        assert!(Accounts::remove_user(state, "suzuki").is_err());
        let accounts = Accounts::read(state).unwrap();
        assert_eq!(accounts, Accounts::default());
    }
}
