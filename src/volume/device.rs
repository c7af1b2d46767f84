use std::collections::BTreeSet;
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disks { pub names: BTreeSet<String>, pub known: bool }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared { No, Yes, Unknown }
pub fn share(a: &Disks, b: &Disks) -> Shared {
    if !a.known || !b.known { return Shared::Unknown; }
    if a.names.is_disjoint(&b.names) { Shared::No } else { Shared::Yes }
}
