//! Which instances go to which peers.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{Config, Forward, ForwardPriority, ForwardRule, ForwardWhen, Given, PeerEntry};
use crate::dicom::{AeTitle, Tag, tags};
use crate::index::Values;
use crate::job::Window;
use crate::sending::Rewrite;

use super::rewrite::PatientIdRewrite;

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

impl Facts<'_> {
    /// A value of the highest level that has one; most live at one level only.
    fn text(&self, tag: Tag) -> &str {
        let key = (u32::from(tag.group()) << 16) | u32::from(tag.element());
        let mut levels = [self.study, self.series, self.instance].into_iter();
        let value = levels.find_map(|values| values.get(&key));
        value.map_or("", String::as_str)
    }

    fn given(&self) -> Given<'_> {
        Given {
            calling: self.calling,
            sop_class: self.sop_class_uid,
            modality: self.text(tags::MODALITY),
            station: self.text(tags::STATION_NAME),
            institution: self.text(tags::INSTITUTION_NAME),
            study_description: self.text(tags::STUDY_DESCRIPTION),
            series_description: self.text(tags::SERIES_DESCRIPTION),
            patient_id: self.text(tags::PATIENT_ID),
            study_date: self.text(tags::STUDY_DATE),
        }
    }
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
#[derive(Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// For what no rule takes.
    default: Option<Route>,
}

#[derive(Clone)]
struct Rule {
    config: ForwardRule,
    routes: Vec<Route>,
    /// The error says why nothing goes by this rule now.
    rewrite: Result<Option<PatientIdRewrite>, String>,
}

impl Rules {
    /// Reads the maps; a rule whose map cannot be read is held. The error is a sentence.
    pub fn of(config: &Config) -> Result<Rules, String> {
        Rules::between(&config.forward, config.peers.all())
    }

    /// As [`Rules::of`].
    pub fn between(forward: &Forward, peers: Vec<PeerEntry>) -> Result<Rules, String> {
        let Forward { default, rules, .. } = forward;
        let titles: HashMap<String, AeTitle> = peers
            .into_iter()
            .map(|peer| (folded(peer.ae_title.as_str()), peer.ae_title))
            .collect();
        let title = |text: &str| {
            let known = titles.get(&folded(text)).cloned();
            known.ok_or_else(|| format!("{} is not a [[peer]]", text.trim()))
        };
        let mut opened = Vec::new();
        for config in rules {
            let mut routes = Vec::new();
            for to in &config.to {
                routes.push(Route {
                    rule: config.name.clone(),
                    peer: title(to)
                        .map_err(|reason| format!("[[forward.rule]] {}: {reason}", config.name))?,
                    when: config.when,
                    quiet: Duration::from_secs(config.quiet_seconds),
                    window: config.window,
                    priority: config.priority,
                });
            }
            let rewrite = config.rewrite.as_ref();
            let rewrite = rewrite.map(|rewrite| PatientIdRewrite::open(&config.name, rewrite));
            opened.push(Rule {
                config: config.clone(),
                routes,
                rewrite: rewrite.transpose(),
            });
        }
        let default = default.as_deref().map(title).transpose();
        Ok(Rules {
            rules: opened,
            default: default
                .map_err(|reason| format!("[forward] default: {reason}"))?
                .map(by_default),
        })
    }

    /// No rule, and no default: nothing has to be looked at.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.default.is_none()
    }

    /// One for each peer, of the first rule that fits; the default's where none does.
    pub fn for_instance(&self, facts: &Facts) -> Vec<Route> {
        let given = facts.given();
        let mut routes: Vec<Route> = Vec::new();
        let mut taken = false;
        for rule in self.rules.iter().filter(|rule| rule.config.takes(&given)) {
            taken = true;
            for route in &rule.routes {
                if !routes.iter().any(|other| other.peer == route.peer) {
                    routes.push(route.clone());
                }
            }
        }
        if !taken {
            routes.extend(self.default.clone());
        }
        routes
    }

    /// How what goes by a rule is sent; `None`: there is no rule of that name (any more), or it does not name the peer.
    pub fn route(&self, rule: &str, peer: &AeTitle) -> Option<Route> {
        let routes = match rule.is_empty() {
            true => self.default.as_slice(),
            false => self.rule(rule)?.routes.as_slice(),
        };
        routes.iter().find(|route| &route.peer == peer).cloned()
    }

    /// What that rule changes on the way out.
    pub fn rewrite(&self, rule: &str) -> Option<&dyn Rewrite> {
        let rewrite = self.rule(rule)?.rewrite.as_ref().ok()?;
        rewrite.as_ref().map(|rewrite| rewrite as &dyn Rewrite)
    }

    /// Why nothing may go by it now: what it rewrites must not go without that.
    pub fn why_held(&self, rule: &str) -> Option<&str> {
        let reason = self.rule(rule)?.rewrite.as_ref().err()?;
        Some(reason.as_str())
    }

    /// Names of the rules that are held, each with the reason.
    pub fn held(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().filter_map(|rule| {
            let reason = rule.rewrite.as_ref().err()?;
            Some((rule.config.name.as_str(), reason.as_str()))
        })
    }

    /// With the maps of held rules read again; `None`: all are held still.
    pub fn read_again(&self) -> Option<Rules> {
        let mut some = false;
        let rules = self.rules.iter().map(|rule| {
            let mut rule = rule.clone();
            if let (Err(_), Some(config)) = (&rule.rewrite, &rule.config.rewrite) {
                rule.rewrite = PatientIdRewrite::open(&rule.config.name, config).map(Some);
                some |= rule.rewrite.is_ok();
            }
            rule
        });
        let rules = Rules {
            rules: rules.collect(),
            default: self.default.clone(),
        };
        some.then_some(rules)
    }

    fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.config.name == name)
    }
}

fn by_default(peer: AeTitle) -> Route {
    Route {
        rule: String::new(),
        peer,
        when: ForwardWhen::Study,
        quiet: Duration::from_secs(crate::config::FORWARD_QUIET_SECONDS),
        window: Window::ALWAYS,
        priority: ForwardPriority::default(),
    }
}

fn folded(ae_title: &str) -> String {
    ae_title.trim().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        let mut config = String::new();
        for title in ["HOROS1", "HOROS2", "RESEARCH", "REST"] {
            config += &format!("[[peer]]\nae_title = \"{title}\"\nhost = \"h\"\nport = 104\n");
        }
        Rules::of(&Config::of_text(&(config + text))?)
    }

    fn values(values: &[(Tag, &str)]) -> Values {
        let key = |tag: Tag| (u32::from(tag.group()) << 16) | u32::from(tag.element());
        let values = values
            .iter()
            .map(|(tag, text)| (key(*tag), (*text).to_owned()));
        values.collect()
    }

    fn peers(
        rules: &Rules,
        calling: &str,
        study: &[(Tag, &str)],
        series: &[(Tag, &str)],
    ) -> Vec<String> {
        let (study, series) = (values(study), values(series));
        let routes = rules.for_instance(&Facts {
            calling,
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2",
            study: &study,
            series: &series,
            instance: &Values::new(),
        });
        let title = |route: Route| format!("{}:{}", route.rule, route.peer.as_str());
        routes.into_iter().map(title).collect()
    }

    /// Method: one instance against rules of one condition each, those that fit and those that do not.
    #[test]
    fn an_instance_goes_where_every_condition_of_a_rule_fits() {
        let study = [
            (tags::PATIENT_ID, "A0047"),
            (tags::STUDY_DATE, "20260115"),
            (tags::STUDY_DESCRIPTION, "Thorax CT nativ"),
        ];
        let series = [
            (tags::MODALITY, "CT"),
            (tags::STATION_NAME, "CT-RAUM2"),
            (tags::INSTITUTION_NAME, "東京病院"),
            (tags::SERIES_DESCRIPTION, "Lung 1.0"),
        ];
        for (condition, fits) in [
            ("calling = \"ct?\"", true),
            ("calling = \"CT\"", false),
            ("modality = \"ct\"", true),
            ("modality = \"M*\"", false),
            ("sop_class = \"1.2.840.10008.5.1.4.1.1.2*\"", true),
            ("sop_class = \"1.2.840.10008.5.1.4.1.1.4\"", false),
            ("station = \"*raum2\"", true),
            ("institution = \"東?病院\"", true),
            ("institution = \"大阪*\"", false),
            ("description = \"thorax*\"", true),
            ("description = \"lung*\"", true),
            ("description = \"abdomen*\"", false),
            ("patient_id = \"A*\"", true),
            ("patient_id = \"B*\"", false),
            ("study_date = \"20260101-20260131\"", true),
            ("study_date = \"20260115\"", true),
            ("study_date = \"20260116-\"", false),
            ("study_date = \"-20260115\"", true),
            ("modality = \"CT\"\npatient_id = \"B*\"", false),
        ] {
            let rules = rules(&format!(
                "[[forward.rule]]\nname = \"r\"\nto = [\"horos1\"]\n{condition}\n"
            ));
            let found = peers(&rules.unwrap(), "CT1 ", &study, &series);
            assert_eq!(found == ["r:HOROS1"], fits, "{condition}: {found:?}");
        }
    }

    #[test]
    fn each_peer_gets_it_by_the_first_rule_that_fits_and_the_default_what_none_takes() {
        let rules = rules(
            "[forward]\ndefault = \"REST\"\n\
             [[forward.rule]]\nname = \"ct\"\nto = [\"HOROS1\", \"HOROS2\"]\nmodality = \"CT\"\nquiet_seconds = 5\n\
             [[forward.rule]]\nname = \"all\"\nto = [\"HOROS2\", \"RESEARCH\"]\nmodality = \"?T\"\nwhen = \"instance\"\n\
             rewrite = { prefix = \"R\" }\n",
        )
        .unwrap();
        let of = |modality| peers(&rules, "X", &[], &[(tags::MODALITY, modality)]);
        assert_eq!(of("CT"), ["ct:HOROS1", "ct:HOROS2", "all:RESEARCH"]);
        assert_eq!(of("PT"), ["all:HOROS2", "all:RESEARCH"]);
        assert_eq!(of("US"), [":REST"]);
        let title = |text: &str| text.parse::<AeTitle>().unwrap();
        let route = rules.route("ct", &title("HOROS2")).unwrap();
        assert_eq!(route.quiet, Duration::from_secs(5));
        assert_eq!(rules.route("ct", &title("RESEARCH")), None);
        assert!(rules.route("", &title("REST")).is_some());
        assert!(rules.rewrite("all").is_some() && rules.rewrite("ct").is_none());
        assert!(!rules.is_empty() && Rules::default().is_empty());
    }

    /// Method: 64 peers in one rule.
    #[test]
    fn one_rule_feeds_64_peers() {
        let mut text = String::new();
        let titles: Vec<String> = (0..64).map(|i| format!("MAC{i}")).collect();
        for title in &titles {
            text += &format!("[[peer]]\nae_title = \"{title}\"\nhost = \"h\"\nport = 104\n");
        }
        text += &format!("[[forward.rule]]\nname = \"all\"\nto = {titles:?}\n");
        let found = peers(&rules(&text).unwrap(), "X", &[], &[]);
        assert_eq!(found.len(), 64);
    }
}
