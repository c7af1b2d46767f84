//! Kura: an embedded DICOM archive server.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | one file per verb; screens and JSON |
//! | [`server`] | start and stop order of the listener and the associations |
//! | [`web`] | the administrator's page and the JSON API |
//! | [`scp`] | the services we answer: echo, store, find, retrieve |
//! | [`control`] | what the command line asks of a running server |
//! | [`forward`] | new studies to the peers that read them: rules, outbox |
//! | [`commitment`] | storage commitment: what we were asked to keep, and when that is true |
//! | [`pull`] | studies from another archive to here |
//! | [`notices`] | somebody is told when the state changes |
//! | [`backup`] | the state in one file, and back |
//! | [`probe`] | what a peer can do, tried out |
//! | [`sending`] | instances to a peer: presentation contexts, bytes, what became of each |
//! | [`transfers`] | the journal of what came and went |
//! | [`audit`] | who did what |
//! | [`accounts`] | users and tokens of the page and the API |
//! | [`archive`] | the promise: durable, indexed, then "yes" |
//! | [`scu`] | the services we call: echo, store, find |
//! | [`net`] | PDUs, associations, DIMSE messages (PS3.8, PS3.7) |
//! | [`pixels`] | compressed images into plain ones; runs in a process of its own |
//! | [`volume`] | named bytes on labelled disks |
//! | [`index`] | answers queries; may be deleted at any time |
//! | [`config`] | the TOML file in, checked values out |
//! | [`dicom`] | values from bytes (PS3.5, PS3.6, PS3.10) |
//! | [`metrics`] | what this server has done since it started |
//! | [`amounts`] | bytes and durations as people read them |
//! | [`memory`] | memory for data sets in flight: one budget |
//! | [`job`] | when long work runs, and how fast |

#![forbid(unsafe_code)]

pub mod accounts;
pub mod amounts;
pub mod archive;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod commitment;
pub mod config;
pub mod control;
pub mod dicom;
pub mod forward;
pub mod index;
pub mod job;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod notices;
pub mod pixels;
pub mod probe;
pub mod pull;
pub mod scp;
pub mod scu;
pub mod sending;
pub mod server;
pub mod transfers;
pub mod volume;
pub mod web;
