//! Another configuration while the archive is open: what of it can be, taken whole.

use crate::config::Config;
use crate::memory;

use super::Archive;
use super::coerce::{self, Rule};
use super::retention::Rules;

/// What was read of a configuration, and can be taken without a failure.
pub struct Ready {
    coerce: Vec<Rule>,
    retention: Rules,
}

impl Archive {
    /// Looks at what the configuration names, and changes nothing. The error is a sentence.
    pub fn ready(config: &Config) -> Result<Ready, String> {
        Ok(Ready {
            coerce: coerce::rules(&config.coerce)?,
            retention: Rules::new(&config.retention)
                .map_err(|error| format!("[[retention.rule]] when_free_below: {error}"))?,
        })
    }

    /// From now on this; what is under way goes on as it began.
    pub fn take(&self, ready: Ready, config: &Config) {
        self.coercion.set(ready.coerce);
        self.retention.set(ready.retention);
        self.mirror_config.set(config.mirror.clone());
        self.scrub_config.set(config.scrub.clone());
        self.rejection_config.set(config.rejection.clone());
        self.corrections_config.set(config.corrections.clone());
        self.duplicates.set(config.duplicates.clone());
        self.quarantine_bytes.set(config.limits.quarantine_bytes);
        self.bounds.set(config.limits.bounds());
        memory::set_limit(config.limits.memory_bytes);
    }

    /// Volumes that the configuration names and this archive does not have, or has elsewhere or in another role; and those
    /// that it does not name any more. Each in a line.
    pub fn other_volumes(&self, config: &Config) -> Vec<String> {
        use crate::config::RoleName;
        use crate::volume::layout::Role;
        let role = |role: RoleName| match role {
            RoleName::Archive => Role::Archive,
            RoleName::Mirror => Role::Mirror,
        };
        let identity = self.identity();
        let known = || identity.volumes.iter().filter(|known| !known.is_given_up());
        let mut lines = Vec::new();
        for entry in &config.volumes {
            match known().find(|known| known.name == entry.name) {
                None => lines.push(format!("volume {}: new", entry.name)),
                Some(known) if known.path != entry.path || known.role != role(entry.role) => {
                    lines.push(format!("volume {}: another path or role", entry.name));
                }
                Some(_) => {}
            }
        }
        for known in known() {
            if !config.volumes.iter().any(|entry| entry.name == known.name) {
                lines.push(format!("volume {}: not named any more", known.name));
            }
        }
        lines
    }
}
