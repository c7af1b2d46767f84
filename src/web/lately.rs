//! Answers that take long in a large archive (they count every series) are asked for in the background and shown as they
//! were a moment ago: no page waits for them, and many open pages ask no more often than one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Site;
use crate::audit::Who;
use crate::control::{Request, Response};

/// An answer is this young where the archive is small.
const AGE_MIN: Duration = Duration::from_secs(1);
/// The archive is asked for at most one part in so many of the time.
const PAUSE_FACTOR: u32 = 8;
/// So long a page waits for a newer answer before it shows the one it has.
const PATIENCE: Duration = Duration::from_millis(400);
/// With an answer older than this it waits so much longer: nobody had a page open.
const OLD: Duration = Duration::from_secs(30);

/// One such answer. It stays the same object while it is the same answer.
#[derive(Clone)]
pub struct Lately {
    request: Request,
    asking: Arc<Mutex<Asking>>,
    answer: watch::Sender<Option<Answer>>,
}

#[derive(Default)]
struct Asking {
    now: bool,
    next: Option<Instant>,
}

#[derive(Clone)]
pub struct Answer {
    at: Instant,
    pub response: Arc<Response>,
}

impl Lately {
    /// `request`: one that changes nothing.
    pub fn new(request: Request) -> Lately {
        Lately {
            request,
            asking: Arc::default(),
            answer: watch::Sender::new(None),
        }
    }

    /// `None`: it is being asked for, for the first time.
    pub async fn get(&self, site: &Site) -> Option<Arc<Response>> {
        let mut changes = self.answer.subscribe();
        let kept = changes.borrow_and_update().clone();
        if self.begin() {
            let (own, site) = (self.clone(), site.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                let response = site.ask(&Who::here(), own.request.clone()).await;
                own.end(begun, response);
            });
        } else if kept.is_some() && !self.is_asking() {
            return kept.map(|answer| answer.response);
        }
        let is_old = kept.as_ref().is_none_or(|kept| kept.at.elapsed() >= OLD);
        let patience = if is_old { PATIENCE * 2 } else { PATIENCE };
        drop(tokio::time::timeout(patience, changes.changed()).await);
        let answer = changes.borrow().clone();
        answer.map(|answer| answer.response)
    }

    /// What was changed shows in the next answer.
    pub fn is_stale(&self) {
        self.asking().next = None;
    }

    fn asking(&self) -> std::sync::MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asking(&self) -> bool {
        self.asking().now
    }

    fn begin(&self) -> bool {
        let mut asking = self.asking();
        let due = asking.next.is_none_or(|next| next <= Instant::now());
        let begins = due && !asking.now;
        asking.now |= begins;
        begins
    }

    fn end(&self, begun: Instant, response: Response) {
        let now = Instant::now();
        self.answer.send_replace(Some(Answer {
            at: now,
            response: Arc::new(response),
        }));
        let mut asking = self.asking();
        asking.now = false;
        asking.next = Some(now + AGE_MIN.max((now - begun) * PAUSE_FACTOR));
    }
}
