//! `[limits]`: how much at once, how long and how large. `docs/limits.md` says what a peer is told at each.

use serde::Deserialize;

use crate::dicom::scan::{self, Bounds};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same moment on which nothing is negotiated yet; for one more, the one that has waited longest of
    /// the address with most of them is closed.
    pub connections: usize,
    /// The same from one address.
    pub connections_per_address: usize,
    /// Associations at the same moment; one more is rejected with "local limit exceeded".
    pub associations: usize,
    /// Associations at the same moment from one address.
    pub associations_per_address: usize,
    /// Files and connections that this process may have open. `None`: what the system allows.
    pub open_files: Option<u64>,
    /// Seconds from a connection to its association: what PS3.8 9.1.5 calls the ARTIM timer.
    pub negotiation_seconds: u64,
    /// Seconds that an association may be open and silent between two messages.
    pub idle_seconds: u64,
    /// Seconds that a message may stall in the middle.
    pub stall_seconds: u64,
    /// Seconds that one C-FIND, C-MOVE or C-GET may take in all.
    pub request_seconds: u64,
    /// Seconds that work in flight gets when the server is told to stop.
    pub stop_seconds: u64,
    /// Longest command set, bytes.
    pub command_bytes: usize,
    /// Longest identifier of a query or retrieve, bytes.
    pub identifier_bytes: usize,
    /// Deepest nesting of sequences in what is received.
    pub sequence_depth: usize,
    /// Most elements and items in one data set that is received.
    pub elements: u64,
    /// Memory for data sets in flight, bytes.
    pub memory_bytes: usize,
    /// Most bytes that a volume's quarantine holds.
    pub quarantine_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            connections_per_address: 256,
            associations: 256,
            associations_per_address: 128,
            open_files: None,
            negotiation_seconds: 30,
            idle_seconds: 30 * 60,
            stall_seconds: 30,
            request_seconds: 24 * 3600,
            stop_seconds: 20,
            command_bytes: 64 << 10,
            identifier_bytes: 512 << 10,
            sequence_depth: scan::DEPTH_MAX,
            elements: scan::ELEMENTS_MAX,
            memory_bytes: 96 << 20,
            quarantine_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// The error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        const YEAR: u64 = 366 * 24 * 3600;
        let ranges = [
            ("connections", self.connections as u64, 1, 1_000_000),
            (
                "connections_per_address",
                self.connections_per_address as u64,
                1,
                1_000_000,
            ),
            ("associations", self.associations as u64, 1, 100_000),
            (
                "associations_per_address",
                self.associations_per_address as u64,
                1,
                100_000,
            ),
            (
                "open_files",
                self.open_files.unwrap_or(64),
                64,
                u64::from(u32::MAX),
            ),
            ("negotiation_seconds", self.negotiation_seconds, 1, 3600),
            ("idle_seconds", self.idle_seconds, 1, YEAR),
            ("stall_seconds", self.stall_seconds, 1, 3600),
            ("request_seconds", self.request_seconds, 1, YEAR),
            ("stop_seconds", self.stop_seconds, 0, 3600),
            // The longest command set that the standard knows fits in the least of it.
            (
                "command_bytes",
                self.command_bytes as u64,
                1 << 10,
                64 << 10,
            ),
            // A scan keeps all elements of one of the greatest size, whatever they are.
            (
                "identifier_bytes",
                self.identifier_bytes as u64,
                4 << 10,
                512 << 10,
            ),
            // What reads a data set again knows no other bounds.
            (
                "sequence_depth",
                self.sequence_depth as u64,
                4,
                scan::DEPTH_MAX as u64,
            ),
            ("elements", self.elements, 1_000, scan::ELEMENTS_MAX),
            ("memory_bytes", self.memory_bytes as u64, 8 << 20, 1 << 40),
            ("quarantine_bytes", self.quarantine_bytes, 0, u64::MAX),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!(
                    "[limits] {key} = {value}; {least} to {most} are possible"
                ));
            }
        }
        Ok(())
    }

    /// Of a data set that is received.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            depth: self.sequence_depth,
            elements: self.elements,
        }
    }
}

/// The part of what `kura init` writes that is about this.
pub(super) const TEMPLATE: &str = r#"
# What a peer is told at each of these, and what the log says: docs/limits.md.
[limits]
# Connections on which nothing is negotiated yet, in all and from one address. For one more, the one that has waited
# longest of the address with most of them is closed: who only connects keeps nobody out.
connections = 1024
connections_per_address = 256
# Associations at the same moment, in all and from one address; one more is rejected for now.
associations = 256
associations_per_address = 128
# Files and connections that may be open. Without it: what the system allows this process.
# open_files = 4096
# Seconds from a connection to its association.
negotiation_seconds = 30
# Seconds of silence allowed: between messages, and in the middle of one.
idle_seconds = 1800
stall_seconds = 30
# Seconds that one query or retrieve may take in all.
request_seconds = 86400
# Seconds that work in flight gets at a stop.
stop_seconds = 20
# Longest command set and longest identifier of a query or retrieve, bytes: at most 65536 and 524288.
command_bytes = 65536
identifier_bytes = 524288
# Of an instance that comes: how deep its sequences are nested, and how many elements it has; at most 64 and 5000000.
sequence_depth = 64
elements = 5000000
# Memory for data sets on their way in and out, bytes. When it is used up, they go in smaller pieces.
memory_bytes = 100663296
# Most bytes of refused instances that a volume keeps for the administrator.
quarantine_bytes = 1073741824
"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, and what the sentence names; empty: it is taken.
    #[test]
    fn a_value_out_of_range_is_refused_with_its_key_and_what_is_possible() {
        for (text, named) in [
            ("", ""),
            ("associations = 0", "associations = 0; 1 to 100000"),
            ("open_files = 3", "open_files = 3; 64 to"),
            ("stall_seconds = 0", "stall_seconds"),
            ("identifier_bytes = 1000000", "4096 to 524288"),
            ("sequence_depth = 65", "sequence_depth"),
            ("memory_bytes = 1", "memory_bytes"),
            ("quarantine_bytes = 0\nstop_seconds = 0", ""),
        ] {
            let limits: Limits = toml::from_str(text).unwrap();
            match (limits.check(), named) {
                (Ok(()), "") => {}
                (Err(why), named) if !named.is_empty() => assert!(why.contains(named), "{why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
