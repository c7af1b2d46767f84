//! The handbook's list of messages, held against the source.

use std::path::Path;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Method: the constants of `scp/status.rs` that are answered, each looked up by its number.
#[test]
fn every_status_that_is_answered_is_explained() {
    let page = read("docs/messages.md");
    let mut count = 0;
    for line in read("src/scp/status.rs").lines() {
        let Some((_, number)) = line.split_once("u16 = 0x") else {
            continue;
        };
        count += 1;
        let row = format!("| {}H |", number.trim_end_matches(';'));
        assert!(page.contains(&row), "docs/messages.md has no row {row:?}");
    }
    assert!(count > 10, "only {count} statuses were found");
}

/// Method: the texts in every `actions.push` of what `kura status` is made of; the words before their second hole must
/// stand in the handbook, holes as `…`.
#[test]
fn every_sentence_of_the_status_is_explained() {
    let page = read("docs/messages.md");
    let mut count = 0;
    for file in [
        "src/archive/status.rs",
        "src/archive/copies_status.rs",
        "src/archive/checked_status.rs",
        "src/archive/replace_status.rs",
        "src/archive/journals.rs",
    ] {
        let source = read(file);
        for sentence in sentences(&source) {
            count += 1;
            let holes = with_holes(&sentence);
            let words = holes.split(['(', ':', ';', ',']).next().unwrap().trim();
            assert!(
                page.contains(words),
                "{file} says {holes:?}; docs/messages.md does not have {words:?}"
            );
        }
    }
    assert!(count > 15, "only {count} sentences were found");
}

/// String literals in the brackets of each `actions.push(…)`.
fn sentences(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in source.split("actions.push(").skip(1) {
        let (mut depth, mut literal) = (1, None::<String>);
        for character in part.chars() {
            match (&mut literal, character) {
                (Some(text), '"') => {
                    // What goes into the hole of another sentence stands in a statement of its own.
                    if text.split(' ').count() > 4 && !text.starts_with("{what}") {
                        found.push(std::mem::take(text));
                    }
                    literal = None;
                }
                (Some(text), other) => text.push(other),
                (None, '"') => literal = Some(String::new()),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn with_holes(text: &str) -> String {
    let mut said = String::new();
    let mut inside = false;
    for character in text.chars() {
        match character {
            '{' => {
                inside = true;
                said.push('…');
            }
            '}' => inside = false,
            _ if inside => {}
            other => said.push(other),
        }
    }
    said
}
