//! Whether an instance is kept, for who will delete it elsewhere on our word: its copies are read again now.

use std::time::Duration;

use crate::index::{Copy, IndexError};

use super::Archive;
use super::content::{Content, contents};
use super::reread::{Fault, reread};
use super::safety::{Judge, Need, Safe};

/// How an instance stands that somebody asks us to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assured {
    /// As many good copies as were asked for were read again just now; with two, on two disks.
    Yes,
    /// It was never here, or was removed.
    NotHere,
    /// What is here under this UID has another SOP class.
    OtherClass,
    /// Not now; it may be later: a second copy is being made, a disk is away, the index is being read in.
    NotYet(String),
    /// What is here of it is not readable.
    No(String),
}

/// A file that is not where it was listed may have been moved meanwhile: so often it is looked up again.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

impl Archive {
    /// Reads every content again that is answered, or kept beside it, under this UID and class, and has those that lack a
    /// copy copied at once. What a correction replaced does not count: what is answered in its place does.
    ///
    /// `go_on` is asked after every piece that was read; false ends it with [`Assured::NotYet`].
    pub fn assure(
        &self,
        sop_instance_uid: &str,
        sop_class_uid: &str,
        copies: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Assured {
        for looks_left in (0..LOOKS_MAX).rev() {
            let (assured, moved) = self.assure_now(sop_instance_uid, sop_class_uid, copies, go_on);
            if !moved || looks_left == 0 || !go_on() {
                return assured;
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
        unreachable!("the last look returns")
    }

    /// The study of an instance that is answered.
    pub fn study_of(&self, sop_instance_uid: &str) -> Option<String> {
        let entry = self.view().ok()?.snapshot.by_sop(sop_instance_uid).ok()??;
        Some(entry.study_instance_uid)
    }

    /// Also whether a file was not where it is listed.
    fn assure_now(
        &self,
        sop_instance_uid: &str,
        sop_class_uid: &str,
        copies: u64,
        go_on: &dyn Fn() -> bool,
    ) -> (Assured, bool) {
        let found = match self.contents_of(sop_instance_uid) {
            Ok(Some(found)) => found,
            Ok(None) => return (Assured::NotHere, false),
            Err(reason) => return (Assured::NotYet(reason), false),
        };
        let of_class = |content: &&Content| content.sop_class_uid == sop_class_uid;
        if found.iter().filter(of_class).count() == 0 {
            return (Assured::OtherClass, false);
        }
        let judge = self.judge();
        for content in &found {
            if matches!(
                judge.need(&content.volume_ids()),
                Need::Mirror | Need::Archive
            ) {
                let place = (&content.study_instance_uid, &content.series_instance_uid);
                self.mirror.promised((place.0.clone(), place.1.clone()));
            }
        }
        for content in found.iter().filter(of_class) {
            let (assured, moved) = self.assure_content(content, &judge, copies, go_on);
            if assured != Assured::Yes {
                return (assured, moved);
            }
        }
        (Assured::Yes, false)
    }

    /// `None`: there is none. The error is a sentence: nothing can be said for now.
    fn contents_of(&self, sop_instance_uid: &str) -> Result<Option<Vec<Content>>, String> {
        let look = || -> Result<_, IndexError> {
            let view = self.view()?;
            let entry = view.snapshot.by_sop(sop_instance_uid)?;
            Ok((entry, view.rebuilding_percent))
        };
        match look() {
            Ok((Some(entry), _)) => Ok(Some(contents(&entry))),
            Ok((None, None)) => Ok(None),
            Ok((None, Some(percent))) => {
                Err(format!("the index is being rebuilt, {percent} % done"))
            }
            Err(error) => {
                self.index_failed(&error);
                Err("the index cannot be read".to_owned())
            }
        }
    }

    fn assure_content(
        &self,
        content: &Content,
        judge: &Judge,
        copies: u64,
        go_on: &dyn Fn() -> bool,
    ) -> (Assured, bool) {
        // Before anything is read: it is asked again and again while a copy is waited for.
        if copies > 1 && judge.safe(&content.volume_ids()) != Safe::Two {
            let reason = "it has no second copy on another disk yet";
            return (Assured::NotYet(reason.to_owned()), false);
        }
        let (mut good, mut reasons) = (Vec::<&Copy>::new(), Vec::new());
        let (mut moved, mut away) = (false, false);
        for copy in content.good_copies() {
            let name = self.name_of(&copy.volume_id);
            let Some(volume) = self.working(&copy.volume_id) else {
                away = true;
                reasons.push(format!("volume {name} is not here"));
                continue;
            };
            match reread(&volume, copy, &|_, _| go_on()) {
                Ok(Some(())) => good.push(copy),
                Ok(None) => return (Assured::NotYet("interrupted".to_owned()), false),
                Err(fault) => {
                    self.suspect(&content.sop_instance_uid, copy);
                    moved |= fault == Fault::Missing;
                    reasons.push(format!("volume {name}: {fault}"));
                }
            }
            if self.is_enough(&good, judge, copies) {
                return (Assured::Yes, false);
            }
        }
        if reasons.is_empty() {
            reasons.push("no good copy is left".to_owned());
        }
        let reason = reasons.join("; ");
        // What is bad is healed from what is good: it may be enough then.
        match away || !good.is_empty() {
            true => (Assured::NotYet(reason), moved),
            false => (Assured::No(reason), moved),
        }
    }

    fn is_enough(&self, good: &[&Copy], judge: &Judge, copies: u64) -> bool {
        if copies < 2 {
            return !good.is_empty();
        }
        let mut ids: Vec<String> = good.iter().map(|copy| copy.volume_id.clone()).collect();
        ids.sort_unstable();
        if judge.safe(&ids) != Safe::Two {
            return false;
        }
        // One that is in a journal on the other's disk is carried over first.
        good.iter().all(|copy| {
            let others = good.iter().map(|other| other.volume_id.as_str());
            let others: Vec<&str> = others.filter(|id| *id != copy.volume_id).collect();
            self.counts_beside(&copy.volume_id, &[copy.path.as_str()], &others)
                .is_ok()
        })
    }
}
