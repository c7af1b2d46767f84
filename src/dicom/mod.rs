//! Values from bytes, and bytes from values: tags, UIDs, AE titles, character sets, data sets and file meta
//! information (PS3.5, PS3.6, PS3.10).
//!
//! Nothing here opens a socket or a file or looks at the clock. Every byte is taken to come from a stranger: lengths,
//! depths and counts are bounded before they are believed.

pub mod ae_title;
pub mod amend;
pub mod attributes;
pub mod charset;
pub mod charset_answer;
pub mod charset_encode;
pub mod convert;
pub mod differences;
pub mod elements;
pub mod extra_keys;
pub mod fragments;
mod header;
mod inflate;
pub mod items;
pub mod key_objects;
pub mod names;
pub mod part10;
pub mod references;
pub mod scan;
pub mod service;
pub mod uid;
mod values;
mod walk;

pub use ae_title::{AeTitle, AeTitleError};
pub use attributes::{INDEXED, Level, level_of, vr_of};
pub use charset::CharacterSet;
pub use charset_answer::{AnswerSet, Answering};
pub use charset_encode::TextEncoder;
pub use dicom_core::{Tag, VR};
pub use dicom_dictionary_std::tags;
pub use part10::{FileMeta, MetaError, read_meta, read_start};
pub use references::{Reference, References, ReferencesReader};
pub use scan::{ScanError, Scanner, Wanted, scan};
pub use service::{Service, Services};
pub use uid::{
    Encoding, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, UID_LENGTH_MAX, encoding_of,
    is_conforming, is_encapsulated, is_lossless_compressed, is_storage_class, sop, trim_uid, ts,
};
pub use values::Attributes;
