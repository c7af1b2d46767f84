//! What strangers' bytes go through, each way in by itself, with what must hold of it whatever the bytes are.
//!
//! `targets/` gives each to the fuzzer, `tests/fuzz_cases.rs` to what the fuzzer once found. Everything goes through
//! public functions of the library.
//!
//! | file | targets |
//! |---|---|
//! | `wire` | pdu, association, command_set |
//! | `data_set` | data_set_scan, part10, convert, amend, references |
//! | `words` | charset, texts, config |
//! | `query` | identifier, index_record |
//! | `disks` | ledger, label, intake_journal |
//! | `images` | jpeg, jpeg_ls, jpeg_2000, rle, thumbnail |

pub mod blind;
pub mod corpus;
mod data_set;
mod disks;
mod images;
mod input;
mod memory;
mod query;
mod wire;
mod words;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Longest input that is tried, in bytes.
pub const INPUT_BYTES_MAX: usize = 1 << 20;

const MIB: usize = 1 << 20;

pub struct Target {
    pub name: &'static str,
    /// What it may hold in memory at a time, in bytes, whatever the input.
    pub memory_bytes: usize,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, memory_mib: usize, run: fn(&[u8])) -> Target {
    Target {
        name,
        memory_bytes: memory_mib * MIB,
        run,
    }
}

/// Each with its bound: what the code itself promises to hold, twice or three times where things are compared, and the
/// input that is copied.
pub const TARGETS: &[Target] = &[
    target("amend", 48, data_set::amend),
    target("association", 8, wire::association),
    target("charset", 16, words::charset),
    target("command_set", 8, wire::command_set),
    target("config", 64, words::config),
    target("convert", 48, data_set::convert),
    target("data_set_scan", 64, data_set::data_set_scan),
    target("identifier", 32, query::identifier),
    target("index_record", 64, query::index_record),
    target("intake_journal", 32, disks::intake_journal),
    target("jpeg", 64, images::jpeg),
    target("jpeg_2000", 256, images::jpeg_2000),
    target("jpeg_ls", 64, images::jpeg_ls),
    target("label", 8, disks::label),
    target("ledger", 32, disks::ledger),
    target("part10", 16, data_set::part10),
    target("pdu", 16, wire::pdu),
    target("references", 64, data_set::references),
    target("rle", 64, images::rle),
    target("texts", 16, words::texts),
    target("thumbnail", 128, images::thumbnail),
];

/// One input through one target. Panics, or aborts the process, where something does not hold.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no target {name}"));
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    memory::within(target.memory_bytes, || (target.run)(data));
}
