//! `/metrics` in the text of OpenMetrics, which Prometheus reads, and `/healthz` for whoever only asks whether all is well.
//!
//! Counters are read as they are. What is true of disks, copies and queues is asked of the archive, by one thread at a
//! time and the less often the longer it takes; a scrape waits a few seconds for it, and after that shows what is known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use tokio::sync::watch;

use super::Site;
use crate::archive::VolumeStatus;
use crate::audit::{AuditStatus, Who};
use crate::control::{Gauges, Request, Response as Answer};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A scrape waits so long for the archive; Prometheus gives up after ten seconds where nothing else is set.
const PATIENCE: Duration = Duration::from_secs(5);
/// The archive is not asked again before so many times the time that its answer took.
const REST_FACTOR: u32 = 10;
const REST_MIN: Duration = Duration::from_secs(1);
/// What is older says nothing about now.
const OLD: Duration = Duration::from_secs(120);

const STATES: [&str; 3] = ["ok", "degraded", "lost"];
const VOLUME_STATES: [&str; 8] = [
    "ok", "retired", "draining", "adopted", "failed", "away", "ejected", "replaced",
];
const SECONDS_PER_DAY: u64 = 86_400;

pub fn routes() -> Router<Site> {
    Router::new().route("/metrics", get(metrics))
}

/// Without a sign-in: it says less than that the port answers.
pub fn health_routes() -> Router<Site> {
    Router::new().route("/healthz", get(health))
}

/// What the archive last said.
#[derive(Default)]
pub struct Scraped {
    state: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    last: Option<Known>,
    /// There while it is asked; ends when it has answered.
    asking: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
struct Known {
    gauges: Arc<Gauges>,
    at: Instant,
    took: Duration,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < (self.took * REST_FACTOR).max(REST_MIN)
    }
}

impl Scraped {
    fn lock(&self) -> std::sync::MutexGuard<'_, Asking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, waited for a few seconds if it is old.
    async fn get(site: &Site) -> Option<Known> {
        let asking = {
            let mut state = site.scraped.lock();
            if let Some(last) = &state.last
                && last.is_fresh()
            {
                return Some(last.clone());
            }
            match &state.asking {
                Some(asking) => asking.clone(),
                None => {
                    let (done, asking) = watch::channel(());
                    state.asking = Some(asking.clone());
                    tokio::spawn(ask(site.clone(), done));
                    asking
                }
            }
        };
        let mut asking = asking;
        // Ends with an error when the other end is dropped, which is what is waited for.
        let _ = tokio::time::timeout(PATIENCE, asking.changed()).await;
        site.scraped.lock().last.clone()
    }
}

async fn ask(site: Site, done: watch::Sender<()>) {
    let begun = Instant::now();
    let answer = site.ask(&Who::here(), Request::Gauges).await;
    let mut state = site.scraped.lock();
    if let Answer::Gauges(gauges) = answer {
        state.last = Some(Known {
            gauges: Arc::from(gauges),
            at: Instant::now(),
            took: begun.elapsed(),
        });
    }
    state.asking = None;
    drop(done);
}

async fn health(State(site): State<Site>) -> Response {
    let known = Scraped::get(&site).await;
    let known = known.filter(|known| known.at.elapsed() < OLD);
    let (status, state, can_store) = match &known {
        None => (StatusCode::SERVICE_UNAVAILABLE, "unknown", false),
        Some(known) => {
            let can_store = known.gauges.can_store;
            let status = match can_store {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, known.gauges.status.state.as_str(), can_store)
        }
    };
    // No sentences: they name volumes and folders, and nobody has signed in.
    let body = serde_json::json!({ "version": 1, "state": state, "storing": can_store });
    (status, axum::Json(body)).into_response()
}

async fn metrics(State(site): State<Site>) -> Response {
    let known = Scraped::get(&site).await;
    let mut body = site.desk.metrics.counters.text();
    let registry = match &known {
        Some(known) => now(&known.gauges, known.at.elapsed()),
        None => Registry::with_prefix("kura"),
    };
    let written = text::encode_registry(&mut body, &registry)
        .and_then(|()| match &known {
            Some(known) => text::encode_registry(&mut body, &of_process(&known.gauges)),
            None => Ok(()),
        })
        .and_then(|()| text::encode_eof(&mut body));
    match written {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

type Label = Vec<(&'static str, String)>;
type Values = Family<Label, Gauge<f64, AtomicU64>>;

/// Puts gauges into a registry; each name once, with all its labels.
struct Page {
    registry: Registry,
}

impl Page {
    fn one(&mut self, name: &str, help: &str, unit: Option<Unit>, value: impl Into<Option<f64>>) {
        let Some(value) = value.into() else { return };
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, gauge),
            None => self.registry.register(name, help, gauge),
        }
    }

    fn each(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Label, f64)>,
    ) {
        let family = Values::default();
        for (label, value) in values {
            family.get_or_create(&label).set(value);
        }
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, family),
            None => self.registry.register(name, help, family),
        }
    }
}

fn label(name: &'static str, value: &str) -> Label {
    vec![(name, value.to_owned())]
}

fn number(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Of a moment in RFC 3339.
fn moment(text: &str) -> Option<f64> {
    let moment: Timestamp = text.parse().ok()?;
    Some(moment.as_second() as f64)
}

fn age(text: &str) -> Option<f64> {
    Some((Timestamp::now().as_second() as f64 - moment(text)?).max(0.0))
}

fn now(gauges: &Gauges, old: Duration) -> Registry {
    let mut page = Page {
        registry: Registry::with_prefix("kura"),
    };
    let status = &gauges.status;
    page.one(
        "gauges_age",
        "How long ago the archive said what follows",
        Some(Unit::Seconds),
        old.as_secs_f64(),
    );
    page.each(
        "build_info",
        "Always 1",
        None,
        [(label("version", env!("CARGO_PKG_VERSION")), 1.0)],
    );
    page.each(
        "state",
        "1 for the state of the archive",
        None,
        STATES.map(|state| (label("state", state), flag(status.state == state))),
    );
    page.one(
        "storing",
        "1: an instance that comes now finds room on a volume that is written",
        None,
        flag(gauges.can_store),
    );
    page.one(
        "actions",
        "What a person is to do; kura status says it",
        None,
        number(status.actions.len() as u64),
    );
    volumes(&mut page, gauges);
    copies(&mut page, gauges);
    queues(&mut page, gauges);
    let index = &status.index;
    page.one(
        "index_studies",
        "Studies known",
        None,
        number(index.studies_count),
    );
    page.one(
        "index_series",
        "Series known",
        None,
        number(index.series_count),
    );
    page.one(
        "index_instances",
        "Instances known",
        None,
        number(index.instances_count),
    );
    page.one(
        "index_instances",
        "Bytes of these instances, each counted once",
        Some(Unit::Bytes),
        number(index.instances_bytes),
    );
    page.one(
        "index_rebuilding",
        "1: the index is being read in, and queries do not find everything",
        None,
        flag(index.rebuilding_percent.is_some()),
    );
    page.one(
        "ledger_bad_lines",
        "Lines of ledgers that were damaged and skipped since the start",
        None,
        number(index.ledger_bad_lines_count),
    );
    page.one(
        "quarantined_instances",
        "Refused instances that are kept; of many only a thousand are counted",
        None,
        number(status.quarantine.len() as u64),
    );
    page.one(
        "conflicts",
        "SOP Instance UIDs under which different data sets came",
        None,
        number(index.conflicts_count),
    );
    page.registry
}

fn volumes(page: &mut Page, gauges: &Gauges) {
    let all = &gauges.status.volumes;
    let of = |volume: &VolumeStatus| {
        let named = ("volume", volume.name.clone());
        vec![named, ("role", volume.role.clone())]
    };
    let mut bytes = |name: &str, help: &str, get: fn(&VolumeStatus) -> Option<u64>| {
        let values = all
            .iter()
            .filter_map(|volume| Some((of(volume), number(get(volume)?))));
        page.each(name, help, Some(Unit::Bytes), values.collect::<Vec<_>>());
    };
    bytes("volume_size", "Size of its file system", |volume| {
        Some(volume.used_bytes? + volume.free_bytes?)
    });
    bytes("volume_free", "Free on its file system", |volume| {
        volume.free_bytes
    });
    bytes("volume_reserve", "What of that stays free", |volume| {
        volume.reserve_bytes
    });
    bytes(
        "volume_instances",
        "Bytes of the instances on it",
        |volume| volume.instances_bytes,
    );
    let states = all.iter().flat_map(|volume| {
        VOLUME_STATES.map(|state| {
            let mut label = of(volume);
            label.push(("state", state.to_owned()));
            (label, flag(volume.state == state))
        })
    });
    page.each(
        "volume_state",
        "1 for the state of the volume",
        None,
        states,
    );
    let counts = all
        .iter()
        .filter_map(|v| Some((of(v), number(v.instances_count?))));
    page.each("volume_instances", "Instances on it", None, counts);
    let journals = || {
        all.iter()
            .filter_map(|v| Some((v, v.intake_journal.as_ref()?)))
    };
    page.each(
        "intake_waiting_instances",
        "Instances in the intake journal that have no file yet",
        None,
        journals().map(|(v, journal)| (of(v), number(journal.waiting_count))),
    );
    page.each(
        "intake_oldest",
        "For how long the oldest of them has been there",
        Some(Unit::Seconds),
        journals().map(|(v, journal)| (of(v), number(journal.oldest_seconds))),
    );
    let checked = &gauges.status.checked.volumes;
    let of = |name: &str| label("volume", name);
    page.each(
        "volume_bad_copies",
        "Found bad in the round of reading everything again that is under way, or the last",
        None,
        checked.iter().map(|v| {
            let last = v.last_round.as_ref().map_or(0, |last| last.bad);
            let bad = if v.percent.is_some() {
                v.bad_count
            } else {
                last
            };
            (of(&v.name), number(bad))
        }),
    );
    page.each(
        "volume_longest_unread",
        "Since when a file on it may not have been read again",
        Some(Unit::Seconds),
        checked.iter().filter_map(|v| {
            let days = v.oldest_unread_days?;
            Some((of(&v.name), number(days * SECONDS_PER_DAY)))
        }),
    );
    page.each(
        "volume_last_scrub_timestamp",
        "When all of it had last been read again",
        Some(Unit::Seconds),
        checked
            .iter()
            .filter_map(|v| Some((of(&v.name), moment(&v.last_round.as_ref()?.ended)?))),
    );
    page.each(
        "volume_scrub_rounds",
        "How often all of it has been read again",
        None,
        checked.iter().map(|v| {
            let last = v.last_round.as_ref().map_or(0, |last| last.number);
            (of(&v.name), number(last))
        }),
    );
    page.each(
        "volume_failing",
        "1: its disk fails, and should be replaced",
        None,
        checked.iter().map(|v| {
            let failing = gauges.status.checked.bad.failing.contains(&v.name);
            (of(&v.name), flag(failing))
        }),
    );
}

fn copies(page: &mut Page, gauges: &Gauges) {
    let (copies, checked) = (&gauges.status.copies, &gauges.status.checked);
    if copies.known {
        let counts = [
            ("two", copies.two_count),
            ("two-on-one-disk", copies.one_disk_count),
            ("one", copies.one_count),
            ("away", copies.away_count),
            ("none", copies.lost_count),
        ];
        page.each(
            "copies_instances",
            "Instances by how many good copies can be read now; away: only on a volume that is not here",
            None,
            counts.map(|(name, count)| (label("copies", name), number(count))),
        );
        let oldest = copies.one_oldest.as_deref().and_then(age);
        page.one(
            "copies_oldest_single",
            "Age of the oldest instance that waits for its second copy; 0: none does",
            Some(Unit::Seconds),
            oldest.unwrap_or(0.0),
        );
    }
    page.one(
        "bad_copies",
        "Copies that were found bad and are not healed yet",
        None,
        number(checked.bad.bad_count),
    );
    page.one(
        "unverified_copies",
        "Copies that were made and not read again yet",
        None,
        number(checked.not_verified_count),
    );
    let ended = checked.last_scrub_ended.as_deref();
    page.one(
        "scrub_last_timestamp",
        "Since when everything that is here has been read again",
        Some(Unit::Seconds),
        ended.and_then(moment),
    );
    page.one(
        "scrub_last_bad_copies",
        "Bad copies in those rounds",
        None,
        number(checked.last_scrub_bad_count),
    );
    if let Some(last) = &gauges.last_mirror {
        page.one(
            "mirror_last_timestamp",
            "When second copies were last made, to the end",
            Some(Unit::Seconds),
            moment(&last.ended),
        );
        let results = [("copied", last.copied_count), ("failed", last.failed_count)];
        page.each(
            "mirror_last_instances",
            "What became of the instances then",
            None,
            results.map(|(name, count)| (label("outcome", name), number(count))),
        );
    }
}

fn queues(page: &mut Page, gauges: &Gauges) {
    let peers = &gauges.peers;
    let of = |name: &str| label("peer", name);
    let counts = peers.iter().map(|p| (of(&p.peer), number(p.waiting_count)));
    page.each(
        "queue_studies",
        "Studies that wait to be sent to a peer",
        None,
        counts,
    );
    let failed = peers.iter().map(|p| (of(&p.peer), number(p.failed_count)));
    page.each(
        "queue_failed_studies",
        "Studies of which sending failed",
        None,
        failed,
    );
    let oldest = peers
        .iter()
        .map(|p| (of(&p.peer), number(p.oldest_seconds.unwrap_or(0))));
    page.each(
        "queue_oldest",
        "Age of the oldest that waits; 0: nothing does",
        Some(Unit::Seconds),
        oldest,
    );
    let away = peers
        .iter()
        .map(|p| (of(&p.peer), flag(p.unreachable.is_some())));
    page.each(
        "peer_unreachable",
        "1: the peer cannot be reached",
        None,
        away,
    );
    page.one(
        "commitment_requests",
        "Requests of storage commitment that are not answered yet",
        None,
        number(gauges.commitment.waiting_count),
    );
    let oldest = gauges.commitment.oldest.as_deref().and_then(age);
    page.one(
        "commitment_oldest",
        "Age of the oldest of them; 0: there is none",
        Some(Unit::Seconds),
        oldest.unwrap_or(0.0),
    );
    audit(page, &gauges.audit);
}

fn audit(page: &mut Page, audit: &AuditStatus) {
    page.one(
        "audit_waiting_events",
        "Events that are not written to the audit yet",
        None,
        number(audit.waiting_count),
    );
    page.one(
        "audit_lost_events",
        "Events since the start that could not be noted in the audit",
        None,
        number(audit.lost_count),
    );
    let Some(export) = &audit.export else { return };
    page.one(
        "audit_export_up",
        "1: audit messages reach the server that they go to",
        None,
        flag(export.failure.is_empty()),
    );
    page.one(
        "audit_export_backlog",
        "Of the audit, not yet sent",
        Some(Unit::Bytes),
        number(export.backlog_bytes),
    );
}

/// Under the names that every process has (Prometheus, "standard and runtime collectors").
fn of_process(gauges: &Gauges) -> Registry {
    let mut page = Page {
        registry: Registry::with_prefix("process"),
    };
    let process = &gauges.process;
    page.one(
        "resident_memory",
        "Memory that it has",
        Some(Unit::Bytes),
        process.resident_bytes.map(number),
    );
    page.one(
        "open_fds",
        "Open files and connections",
        None,
        process.open_files_count.map(number),
    );
    page.one(
        "max_fds",
        "At most",
        None,
        process.open_files_max.map(number),
    );
    if let Some(seconds) = process.cpu_seconds {
        let counter = prometheus_client::metrics::counter::Counter::<f64, AtomicU64>::default();
        counter.inc_by(seconds);
        let help = "Processor time";
        page.registry
            .register_with_unit("cpu", help, Unit::Seconds, counter);
    }
    page.registry
}
