//! The services of an archive: by these names it is said who may do what.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::uid::{is_storage_class, sop};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Verification: C-ECHO.
    Echo,
    Store,
    Find,
    Move,
    Get,
    /// Storage commitment, both ways: requests, and reports to ours.
    Commitment,
}

impl Service {
    pub const ALL: [Service; 6] = [
        Service::Echo,
        Service::Store,
        Service::Find,
        Service::Move,
        Service::Get,
        Service::Commitment,
    ];

    /// Whose SOP class it is; `None`: of no service here.
    pub fn of(abstract_syntax: &str) -> Option<Service> {
        Some(match abstract_syntax {
            sop::VERIFICATION => Service::Echo,
            sop::PATIENT_ROOT_FIND | sop::STUDY_ROOT_FIND | sop::PATIENT_STUDY_ONLY_FIND => {
                Service::Find
            }
            sop::PATIENT_ROOT_MOVE | sop::STUDY_ROOT_MOVE | sop::PATIENT_STUDY_ONLY_MOVE => {
                Service::Move
            }
            sop::PATIENT_ROOT_GET | sop::STUDY_ROOT_GET | sop::PATIENT_STUDY_ONLY_GET => {
                Service::Get
            }
            sop::STORAGE_COMMITMENT_PUSH => Service::Commitment,
            other if is_storage_class(other) => Service::Store,
            _ => return None,
        })
    }
}

/// As it is written in the configuration.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Service::Echo => "echo",
            Service::Store => "store",
            Service::Find => "find",
            Service::Move => "move",
            Service::Get => "get",
            Service::Commitment => "commitment",
        })
    }
}

/// A set of services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Services(u8);

impl Services {
    pub const NONE: Services = Services(0);
    pub const ALL: Services = Services((1 << Service::ALL.len()) - 1);

    pub fn has(self, service: Service) -> bool {
        self.0 & (1 << service as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Service> {
        Service::ALL.into_iter().filter(move |one| self.has(*one))
    }
}

impl FromIterator<Service> for Services {
    fn from_iter<T: IntoIterator<Item = Service>>(services: T) -> Services {
        let bits = services.into_iter().map(|service| 1 << service as u8);
        Services(bits.fold(0, |all, bit: u8| all | bit))
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|service| service.to_string()).collect();
        match names.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sop_class_belongs_to_one_service_or_to_none() {
        for (class, service) in [
            (sop::VERIFICATION, Some(Service::Echo)),
            ("1.2.840.10008.5.1.4.1.1.2", Some(Service::Store)),
            ("1.2.3.4", Some(Service::Store)),
            (sop::STUDY_ROOT_FIND, Some(Service::Find)),
            (sop::PATIENT_STUDY_ONLY_MOVE, Some(Service::Move)),
            (sop::PATIENT_ROOT_GET, Some(Service::Get)),
            (sop::STORAGE_COMMITMENT_PUSH, Some(Service::Commitment)),
            // Modality worklist.
            ("1.2.840.10008.5.1.4.31", None),
            ("", None),
        ] {
            assert_eq!(Service::of(class), service, "{class}");
        }
    }

    #[test]
    fn a_set_has_what_was_put_in_and_says_so() {
        let some: Services = [Service::Get, Service::Echo].into_iter().collect();
        assert_eq!(some.to_string(), "echo, get");
        assert!(some.has(Service::Get) && !some.has(Service::Store));
        let all: Services = Service::ALL.into_iter().collect();
        assert_eq!(all, Services::ALL);
        assert_eq!(Services::NONE.to_string(), "nothing");
        for service in Service::ALL {
            let name = format!("\"{service}\"");
            assert_eq!(serde_json::to_string(&service).unwrap(), name);
        }
    }
}
