//! Kura: an embedded DICOM archive server.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | one file per verb; screens and JSON |
//! | [`server`] | start and stop order of the listener and the associations |
//! | [`scp`] | the services we answer: echo, store, find, retrieve |
//! | [`control`] | what the command line asks of a running server |
//! | [`archive`] | the promise: durable, indexed, then "yes" |
//! | [`scu`] | the services we call: echo, store, find |
//! | [`net`] | PDUs, associations, DIMSE messages (PS3.8, PS3.7) |
//! | [`volume`] | named bytes on labelled disks |
//! | [`index`] | answers queries; may be deleted at any time |
//! | [`config`] | the TOML file in, checked values out |
//! | [`dicom`] | values from bytes (PS3.5, PS3.6, PS3.10) |
//! | [`job`] | when long work runs, and how fast |

pub mod archive;
pub mod cli;
pub mod config;
pub mod control;
pub mod dicom;
pub mod index;
pub mod job;
pub mod net;
pub mod scp;
pub mod scu;
pub mod server;
pub mod volume;
