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
const PATIENCE: Duration = Duration::from_millis(150);
/// The same where it has none. A page asks twice: for its frame, and for what is in it.
const FIRST_PATIENCE: Duration = Duration::from_millis(300);
/// An older answer is none: nobody had a page open, and much may have happened since.
const AGE_MAX: Duration = Duration::from_secs(120);

/// One such answer.
#[derive(Clone)]
pub struct Lately {
    request: Request,
    asking: Arc<Mutex<Asking>>,
    answer: watch::Sender<Option<Answer>>,
}

#[derive(Default)]
struct Asking {
    now: bool,
    /// What is being asked for may be out of date when it comes.
    again: bool,
    next: Option<Instant>,
}

struct Answer {
    at: Instant,
    response: Arc<Response>,
}

fn young(answer: &Option<Answer>) -> Option<Arc<Response>> {
    let answer = answer.as_ref()?;
    (answer.at.elapsed() < AGE_MAX).then(|| answer.response.clone())
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

    /// `None`: it is being asked for, and none is known yet.
    pub async fn get(&self, site: &Site) -> Option<Arc<Response>> {
        let mut changes = self.answer.subscribe();
        let kept = young(&changes.borrow_and_update());
        if self.begin() {
            let (own, site) = (self.clone(), site.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                let response = site.ask(&Who::here(), own.request.clone()).await;
                own.end(begun, response);
            });
        } else if kept.is_some() && !self.is_asking() {
            return kept;
        }
        let patience = match kept {
            Some(_) => PATIENCE,
            None => FIRST_PATIENCE,
        };
        drop(tokio::time::timeout(patience, changes.changed()).await);
        young(&changes.borrow())
    }

    /// Something was changed: the next answer is asked for without a pause, also after one that is under way.
    pub fn is_stale(&self) {
        let mut asking = self.asking();
        asking.next = None;
        asking.again = asking.now;
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
        let pause = AGE_MIN.max((now - begun) * PAUSE_FACTOR);
        asking.next = (!std::mem::take(&mut asking.again)).then(|| now + pause);
    }
}
