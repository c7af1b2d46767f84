//! dciodvfy as a judge: what it finds wrong with a file that it did not find wrong with another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::tools::{run_within, tool};

/// Real files with thousands of frames take it a while.
const LIMIT: Duration = Duration::from_secs(120);

/// The program; `None` (and a printed reason) where it is not installed.
pub fn program() -> Option<PathBuf> {
    tool("dciodvfy")
}

/// Errors of `amended` that `original` has not, or has less often. A complaint about a value that only moved (into the
/// Original Attributes Sequence, say) is no new one: values and places are left out of the comparison.
pub fn new_errors(program: &Path, original: &Path, amended: &Path) -> Vec<String> {
    let old = errors(program, original);
    let new = errors(program, amended);
    // A value that is kept as it was in the Original Attributes Sequence is complained about there as well.
    let known = |kind: &str| old.get(kind).map_or(0, |lines| lines.len() * 2);
    new.into_iter()
        .filter(|(kind, lines)| lines.len() > known(kind))
        .flat_map(|(_, lines)| lines)
        .collect()
}

/// By what is complained about, without values.
fn errors(program: &Path, path: &Path) -> BTreeMap<String, Vec<String>> {
    let outcome = run_within(Command::new(program).arg(path), LIMIT);
    let text = outcome.text();
    let mut errors = BTreeMap::<String, Vec<String>>::new();
    for line in text.lines().filter(|line| line.starts_with("Error")) {
        errors.entry(kind(line)).or_default().push(line.to_owned());
    }
    errors
}

/// What is complained about: `Error - Value dubious for this VR - (0x0010,0x0010) PN Patient's Name  PN [0] = <A B>` without the number of the value
/// and the value; names of modules and elements (`Element=<PatientOrientation>`) stay.
pub fn kind(line: &str) -> String {
    let line = line.split(" = <").next().unwrap_or_default();
    let mut kind = String::new();
    let mut depth = 0;
    for c in line.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            c if depth == 0 => kind.push(c),
            _ => {}
        }
    }
    kind.trim_end().to_owned()
}
