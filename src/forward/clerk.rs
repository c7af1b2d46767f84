//! What came is noted in the outbox; who has something to get is served.
//!
//! # What is considered, and when
//!
//! Each instance that was received is considered once, also when the process is killed before that. Live ones are told by
//! the archive ([`crate::archive::Arrival`]); what a killed process had not noted is read from the ledgers, behind the
//! marks that the outbox keeps. Marks become durable with, or after, the notes on everything before them. A new outbox
//! begins at the present, and so does one whose server ran without rules: rules apply to what comes after they exist.
//! Noting an instance again changes nothing, so it does not matter that the marks lag behind.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::archive::{Arrival, Coming, Marks, Taken};
use crate::index::{IndexError, InstanceEntry, SeriesRecord, Snapshot, StudyRecord};

use super::copies::Copies;
use super::kept::{KeptPeer, Key};
use super::queue::Queue;
use super::ranges::Ranges;
use super::rules::Facts;
use super::{Forwarder, Unreachable, local_now, now_ms, receipt};

/// What comes within it is noted together: one flush.
const GATHER: Duration = Duration::from_millis(100);
/// So often windows and the clock are looked at while nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// Instances that are considered with one view of the index.
const VIEW_COUNT: usize = 2_000;
/// So often it is written down how far all was considered: what a killed process leaves to be read in ledgers.
const MARK_EVERY: Duration = Duration::from_secs(5);
/// Until something that did not work is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// A map that could not be read is looked at again.
const MAPS_EVERY: Duration = Duration::from_secs(60);
/// What the index does not know may come into it later: a disk that failed in the flush of its line is read again.
const UNKNOWN_FOR: Duration = Duration::from_secs(120);
const UNKNOWN_EVERY: Duration = Duration::from_secs(5);
/// More are not kept for later, they are read from the ledgers again.
const EARLY_MAX: usize = 200_000;
/// A clock that went back by more was set.
const CLOCK_SET_MS: i64 = 5_000;
const TIDY_EVERY: Duration = Duration::from_secs(3_600);
/// Stack of a thread that sends, bytes. Nothing on it recurses.
const STACK_BYTES: usize = 1 << 20;

/// What the clerk knows between two rounds.
struct Books {
    marks: Option<Marks>,
    /// Volumes whose ledgers were read behind the marks, or had nothing there.
    read: HashMap<String, Coming>,
    taken: Option<Taken>,
    last_taken: Instant,
    /// Not in the index yet, or not noted.
    early: Vec<Arrival>,
    /// Not in an index that is whole, since when.
    unknown: Vec<(Instant, Arrival)>,
    unknown_tried: Instant,
    /// Milliseconds since 1970, of the round before.
    clock: i64,
    not_before: Instant,
    tidied: Option<Instant>,
    maps_read: Instant,
    copies: Copies,
}

/// What the index does not know.
struct NotThere {
    index_is_whole: bool,
    arrivals: Vec<Arrival>,
}

/// Instances of a study for a peer.
#[derive(Default)]
struct Note {
    rule: String,
    sequences: Vec<u64>,
    patient_id: String,
    study_date: String,
}

impl Forwarder {
    /// The clerk's thread, to the end.
    pub(super) fn keep_books(self: &Arc<Self>) {
        let now = Instant::now();
        let mut books = Books {
            marks: None,
            read: HashMap::new(),
            taken: None,
            last_taken: now,
            early: Vec::new(),
            unknown: Vec::new(),
            unknown_tried: now,
            clock: now_ms(),
            not_before: now,
            tidied: None,
            maps_read: now,
            copies: Copies::new(),
        };
        let mut begun = false;
        loop {
            let stopping = self.is_stopping();
            if !self.loaded.load(Ordering::Relaxed) && self.outbox.try_open() {
                self.load();
            }
            if self.loaded.load(Ordering::Relaxed) {
                if !begun {
                    begun = self.begin(&mut books);
                }
                if self.begins_anew.swap(false, Ordering::Relaxed) {
                    self.forget_marks(&mut books);
                }
                if books.maps_read.elapsed() > MAPS_EVERY {
                    books.maps_read = Instant::now();
                    self.read_held_maps();
                }
                match self.rules().is_empty() {
                    true => self.pass_over(&mut books),
                    false if begun => self.look(&mut books),
                    false => {}
                }
                self.tidy(&mut books);
                let clock = now_ms();
                if clock < books.clock - CLOCK_SET_MS {
                    tracing::info!("the clock was set back; when what waits is due is made anew");
                    self.place_all();
                }
                books.clock = clock;
            }
            // Before the commit, so that what the last of them did is in it.
            let last = stopping && (self.abandoned.load(Ordering::Relaxed) || !self.has_workers());
            let written = self.outbox.commit();
            self.copy_outbox(&mut books.copies, last);
            if last {
                return;
            }
            if written.is_ok() && self.loaded.load(Ordering::Relaxed) && !stopping {
                self.serve();
            }
            match written {
                Ok(()) => self.archive.wait_for_arrivals(self.patience()),
                Err(_) => std::thread::sleep(IDLE),
            }
            if !self.is_stopping() {
                std::thread::sleep(GATHER);
            }
        }
    }

    fn begin(&self, books: &mut Books) -> bool {
        match self.outbox.marks() {
            Ok(Some(_)) if self.rules().is_empty() => {
                self.outbox.put_marks(None);
                true
            }
            Ok(marks) => {
                books.marks = marks;
                true
            }
            Err(reason) => {
                tracing::error!(
                    reason,
                    "how far the outbox had come is not known; it begins with what comes now"
                );
                self.outbox.put_marks(None);
                true
            }
        }
    }

    fn has_workers(&self) -> bool {
        self.queues().values().any(Queue::is_at_work)
    }

    fn patience(&self) -> Duration {
        if self.outbox.is_changed() || self.is_stopping() {
            return Duration::ZERO;
        }
        let now = now_ms();
        let queues = self.queues();
        if queues.values().any(|queue| queue.workers > 0) {
            return GATHER;
        }
        let next = queues.values().filter_map(|queue| queue.next_due()).min();
        let left = next.map_or(IDLE, |due| {
            Duration::from_millis(u64::try_from(due - now).unwrap_or(0))
        });
        // What is due and does not go (its window is closed, its peer cannot be reached) needs no hurry.
        match left.is_zero() {
            true => IDLE,
            false => left.min(IDLE),
        }
    }

    /// Nobody gets what comes while there is no rule, not by a later one either: that begins with what comes then.
    fn pass_over(&self, books: &mut Books) {
        drop(self.archive.take_arrivals());
        self.forget_marks(books);
    }

    /// From now on, as a new outbox.
    fn forget_marks(&self, books: &mut Books) {
        books.early.clear();
        books.unknown.clear();
        books.read.clear();
        books.taken = None;
        if books.marks.take().is_some() {
            self.outbox.put_marks(None);
        }
    }

    /// Notes what came since the last round.
    fn look(&self, books: &mut Books) {
        // Before the arrivals are taken, so that they are among them.
        let whole = books
            .taken
            .as_ref()
            .is_some_and(|taken| self.archive.has_all_until(taken));
        let arrivals = self.archive.take_arrivals();
        let mut too_many = arrivals.is_none();
        let mut all = std::mem::take(&mut books.early);
        all.extend(arrivals.unwrap_or_default());
        let (early, unknown) = self.consider(all);
        books.early = early;
        let now = Instant::now();
        let unknown = unknown.into_iter().map(|arrival| (now, arrival));
        books.unknown.extend(unknown);
        self.look_again(books);
        if books.early.len() + books.unknown.len() > EARLY_MAX && books.marks.is_some() {
            books.early.clear();
            books.unknown.clear();
            too_many = true;
        }
        if too_many {
            books.read.clear();
            books.taken = None;
        }
        if Instant::now() < books.not_before {
            return;
        }
        if let Err(reason) = self.read_ledgers(books) {
            tracing::warn!(
                reason,
                "what came before the start is not all considered yet"
            );
            books.not_before = Instant::now() + AGAIN;
            return;
        }
        self.mark(books, whole);
    }

    /// Whether what was not in the index is there by now.
    fn look_again(&self, books: &mut Books) {
        if books.unknown.is_empty() || books.unknown_tried.elapsed() < UNKNOWN_EVERY {
            return;
        }
        books.unknown_tried = Instant::now();
        let since: HashMap<u64, Instant> = books
            .unknown
            .iter()
            .map(|(since, arrival)| (arrival.sequence, *since))
            .collect();
        let all = std::mem::take(&mut books.unknown).into_iter();
        let (early, unknown) = self.consider(all.map(|(_, arrival)| arrival).collect());
        books.early.extend(early);
        let kept = unknown.into_iter().filter_map(|arrival| {
            let since = *since.get(&arrival.sequence)?;
            // What failed and was sent again under another number never comes.
            (since.elapsed() < UNKNOWN_FOR).then_some((since, arrival))
        });
        books.unknown = kept.collect();
    }

    /// Considers what stands in ledgers behind the marks: at the start, and when a volume came back.
    fn read_ledgers(&self, books: &mut Books) -> Result<(), String> {
        let Some(marks) = &books.marks else {
            return Ok(());
        };
        let here = self.archive.volumes_here();
        books.read.retain(|id, coming| here.get(id) == Some(coming));
        let unread = here
            .into_iter()
            .filter(|(id, _)| !books.read.contains_key(id));
        let unread: Vec<(String, Coming)> = unread.collect();
        if unread.is_empty() {
            return Ok(());
        }
        let view = self.archive.view().map_err(|error| error.to_string())?;
        if view.rebuilding_percent.is_some() {
            return Ok(());
        }
        drop(view);
        for (volume_id, coming) in unread {
            let mut gathered: Vec<Arrival> = Vec::new();
            let mut failed = None;
            let note = |gathered: &mut Vec<Arrival>| {
                let (early, _) = self.consider(std::mem::take(gathered));
                // The index is whole, so what is not in it is gone; unless it has just failed.
                if early.is_empty() {
                    self.outbox.commit()
                } else {
                    Err("the index is being made anew, or the outbox cannot be used".to_owned())
                }
            };
            let read = self
                .archive
                .arrivals_after(marks, &volume_id, &mut |arrival| {
                    gathered.push(arrival);
                    if gathered.len() >= VIEW_COUNT
                        && let Err(reason) = note(&mut gathered)
                    {
                        failed = Some(reason);
                    }
                    match failed.is_some() || self.is_stopping() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                });
            read?;
            if let Some(reason) = failed {
                return Err(reason);
            }
            if self.is_stopping() {
                return Err("the server is stopping".to_owned());
            }
            note(&mut gathered)?;
            books.read.insert(volume_id, coming);
        }
        Ok(())
    }

    /// Writes down how far all was considered, in two steps: see [`Taken`].
    fn mark(&self, books: &mut Books, whole: bool) {
        if books.early.is_empty()
            && books.unknown.is_empty()
            && whole
            && let Some(taken) = books.taken.take()
        {
            let mut marks = books.marks.clone().unwrap_or_default();
            marks.sequence = taken.marks.sequence;
            let known = books.marks.is_some();
            // A new outbox begins at the present.
            if !known {
                books.read = self.archive.volumes_here().into_iter().collect();
                books
                    .read
                    .retain(|id, _| taken.marks.positions.contains_key(id));
            }
            for (volume_id, position) in taken.marks.positions {
                if !known || books.read.contains_key(&volume_id) {
                    marks.positions.insert(volume_id, position);
                }
            }
            if books.marks.as_ref() != Some(&marks) {
                self.outbox.put_marks(Some(marks.clone()));
                books.marks = Some(marks);
            }
        }
        let due =
            books.marks.is_none() || self.is_stopping() || books.last_taken.elapsed() >= MARK_EVERY;
        if books.taken.is_none() && due {
            books.last_taken = Instant::now();
            books.taken = self.archive.take_marks().unwrap_or_else(|error| {
                self.archive.index_failed(&error);
                None
            });
        }
    }

    /// Notes for which peers these are; gives back what is to be considered later, and what a whole index does not know.
    fn consider(&self, arrivals: Vec<Arrival>) -> (Vec<Arrival>, Vec<Arrival>) {
        let (mut early, mut unknown) = (Vec::new(), Vec::new());
        for some in arrivals.chunks(VIEW_COUNT) {
            let mut notes = HashMap::new();
            let not_there = match self.notes_of(some, &mut notes) {
                Ok(not_there) => not_there,
                Err(error) => {
                    self.archive.index_failed(&error);
                    early.extend_from_slice(some);
                    continue;
                }
            };
            let now = now_ms();
            let noted = notes
                .into_iter()
                .try_for_each(|(key, note)| self.note(&key, note, now));
            if let Err(reason) = noted {
                tracing::error!(
                    reason,
                    instances_count = some.len(),
                    "what came is not noted for forwarding yet; it is tried again"
                );
                // Noting an instance again changes nothing.
                early.extend_from_slice(some);
                continue;
            }
            match not_there.index_is_whole {
                true => unknown.extend(not_there.arrivals),
                false => early.extend(not_there.arrivals),
            }
        }
        (early, unknown)
    }

    fn notes_of(
        &self,
        arrivals: &[Arrival],
        notes: &mut HashMap<Key, Note>,
    ) -> Result<NotThere, IndexError> {
        let mut later = Vec::new();
        let view = self.archive.view()?;
        let snapshot = &view.snapshot;
        let mut known = Above::default();
        let rules = self.rules();
        for arrival in arrivals {
            let Some(entry) = snapshot.by_sop(&arrival.sop_instance_uid)? else {
                later.push(arrival.clone());
                continue;
            };
            let mut only = Ranges::default();
            only.insert(arrival.sequence);
            let mut numbers = vec![arrival.sequence];
            if stands_for(snapshot, &entry, &only)?.is_none() {
                // Another content of that UID is answered: this one goes to nobody.
                if !arrival.has_bytes_of(&entry) {
                    continue;
                }
                // The index may answer with the lower one from tomorrow on, or never; only one of them goes.
                numbers.push(entry.record.sequence);
            }
            let Some((study, series)) = known.of(snapshot, &entry)? else {
                continue;
            };
            let facts = facts_of(&entry, study, series);
            for route in rules.for_instance(&facts) {
                let key = Key::new(route.peer.as_str(), &entry.study_instance_uid);
                let note = notes.entry(key).or_insert_with(|| Note {
                    rule: route.rule.clone(),
                    patient_id: value(study, 0x0010_0020),
                    study_date: value(study, 0x0008_0020),
                    sequences: Vec::new(),
                });
                note.sequences.extend(&numbers);
            }
        }
        Ok(NotThere {
            index_is_whole: view.rebuilding_percent.is_none(),
            arrivals: later,
        })
    }

    fn note(&self, key: &Key, note: Note, now: i64) -> Result<(), String> {
        let kept = self.outbox.change(key, |kept| {
            let was_open = kept.is_open();
            let mut new = false;
            for sequence in note.sequences {
                new |= kept.wanted.insert(sequence);
            }
            if !new {
                return None;
            }
            if !was_open || kept.given_up {
                kept.since = now;
                kept.failures = 0;
                kept.next_try = None;
                kept.given_up = false;
                kept.by_hand = false;
                kept.rule = note.rule;
            }
            kept.noted = now;
            kept.at_once = false;
            kept.done = None;
            kept.delivered = None;
            if let Some(commitment) = &mut kept.commitment {
                (commitment.ended, commitment.reason) = (false, String::new());
            }
            (kept.patient_id, kept.study_date) = (note.patient_id, note.study_date);
            Some(kept.clone())
        })?;
        if let Some(kept) = kept {
            self.place(key, &kept, now);
        }
        Ok(())
    }

    /// Begins threads for peers that have something to get, and asks those that could not be reached.
    fn serve(self: &Arc<Self>) {
        let (now, local) = (now_ms(), local_now());
        for peer in &self.peers.all() {
            let title = peer.ae_title.as_str();
            let mut queues = self.queues();
            let Some(queue) = queues.get_mut(title) else {
                continue;
            };
            if let Some(unreachable) = &mut queue.unreachable {
                let due = !unreachable.probing && unreachable.next_probe <= Instant::now();
                if due && !queue.paused && queue.workers < peer.associations {
                    unreachable.probing = true;
                    queue.workers += 1;
                    drop(queues);
                    self.begin_thread(title, |this, title| this.probe(title), sends_less);
                }
                continue;
            }
            let mut threads = 0;
            // One too many ends at once.
            if queue.has_due(now, local) && queue.idle > 0 {
                self.due.notify_all();
            } else if queue.has_due(now, local) {
                threads = peer.associations.saturating_sub(queue.workers);
            } else if queue.has_receipt(Instant::now()) && queue.workers == 0 {
                threads = 1;
            }
            queue.workers += threads;
            let asks = !queue.asking && self.has_question(queue, now);
            queue.asking |= asks;
            drop(queues);
            for _ in 0..threads {
                self.begin_thread(
                    title,
                    |this, title| this.send_what_is_due(title),
                    sends_less,
                );
            }
            if asks {
                let ends = |queue: &mut Queue| queue.asking = false;
                self.begin_thread(title, |this, title| this.ask_what_is_kept(title), ends);
            }
        }
    }

    /// A thread that is counted among the peer's already.
    fn begin_thread(self: &Arc<Self>, peer: &str, f: fn(&Forwarder, &str), ends: fn(&mut Queue)) {
        let (this, title) = (self.clone(), peer.to_owned());
        let thread = std::thread::Builder::new()
            .name(format!("to {peer}"))
            .stack_size(STACK_BYTES);
        let begun = thread.spawn(move || {
            // A fault of this program must not leave a peer with a thread less for ever.
            let run = std::panic::AssertUnwindSafe(|| f(&this, &title));
            if std::panic::catch_unwind(run).is_err() {
                tracing::error!(
                    peer = title,
                    "sending ended by a fault in this program; please report it"
                );
            }
            this.leave(&title, ends);
        });
        if let Err(error) = begun {
            tracing::error!(peer, %error, "no thread for a peer");
            self.leave(peer, ends);
        }
    }

    fn leave(&self, peer: &str, ends: fn(&mut Queue)) {
        if let Some(queue) = self.queues().get_mut(peer) {
            ends(queue);
        }
        self.ended.notify_all();
        self.archive.wake_for_arrivals();
    }

    /// Is it there again?
    fn probe(&self, title: &str) {
        let Ok(peer) = self.peer(title) else { return };
        let answered = receipt::echo(&self.calling, &peer);
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(title) else {
            return;
        };
        match answered {
            Ok(()) => {
                queue.unreachable = None;
                queue.piled_up();
                self.keep_peer(title, queue.paused, None);
                tracing::info!(peer = title, "a peer is there again");
            }
            Err(reason) => {
                if let Some(unreachable) = &mut queue.unreachable {
                    unreachable.next_probe =
                        Instant::now() + Duration::from_secs(self.config.now().probe_seconds);
                    unreachable.reason = reason;
                }
            }
        }
    }

    /// Its queue waits from now on.
    pub(super) fn mark_unreachable(&self, title: &str, reason: &str) {
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(title) else {
            return;
        };
        if queue.unreachable.is_some() {
            return;
        }
        let since = crate::archive::now();
        tracing::warn!(
            peer = title,
            reason,
            "a peer cannot be reached; what is for it waits"
        );
        self.keep_peer(
            title,
            queue.paused,
            Some((reason.to_owned(), since.clone())),
        );
        queue.unreachable = Some(Unreachable {
            reason: reason.to_owned(),
            since,
            next_probe: Instant::now() + Duration::from_secs(self.config.now().probe_seconds),
            probing: false,
        });
    }

    pub(super) fn keep_peer(
        &self,
        title: &str,
        paused: bool,
        unreachable: Option<(String, String)>,
    ) {
        self.outbox.put_peer(
            title,
            KeptPeer {
                paused,
                unreachable,
            },
        );
    }

    /// Forgets what was sent long ago.
    fn tidy(&self, books: &mut Books) {
        if books.tidied.is_some_and(|at| at.elapsed() < TIDY_EVERY) {
            return;
        }
        books.tidied = Some(Instant::now());
        let oldest = now_ms() - self.config.now().keep_days as i64 * 24 * 3_600 * 1_000;
        let mut old = Vec::new();
        let read = self.outbox.each(&mut |key, kept| {
            if kept.done.is_some_and(|done| done < oldest) && !kept.is_open() {
                old.push(key);
            }
            old.len() < VIEW_COUNT
        });
        if let Err(reason) = read {
            tracing::warn!(reason, "the outbox was not tidied");
        }
        let more = old.len() == VIEW_COUNT;
        for key in old {
            self.outbox.forget(&key);
        }
        if more {
            books.tidied = None;
        }
    }
}

/// One that sends, or looks whether the peer is there, has ended.
fn sends_less(queue: &mut Queue) {
    // Its peer may have been taken away and added again meanwhile.
    queue.workers = queue.workers.saturating_sub(1);
    if let Some(unreachable) = &mut queue.unreachable {
        unreachable.probing = false;
    }
}

/// The records above an instance, kept for the next.
#[derive(Default)]
pub(super) struct Above {
    study: Option<(String, StudyRecord)>,
    series: Option<((String, String), SeriesRecord)>,
}

impl Above {
    pub fn of(
        &mut self,
        snapshot: &Snapshot,
        entry: &InstanceEntry,
    ) -> Result<Option<(&StudyRecord, &SeriesRecord)>, IndexError> {
        let uid = &entry.study_instance_uid;
        if self.study.as_ref().is_none_or(|(known, _)| known != uid) {
            let record = snapshot.study(uid)?;
            self.study = record.map(|record| (uid.clone(), record));
        }
        let uids = (uid, &entry.series_instance_uid);
        if self
            .series
            .as_ref()
            .is_none_or(|((study, series), _)| (study, series) != uids)
        {
            let record = snapshot.series(uids.0, uids.1)?;
            self.series = record.map(|record| ((uids.0.clone(), uids.1.clone()), record));
        }
        let study = self.study.as_ref().map(|(_, record)| record);
        Ok(study.zip(self.series.as_ref().map(|(_, record)| record)))
    }
}

pub(super) fn facts_of<'a>(
    entry: &'a InstanceEntry,
    study: &'a StudyRecord,
    series: &'a SeriesRecord,
) -> Facts<'a> {
    Facts {
        calling: &entry.record.source_ae_title,
        sop_class_uid: &entry.record.sop_class_uid,
        study: &study.facts.values,
        series: &series.facts.values,
        instance: &entry.record.values,
    }
}

pub(super) fn value(study: &StudyRecord, tag: u32) -> String {
    study.facts.values.get(&tag).cloned().unwrap_or_default()
}

/// As which of these numbers the answered content of a UID counts: its own, or that of what it corrects.
pub(super) fn stands_for(
    snapshot: &Snapshot,
    entry: &InstanceEntry,
    numbers: &Ranges,
) -> Result<Option<u64>, IndexError> {
    let own = entry.record.sequence;
    if numbers.contains(own) {
        return Ok(Some(own));
    }
    if entry.record.origin.by == 0 {
        return Ok(None);
    }
    let hidden = snapshot
        .hidden(&entry.sop_instance_uid)?
        .unwrap_or_default();
    let mut before = hidden.contents.iter().map(|content| content.sequence);
    Ok(before.find(|number| numbers.contains(*number)))
}
