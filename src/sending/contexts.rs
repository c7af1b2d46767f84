//! Which presentation contexts are offered, and which of them carries an instance.

use std::collections::BTreeSet;

use crate::archive::Selected;
use crate::dicom::{is_encapsulated, ts};
use crate::net::Association;
use crate::pixels;

/// Presentation contexts of one association (odd ids of a byte, PS3.8 7.1.1.13).
const CONTEXTS_MAX: usize = 128;

/// What everybody must take (PS3.5 10.1), and what it is mostly taken in.
const PLAIN: [&str; 2] = [ts::EXPLICIT_VR_LITTLE_ENDIAN, ts::IMPLICIT_VR_LITTLE_ENDIAN];

/// How an instance goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    AsStored,
    /// Little endian, without compression.
    Plain {
        explicit: bool,
    },
}

impl Form {
    pub fn transfer_syntax(self, instance: &Selected) -> &str {
        match self {
            Form::AsStored => &instance.transfer_syntax,
            Form::Plain { explicit: true } => ts::EXPLICIT_VR_LITTLE_ENDIAN,
            Form::Plain { explicit: false } => ts::IMPLICIT_VR_LITTLE_ENDIAN,
        }
    }
}

/// The pairs of SOP class and transfer syntax that an instance may need.
fn pairs(instance: &Selected) -> impl Iterator<Item = (&str, &str)> {
    let plain = PLAIN.into_iter().filter(|_| can_be_plain(instance));
    let class = instance.sop_class_uid.as_str();
    [instance.transfer_syntax.as_str()]
        .into_iter()
        .chain(plain)
        .map(move |syntax| (class, syntax))
}

/// Whether we can give it in little endian without compression.
fn can_be_plain(instance: &Selected) -> bool {
    match instance.transfer_syntax.as_str() {
        ts::JPIP_REFERENCED_DEFLATE | ts::JPIP_HTJ2K_REFERENCED_DEFLATE => false,
        // A URL in place of pixel data.
        "1.2.840.10008.1.2.4.94" | "1.2.840.10008.1.2.4.204" => false,
        syntax => !is_encapsulated(syntax) || pixels::can_decode(syntax),
    }
}

/// Cuts the instances into runs that one association has contexts for; nearly always one.
pub fn batches(selected: &[Selected]) -> Vec<&[Selected]> {
    let mut batches = Vec::new();
    let mut begin = 0;
    let mut known = BTreeSet::new();
    for (at, instance) in selected.iter().enumerate() {
        known.extend(pairs(instance));
        if known.len() > CONTEXTS_MAX {
            batches.push(&selected[begin..at]);
            begin = at;
            known = pairs(instance).collect();
        }
    }
    if begin < selected.len() {
        batches.push(&selected[begin..]);
    }
    batches
}

/// For each SOP class one context for each stored transfer syntax, and one each for explicit and implicit VR little
/// endian, so that the peer's choice within a context cannot hide one from us. `uncompressed`: a compressed one only where
/// we cannot decompress it.
pub fn offered(batch: &[Selected], uncompressed: bool) -> Vec<(String, Vec<String>)> {
    let wanted = |instance: &Selected, syntax: &str| {
        !(uncompressed && is_encapsulated(syntax) && can_be_plain(instance))
    };
    let pairs: BTreeSet<_> = batch
        .iter()
        .flat_map(|instance| pairs(instance).filter(move |(_, syntax)| wanted(instance, syntax)))
        .collect();
    // What is stored comes first: some peers take the first of a class and no other.
    let stored: BTreeSet<_> = batch
        .iter()
        .map(|instance| {
            (
                instance.sop_class_uid.as_str(),
                instance.transfer_syntax.as_str(),
            )
        })
        .collect();
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|pair @ (class, syntax)| {
        let plain = PLAIN.iter().position(|plain| plain == syntax);
        (class.to_owned(), !stored.contains(pair), plain)
    });
    pairs
        .into_iter()
        .map(|(class, syntax)| (class.to_owned(), vec![syntax.to_owned()]))
        .collect()
}

/// The context that an instance goes in, and how: as it is stored where that is taken.
pub fn context_for(association: &Association, instance: &Selected) -> Option<(u8, Form)> {
    let context = |syntax| {
        let context = association.context_for(&instance.sop_class_uid, Some(syntax));
        context.map(|context| context.id)
    };
    if let Some(id) = context(&instance.transfer_syntax) {
        return Some((id, Form::AsStored));
    }
    if !can_be_plain(instance) {
        return None;
    }
    PLAIN.into_iter().find_map(|syntax| {
        let explicit = syntax == ts::EXPLICIT_VR_LITTLE_ENDIAN;
        Some((context(syntax)?, Form::Plain { explicit }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(class: &str, syntax: &str) -> Selected {
        Selected {
            study_instance_uid: "1".to_owned(),
            sop_instance_uid: "1.2".to_owned(),
            sop_class_uid: class.to_owned(),
            transfer_syntax: syntax.to_owned(),
            length: 0,
            crc32: 0,
        }
    }

    #[test]
    fn each_context_offers_one_transfer_syntax_and_what_is_stored_first() {
        let ct = "1.2.840.10008.5.1.4.1.1.2";
        let batch = [
            instance(ct, ts::JPEG_2000),
            instance(ct, ts::IMPLICIT_VR_LITTLE_ENDIAN),
        ];
        let plain = super::offered(&batch, true);
        assert!(
            plain
                .iter()
                .all(|(_, syntaxes)| PLAIN.contains(&&*syntaxes[0]))
        );
        let offered = offered(&batch, false);
        assert!(
            offered
                .iter()
                .all(|(class, syntaxes)| class == ct && syntaxes.len() == 1)
        );
        let syntaxes: Vec<_> = offered
            .iter()
            .map(|(_, syntaxes)| syntaxes[0].as_str())
            .collect();
        assert_eq!(
            syntaxes,
            [
                ts::JPEG_2000,
                ts::IMPLICIT_VR_LITTLE_ENDIAN,
                ts::EXPLICIT_VR_LITTLE_ENDIAN
            ]
        );
    }

    #[test]
    fn what_cannot_be_decoded_is_offered_as_it_is_only() {
        for syntax in [
            "1.2.840.10008.1.2.4.100",
            "1.2.3.4",
            ts::JPIP_REFERENCED_DEFLATE,
        ] {
            assert_eq!(
                offered(&[instance("1.2", syntax)], false).len(),
                1,
                "{syntax}"
            );
        }
    }

    #[test]
    fn no_batch_needs_more_contexts_than_an_association_has() {
        let classes: Vec<Selected> = (0..100)
            .map(|n| instance(&format!("1.2.{n}"), ts::RLE_LOSSLESS))
            .collect();
        let batches = batches(&classes);
        assert!(batches.len() > 1);
        assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), 100);
        for batch in batches {
            assert!(offered(batch, false).len() <= CONTEXTS_MAX);
        }
    }
}
