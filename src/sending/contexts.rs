//! Which presentation contexts are offered, and which of them carries an instance.

use std::collections::BTreeSet;

use crate::archive::Selected;
use crate::net::Association;

/// Presentation contexts of one association (odd ids of a byte, PS3.8 7.1.1.13).
const CONTEXTS_MAX: usize = 128;

/// Cuts the instances into runs that one association has contexts for; nearly always one.
pub fn batches(selected: &[Selected]) -> Vec<&[Selected]> {
    let mut batches = Vec::new();
    let mut begin = 0;
    let mut pairs = BTreeSet::new();
    for (at, instance) in selected.iter().enumerate() {
        pairs.insert((&instance.sop_class_uid, &instance.transfer_syntax));
        if pairs.len() > CONTEXTS_MAX {
            batches.push(&selected[begin..at]);
            begin = at;
            pairs = BTreeSet::from([(&instance.sop_class_uid, &instance.transfer_syntax)]);
        }
    }
    if begin < selected.len() {
        batches.push(&selected[begin..]);
    }
    batches
}

/// One context for each SOP class and stored transfer syntax, so that the peer's choice within a context cannot hide one
/// from us.
pub fn offered(batch: &[Selected]) -> Vec<(String, Vec<String>)> {
    let pairs: BTreeSet<_> = batch
        .iter()
        .map(|instance| (&instance.sop_class_uid, &instance.transfer_syntax))
        .collect();
    pairs
        .into_iter()
        .map(|(class, syntax)| (class.clone(), vec![syntax.clone()]))
        .collect()
}

pub fn context_for(association: &Association, instance: &Selected) -> Option<u8> {
    association
        .context_for(&instance.sop_class_uid, Some(&instance.transfer_syntax))
        .map(|context| context.id)
}
