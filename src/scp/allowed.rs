//! Who may do what: asked when an association is wanted (`[access]` of the configuration, users and their passwords), and
//! again at each command, since any command may come on any context.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::accounts::{Checked, Identities};
use crate::config::{At, By, Config, Decision, Who};
use crate::dicom::{Service, Services};
use crate::net::gate::{Caller, Denied, Gate, Granted, Judging};
use crate::net::pdu::{Reject, UserIdentity};
use crate::net::{Asked, dimse};

use super::ended::Why;
use super::status::{self, Status};

/// User Identity Type 2: user name and passcode. Source: PS3.7 table D.3-14.
const NAME_AND_PASSCODE: u8 = 2;
/// Addresses of a host name are looked up again after this long.
const NAMES_FOR: Duration = Duration::from_secs(60);
/// Host names that are remembered; there are no more than peers.
const NAMES_MAX: usize = 1_000;
/// For the answer of a name server; later the peer is a stranger this time.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);

/// What outlives an association: one for the server.
pub struct Keeper {
    identities: Identities,
    /// Argon2 takes 19 MiB and some hundredths of a second: one at a time.
    hashing: Arc<Semaphore>,
    names: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
    /// A name server that is slow is asked once, not by every caller.
    looking_up: Arc<Semaphore>,
}

impl Keeper {
    pub fn new(state: &Path) -> Keeper {
        Keeper {
            identities: Identities::new(state),
            hashing: Arc::new(Semaphore::new(1)),
            names: Mutex::default(),
            looking_up: Arc::new(Semaphore::new(1)),
        }
    }

    fn kept_addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, addresses) = names.get(host)?;
        (at.elapsed() < NAMES_FOR).then(|| addresses.clone())
    }

    fn look_up(&self, host: &str) {
        let found = (host, 0u16).to_socket_addrs();
        let addresses = found.map(|all| all.map(|one| one.ip().to_canonical()).collect());
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|_, (at, _)| at.elapsed() < NAMES_FOR);
        if names.len() < NAMES_MAX {
            let addresses = addresses.unwrap_or_default();
            names.insert(host.to_owned(), (Instant::now(), addresses));
        }
    }
}

/// For one association: with the configuration as it is when it is wanted.
pub struct Door {
    pub keeper: Arc<Keeper>,
    pub config: Arc<Config>,
}

impl Gate for Door {
    fn judge<'a>(&'a self, caller: Caller<'a>) -> Judging<'a> {
        Box::pin(self.judged(caller))
    }
}

impl Door {
    async fn judged(&self, caller: Caller<'_>) -> Result<Granted, Denied> {
        let access = &self.config.access;
        let names: &[String] = caller.certificate.map_or(&[], |proof| &proof.names);
        let who = |user| Who {
            calling: caller.calling,
            address: caller.address,
            fingerprint: caller.certificate.map(|proof| proof.fingerprint.as_str()),
            subject: caller.certificate.map_or("", |proof| &proof.subject),
            names,
            user,
        };
        let peer = self.peer(&caller).await;
        let peer = peer.as_deref();
        // Who would be refused with the right password, too, is not worth the work of looking at it.
        let claimed = caller.identity.and_then(credentials);
        let best = access.decide(&who(claimed.map(|(name, _)| name)), peer);
        if best.services == Services::NONE {
            return Err(stranger(&best, caller.address));
        }
        let user = self.user(&caller).await?;
        let decision = access.decide(&who(user.as_deref()), peer);
        if decision.services == Services::NONE {
            return Err(stranger(&decision, caller.address));
        }
        if access.require_user && user.is_none() {
            return Err(denied(
                Reject::USER_IDENTITY,
                "user",
                "refused: it gave no user name and password, and [access] require_user = true",
                "enter a user name and password in the other system (kura access user add makes them), or take require_user out of kura.toml",
            ));
        }
        Ok(Granted {
            services: decision.services,
            by: decision.by.to_string(),
            user,
        })
    }

    /// The peer that it is: by AE title and address.
    async fn peer(&self, caller: &Caller<'_>) -> Option<String> {
        let peer = self.config.peer(caller.calling)?;
        let is_here = match peer.is_at(caller.address) {
            At::Here => true,
            At::Elsewhere => false,
            // It makes no difference then.
            At::Named if self.config.access.lets_in_strangers(caller.address) => false,
            At::Named => self.is_named(&peer.host, caller.address).await,
        };
        is_here.then(|| peer.ae_title.to_string())
    }

    async fn is_named(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if let Some(addresses) = self.keeper.kept_addresses(host) {
            return addresses.contains(&address);
        }
        let (keeper, name) = (self.keeper.clone(), host.to_owned());
        let looked_up = async move {
            // It goes with the work: who gives up waiting does not let in another one beside it.
            let Ok(turn) = keeper.looking_up.clone().acquire_owned().await else {
                return;
            };
            let looking = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                if keeper.kept_addresses(&name).is_none() {
                    keeper.look_up(&name);
                }
            });
            let _ = looking.await;
        };
        let _ = tokio::time::timeout(LOOKUP_PATIENCE, looked_up).await;
        let addresses = self.keeper.kept_addresses(host).unwrap_or_default();
        addresses.contains(&address)
    }

    /// Whose password was right. What cannot be verified is nobody's, and refused where its confirmation is asked for.
    async fn user(&self, caller: &Caller<'_>) -> Result<Option<String>, Denied> {
        let Some(identity) = caller.identity else {
            return Ok(None);
        };
        let checked = match credentials(identity) {
            Some((name, password)) => self.checked(caller.address, name, password).await,
            None if identity.kind == NAME_AND_PASSCODE => Ok(Checked::Wrong),
            None if identity.positive_response_requested => {
                return Err(denied(
                    Reject::USER_IDENTITY,
                    "user",
                    format!(
                        "refused: it wants to be told that {} is accepted, which cannot be verified here",
                        kind(identity)
                    ),
                    "let it send a user name and password (kura access user add makes them), or ask for no answer",
                ));
            }
            None => return Ok(None),
        };
        match checked {
            Ok(Checked::Right(user)) => Ok(Some(user)),
            // As it is for who does not know of identities at all. Source: PS3.7 D.3.3.7.
            Ok(Checked::Nobody) if !self.config.access.asks_for_users() => Ok(None),
            Ok(Checked::Wrong | Checked::Nobody) => Err(denied(
                Reject::USER_IDENTITY,
                "user",
                "refused: the user name and password that it gave do not fit",
                "enter them anew in the other system, or set them here: kura access user add NAME",
            )),
            Ok(Checked::Wait(wait)) => Err(denied(
                Reject::USER_IDENTITY,
                "user",
                format!(
                    "refused for {} s: too many wrong passwords came from its address",
                    wait.as_secs() + 1
                ),
                "enter user name and password anew in the other system, or set them here: kura access user add NAME",
            )),
            Err(reason) => {
                tracing::error!(%reason, "users of the DICOM port cannot be checked");
                Err(denied(
                    Reject::USER_IDENTITY_LATER,
                    "user",
                    "refused: users and their passwords cannot be read here at the moment",
                    "the log of the server says why; look at the disk of the state folder",
                ))
            }
        }
    }

    async fn checked(
        &self,
        address: IpAddr,
        name: &str,
        password: &str,
    ) -> Result<Checked, String> {
        let given = Arc::new((name.to_owned(), password.to_owned()));
        if let Some(known) = self.known(address, &given).await? {
            return Ok(known);
        }
        let hashing = self.keeper.hashing.clone().acquire_owned().await;
        let hashing = hashing.map_err(|_| "the server ends".to_owned())?;
        // Those in front of it may have guessed from the same address, or known the same password.
        if let Some(known) = self.known(address, &given).await? {
            return Ok(known);
        }
        let keeper = self.keeper.clone();
        blocking(move || {
            let _hashing = hashing;
            let (name, password) = &*given;
            keeper.identities.check(address, name, password)
        })
        .await
    }

    async fn known(
        &self,
        address: IpAddr,
        given: &Arc<(String, String)>,
    ) -> Result<Option<Checked>, String> {
        let (keeper, given) = (self.keeper.clone(), given.clone());
        blocking(move || keeper.identities.known(address, &given.0, &given.1)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?
}

/// Name and passcode, where that is what it gives, in UTF-8.
fn credentials(identity: &UserIdentity) -> Option<(&str, &str)> {
    if identity.kind != NAME_AND_PASSCODE {
        return None;
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some((text(&identity.primary)?, text(&identity.secondary)?))
}

fn kind(identity: &UserIdentity) -> String {
    match identity.kind {
        1 => "a user name without a password".to_owned(),
        3 => "a Kerberos ticket".to_owned(),
        4 => "a SAML assertion".to_owned(),
        5 => "a JSON Web Token".to_owned(),
        other => format!("an identity of type {other}"),
    }
}

fn denied(
    reject: Reject,
    reason: &'static str,
    end: impl Into<String>,
    next: impl Into<String>,
) -> Denied {
    Denied {
        reject,
        reason,
        end: end.into(),
        next: next.into(),
    }
}

fn stranger(decision: &Decision, address: IpAddr) -> Denied {
    let (by, address) = (&decision.by, address.to_canonical());
    match by {
        By::Unknown(_) => denied(
            Reject::CALLING_AE_TITLE,
            "unknown-caller",
            format!("refused: nobody is known who calls so from {address} ({by})"),
            "if it is to come in, add [[access.rule]] with its address and what it may do to kura.toml, or make it a peer: kura peer add AE@HOST:PORT",
        ),
        _ => denied(
            Reject::CALLING_AE_TITLE,
            "access-rule",
            format!("refused by {by}"),
            "if it is to come in, change that rule in kura.toml, then: kura reload; kura access check says what fits a caller",
        ),
    }
}

/// Of which service a request is; `None`: of none here, or no request.
fn service_of(command_field: u16) -> Option<Service> {
    Some(match command_field {
        dimse::C_ECHO_RQ => Service::Echo,
        dimse::C_STORE_RQ => Service::Store,
        dimse::C_FIND_RQ => Service::Find,
        dimse::C_MOVE_RQ => Service::Move,
        dimse::C_GET_RQ => Service::Get,
        dimse::N_ACTION_RQ | dimse::N_EVENT_REPORT_RQ => Service::Commitment,
        _ => return None,
    })
}

/// The service that a request is of and this caller may not use. Who was let in without a word may use none.
pub fn forbidden(asked: &Asked, command_field: u16) -> Option<Service> {
    let services = asked.granted.as_ref().map(|granted| granted.services);
    service_of(command_field).filter(|service| !services.unwrap_or_default().has(*service))
}

fn by(asked: &Asked) -> &str {
    let granted = asked.granted.as_ref();
    granted.map_or("nothing", |granted| &granted.by)
}

/// The Error Comment has room for 64 characters.
pub fn not_authorized(service: Service) -> Status {
    Status::new(
        status::NOT_AUTHORIZED,
        format!("{service} is not allowed to this caller here"),
    )
}

pub fn why(asked: &Asked, service: Service) -> Why {
    Why::new(
        "not-allowed",
        format!("it wanted {service}, which {} does not allow it", by(asked)),
        "if it may, add that to allow of the rule in kura.toml, or an [[access.rule]] before it, then: kura reload",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;

    const PASSWORD: &str = "long enough it is";

    struct Place {
        runtime: tokio::runtime::Runtime,
        keeper: Arc<Keeper>,
        _state: tempfile::TempDir,
    }

    impl Place {
        fn new(users: &[&str]) -> Place {
            let state = tempfile::TempDir::new().unwrap();
            for user in users {
                Accounts::set_dicom_password(state.path(), user, PASSWORD).unwrap();
            }
            let runtime = tokio::runtime::Builder::new_current_thread();
            Place {
                runtime: { runtime }.enable_all().build().unwrap(),
                keeper: Arc::new(Keeper::new(state.path())),
                _state: state,
            }
        }

        fn judge(
            &self,
            text: &str,
            address: &str,
            identity: Option<&UserIdentity>,
        ) -> Result<Granted, Denied> {
            let door = Door {
                keeper: self.keeper.clone(),
                config: Arc::new(Config::of_text(text).unwrap()),
            };
            self.runtime.block_on(door.judge(Caller {
                calling: "MAC",
                called: "KURA",
                address: address.parse().unwrap(),
                certificate: None,
                identity,
            }))
        }
    }

    fn identity(kind: u8, password: &str, positive: bool) -> UserIdentity {
        UserIdentity {
            kind,
            positive_response_requested: positive,
            primary: b"sato".to_vec(),
            secondary: password.as_bytes().to_vec(),
        }
    }

    const NEAR: &str = "192.168.1.9";
    const FAR: &str = "203.0.113.9";
    const RULE: &str = "[[access.rule]]\nuser = \"sato\"\nallow = [\"find\"]\n";
    const REQUIRED: &str = "[access]\nrequire_user = true\n";

    /// Configuration, users there are, what comes from where, and the user it is, or the rejection.
    #[test]
    fn users_are_who_their_password_says() {
        let none: &[&str] = &[];
        let right = identity(2, PASSWORD, true);
        let wrong = identity(2, "something else", false);
        let name = |positive| identity(1, "", positive);
        let ticket = |positive| identity(3, "", positive);
        let no_text = UserIdentity {
            secondary: vec![0xff; 20],
            ..identity(2, "", false)
        };
        let reject = Err(Reject::USER_IDENTITY);
        let cases = [
            ("", none, Some(&right), Ok(None)),
            ("", &["sato"], Some(&right), Ok(Some("sato"))),
            ("", &["sato"], Some(&wrong), reject),
            ("", &["sato"], Some(&no_text), reject),
            ("", &["suzuki"], Some(&right), reject),
            ("", &["sato"], None, Ok(None)),
            ("", &["sato"], Some(&name(false)), Ok(None)),
            ("", &["sato"], Some(&name(true)), reject),
            ("", &["sato"], Some(&ticket(false)), Ok(None)),
            ("", &["sato"], Some(&ticket(true)), reject),
            (REQUIRED, &["sato"], Some(&right), Ok(Some("sato"))),
            (REQUIRED, &["sato"], None, reject),
            (REQUIRED, &["sato"], Some(&name(false)), reject),
            // Nobody could ever come in: that is what was asked for.
            (REQUIRED, none, Some(&right), reject),
            (RULE, &["sato"], None, Ok(None)),
        ];
        for (text, users, identity, expected) in cases {
            let judged = Place::new(users).judge(text, NEAR, identity);
            let found = match &judged {
                Ok(granted) => Ok(granted.user.as_deref()),
                Err(denied) => Err(denied.reject),
            };
            assert_eq!(
                found, expected,
                "{text:?} {users:?} {identity:?}: {judged:?}"
            );
        }
    }

    /// Method: a rule for a user, from where nobody else comes in.
    #[test]
    fn a_rule_for_a_user_lets_in_who_proves_to_be_that_user() {
        let place = Place::new(&["sato"]);
        let granted = place.judge(RULE, FAR, Some(&identity(2, PASSWORD, false)));
        let granted = granted.unwrap();
        assert_eq!(granted.services.to_string(), "find");
        assert_eq!(granted.by, "[[access.rule]] number 1");
        for (identity, reject) in [
            (
                Some(identity(2, "wrong it is not", false)),
                Reject::USER_IDENTITY,
            ),
            (Some(identity(1, "", false)), Reject::CALLING_AE_TITLE),
            (None, Reject::CALLING_AE_TITLE),
        ] {
            let denied = place.judge(RULE, FAR, identity.as_ref()).unwrap_err();
            assert_eq!(denied.reject, reject, "{denied:?}");
            assert!(!denied.end.contains("sato"), "{denied:?}");
        }
    }

    /// Method: a password from where no rule lets anybody in: it is not looked at, so it does not count as a guess.
    #[test]
    fn a_stranger_costs_no_look_at_its_password() {
        let place = Place::new(&["sato"]);
        let wrong = identity(2, "wrong it is not", false);
        for _ in 0..5 {
            let denied = place.judge("", FAR, Some(&wrong)).unwrap_err();
            assert_eq!(denied.reason, "unknown-caller", "{denied:?}");
        }
        for number in 0..5 {
            let denied = place.judge("", NEAR, Some(&wrong)).unwrap_err();
            assert_eq!(denied.reason, "user");
            assert_eq!(denied.end.contains("too many"), number == 4, "{denied:?}");
        }
    }

    /// Host of the peer, where its AE title comes from, and by what it is let in or refused.
    #[test]
    fn a_title_of_a_peer_from_elsewhere_is_a_stranger() {
        for (host, unknown, address, by) in [
            (FAR, "private", FAR, Ok("[[peer]] MAC")),
            (FAR, "private", "203.0.113.10", Err("unknown-caller")),
            (NEAR, "refuse", NEAR, Ok("[[peer]] MAC")),
            (NEAR, "refuse", "192.168.1.10", Err("unknown-caller")),
            ("localhost", "refuse", "127.0.0.1", Ok("[[peer]] MAC")),
            ("localhost", "refuse", NEAR, Err("unknown-caller")),
            ("nobody.invalid", "refuse", NEAR, Err("unknown-caller")),
            ("caller", "refuse", NEAR, Ok("[[peer]] MAC")),
            ("caller", "private", FAR, Err("unknown-caller")),
        ] {
            let text = format!(
                "[access]\nunknown = \"{unknown}\"\n[[peer]]\nae_title = \"MAC\"\nhost = \"{host}\"\nport = 104\n"
            );
            let judged = Place::new(&[]).judge(&text, address, None);
            let found = match &judged {
                Ok(granted) => Ok(granted.by.as_str()),
                Err(denied) => Err(denied.reason),
            };
            assert_eq!(found, by, "{text} {address}");
        }
    }

    #[test]
    fn a_request_of_another_service_than_granted_is_forbidden() {
        let granted = |services: &[Service]| Asked {
            granted: Some(Granted {
                services: services.iter().copied().collect(),
                by: "[[access.rule]] number 1".to_owned(),
                user: None,
            }),
            ..Asked::default()
        };
        let only = granted(&[Service::Echo, Service::Get]);
        for (field, expected) in [
            (dimse::C_ECHO_RQ, None),
            (dimse::C_GET_RQ, None),
            (dimse::C_STORE_RQ, Some(Service::Store)),
            (dimse::C_FIND_RQ, Some(Service::Find)),
            (dimse::C_MOVE_RQ, Some(Service::Move)),
            (dimse::N_ACTION_RQ, Some(Service::Commitment)),
            (dimse::N_EVENT_REPORT_RQ, Some(Service::Commitment)),
            (dimse::C_CANCEL_RQ, None),
            (0x8001, None),
        ] {
            assert_eq!(forbidden(&only, field), expected, "{field:04X}");
        }
        assert_eq!(
            forbidden(&Asked::default(), dimse::C_ECHO_RQ),
            Some(Service::Echo)
        );
        for service in Service::ALL {
            assert!(not_authorized(service).comment.len() <= 64);
        }
    }
}
