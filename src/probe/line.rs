//! An association with the peer that is tried out. Its answers are a stranger's, and none is waited for past the end of the
//! trial.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dicom_dictionary_std::tags;

use crate::dicom::scan::{Scanner, Wanted};
use crate::dicom::{Attributes, Tag, TextEncoder, VR, elements, ts, vr_of};
use crate::net::{Association, NetError, Timeouts};
use crate::scu::{self, RetrieveOutcome, StoreOutcome, StoreRequest};

use super::Trial;
use super::image::TestImage;

const CONNECT: Duration = Duration::from_secs(5);
const NEGOTIATION: Duration = Duration::from_secs(10);
const RESPONSE: Duration = Duration::from_secs(15);
const LEAST: Duration = Duration::from_millis(100);

pub struct Line {
    pub association: Association,
    /// Dropped with it: then nobody needs to end it.
    _watched: mpsc::Sender<()>,
}

fn plain() -> Vec<String> {
    let both = [ts::EXPLICIT_VR_LITTLE_ENDIAN, ts::IMPLICIT_VR_LITTLE_ENDIAN];
    both.map(str::to_owned).to_vec()
}

/// Both little endian syntaxes in one context.
pub fn in_plain(abstract_syntax: &str) -> (String, Vec<String>) {
    (abstract_syntax.to_owned(), plain())
}

impl Line {
    pub fn open(
        trial: &Trial,
        addresses: &[SocketAddr],
        contexts: Vec<(String, Vec<String>)>,
    ) -> Result<Line, NetError> {
        let left = trial.left();
        let at_most = |time: Duration| time.min(left).max(LEAST);
        let timeouts = Timeouts {
            connect: at_most(CONNECT),
            negotiation: at_most(NEGOTIATION),
            stall: at_most(NEGOTIATION),
            response: at_most(RESPONSE),
            ..Timeouts::default()
        };
        let association = scu::associate(
            trial.peer,
            addresses,
            &trial.config.ae_title,
            contexts,
            timeouts,
            &[],
        )?;
        let (_watched, over) = mpsc::channel::<()>();
        let (handle, until) = (association.handle(), trial.deadline);
        let thread = std::thread::Builder::new().name("probe".to_owned());
        // Without a thread the time-outs of single steps still bound it.
        let _ = thread.spawn(move || {
            let left = until.saturating_duration_since(Instant::now());
            if over.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                handle.shutdown_now();
            }
        });
        Ok(Line {
            association,
            _watched,
        })
    }

    /// Id of the context, and whether it is explicit VR.
    pub fn context(&self, class: &str) -> Option<(u8, bool)> {
        let context = self.association.context_for(class, None)?;
        let explicit = context.transfer_syntax != ts::IMPLICIT_VR_LITTLE_ENDIAN;
        Some((context.id, explicit))
    }

    /// The final status and the first answer; more are not waited for.
    pub fn find(
        &mut self,
        class: &str,
        keys: &[(Tag, &str)],
        character_set: &str,
    ) -> Result<(u16, Option<Attributes>), NetError> {
        let (id, explicit) = self.context(class).ok_or(NetError::NoContext(0))?;
        let syntax = match explicit {
            true => ts::EXPLICIT_VR_LITTLE_ENDIAN,
            false => ts::IMPLICIT_VR_LITTLE_ENDIAN,
        };
        let mut first = None;
        let identifier = identifier("STUDY", keys, character_set, explicit);
        let status = scu::find(&mut self.association, id, &identifier, &mut |answer| {
            let mut scanner = Scanner::new(syntax, Wanted::All);
            let read = scanner.feed(answer).and_then(|()| scanner.finish());
            first = Some(read.unwrap_or_default());
            ControlFlow::Break(())
        })?;
        Ok((status, first))
    }

    /// Asks for a study, or one instance of it, to be sent to us.
    pub fn move_here(
        &mut self,
        trial: &Trial,
        class: &str,
        study: &str,
    ) -> Result<RetrieveOutcome, NetError> {
        let (id, explicit) = self.context(class).ok_or(NetError::NoContext(0))?;
        let keys = [(tags::STUDY_INSTANCE_UID, study)];
        let identifier = identifier("STUDY", &keys, "", explicit);
        let ours = &trial.config.ae_title;
        let association = &mut self.association;
        scu::move_to(association, id, ours, &identifier, &mut |_| {
            ControlFlow::Continue(())
        })
    }

    pub fn store(&mut self, class: &str, image: &TestImage) -> Result<StoreOutcome, NetError> {
        let (id, explicit) = self.context(class).ok_or(NetError::NoContext(0))?;
        let data_set = image.data_set(explicit);
        let request = StoreRequest {
            sop_class_uid: class.to_owned(),
            sop_instance_uid: image.sop_instance_uid.clone(),
            priority: crate::net::dimse::PRIORITY_MEDIUM,
            move_originator: None,
            message_id: self.association.next_message_id(),
        };
        let whole = scu::DataSet::Whole(&data_set);
        scu::store(&mut self.association, id, &request, whole, &mut || {})
    }

    /// An answer to the release changes nothing any more.
    pub fn close(mut self) {
        let _ = self.association.release();
    }
}

fn identifier(level: &str, keys: &[(Tag, &str)], set: &str, explicit: bool) -> Vec<u8> {
    let mut all = vec![(tags::QUERY_RETRIEVE_LEVEL, level)];
    if !set.is_empty() {
        all.push((tags::SPECIFIC_CHARACTER_SET, set));
    }
    all.extend_from_slice(keys);
    all.sort_by_key(|(tag, _)| *tag);
    let encoder = TextEncoder::new(set);
    let mut out = Vec::new();
    for (tag, value) in all {
        let vr = match vr_of(tag) {
            VR::UN => VR::LO,
            known => known,
        };
        let bytes = encoder.encode(value, vr).unwrap_or_default();
        elements::put(&mut out, explicit, tag, vr, &bytes);
    }
    out
}
