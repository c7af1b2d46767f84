//! Which instances go to which peers.

use std::str::FromStr;
use std::time::Duration;

use crate::config::{Config, ForwardPriority, ForwardRule, ForwardWhen};
use crate::dicom::AeTitle;
use crate::index::Values;
use crate::job::Window;
use crate::sending::Rewrite;

/// What is known of an instance that came.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// AE title that it came from.
    pub calling: &'a str,
    pub sop_class_uid: &'a str,
    /// Patient and study level.
    pub study: &'a Values,
    pub series: &'a Values,
    /// Instance level.
    pub instance: &'a Values,
}

/// To where, when and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Name of the rule; empty: `[forward] default`.
    pub rule: String,
    pub peer: AeTitle,
    pub when: ForwardWhen,
    /// For [`ForwardWhen::Study`]: so long nothing came for the study.
    pub quiet: Duration,
    pub window: Window,
    pub priority: ForwardPriority,
}

/// `[[forward.rule]]`, checked.
pub struct Rules {
    rules: Vec<ForwardRule>,
    default: Option<String>,
}

impl Rules {
    /// The error is a sentence.
    pub fn of(config: &Config) -> Result<Rules, String> {
        Ok(Rules {
            rules: config.forward.rules.clone(),
            default: config.forward.default.clone(),
        })
    }

    /// No rule, and no default: nothing has to be looked at.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.default.is_none()
    }

    /// One for each peer, of the first rule that fits.
    pub fn for_instance(&self, facts: &Facts) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for rule in self.rules.iter().filter(|rule| fits(rule, facts)) {
            for peer in rule.to.iter().filter_map(|to| AeTitle::from_str(to).ok()) {
                if routes.iter().all(|route| route.peer != peer) {
                    routes.push(route(rule, peer));
                }
            }
        }
        if routes.is_empty() {
            routes.extend(self.by_default());
        }
        routes
    }

    /// How what goes by a rule is sent; `None`: there is no rule of that name (any more).
    pub fn route(&self, name: &str, peer: &AeTitle) -> Option<Route> {
        if name.is_empty() {
            return self.by_default();
        }
        let rule = self.rules.iter().find(|rule| rule.name == name)?;
        Some(route(rule, peer.clone()))
    }

    /// What that rule changes on the way out.
    pub fn rewrite(&self, _rule: &str) -> Option<&dyn Rewrite> {
        None
    }

    fn by_default(&self) -> Option<Route> {
        Some(Route {
            rule: String::new(),
            peer: AeTitle::from_str(self.default.as_deref()?).ok()?,
            when: ForwardWhen::Study,
            quiet: Duration::from_secs(60),
            window: Window::ALWAYS,
            priority: ForwardPriority::Medium,
        })
    }
}

fn fits(rule: &ForwardRule, facts: &Facts) -> bool {
    let modality = facts.series.get(&0x0008_0060).map_or("", String::as_str);
    let is = |pattern: &Option<String>, value: &str| {
        pattern
            .as_ref()
            .is_none_or(|pattern| pattern.eq_ignore_ascii_case(value))
    };
    is(&rule.modality, modality) && is(&rule.calling, facts.calling)
}

fn route(rule: &ForwardRule, peer: AeTitle) -> Route {
    Route {
        rule: rule.name.clone(),
        peer,
        when: rule.when,
        quiet: Duration::from_secs(rule.quiet_seconds),
        window: rule.window,
        priority: rule.priority,
    }
}
