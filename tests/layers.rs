//! The map of the source, held against the source: arrows point down, and each file keeps to its own trade.

use std::path::{Path, PathBuf};

/// A module and its row; a row never uses its own row or one above.
const ROWS: &[(&str, u32)] = &[
    ("cli", 8),
    ("server", 7),
    ("web", 6),
    ("scp", 5),
    ("control", 5),
    ("forward", 4),
    ("commitment", 4),
    ("pull", 4),
    ("probe", 4),
    ("sending", 3),
    ("backup", 3),
    ("notices", 3),
    ("transfers", 2),
    ("audit", 2),
    ("accounts", 2),
    ("archive", 2),
    ("scu", 2),
    ("volume", 1),
    ("index", 1),
    ("net", 1),
    ("pixels", 1),
    ("config", 1),
    ("amounts", 0),
    ("dicom", 0),
    ("metrics", 0),
    ("job", 0),
    ("memory", 0),
];

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    walkdir::WalkDir::new(&root)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "rs")
        })
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            // Tests may reach anywhere.
            let text = text
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap()
                .to_owned();
            (entry.path().strip_prefix(&root).unwrap().to_owned(), text)
        })
        .filter(|(path, _)| !is_test_file(path))
        .collect()
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    name == "tests"
        || name.ends_with("_tests")
        || name == "loopback"
        || path.components().any(|part| part.as_os_str() == "tests")
}

fn module_of(path: &Path) -> String {
    path.components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn a_module_uses_only_the_rows_below_it() {
    let row = |name: &str| {
        ROWS.iter()
            .find(|(module, _)| *module == name)
            .map(|(_, row)| *row)
    };
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some(own) = row(&module) else { continue };
        for line in code(&text) {
            for part in line.split("crate::").skip(1) {
                let used: String = part
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if used != module && row(&used).is_some_and(|other| other >= own) {
                    broken.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "arrows that point up or sideways:\n{}",
        broken.join("\n")
    );
}

#[test]
fn only_two_files_and_the_engines_touch_the_file_system() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let allowed = ["volume/io.rs", "config/mod.rs", "config/edit.rs"]
            .iter()
            .any(|file| path == Path::new(file))
            || path.starts_with("index");
        if !allowed && code(&text).any(|line| line.contains("std::fs") || line.contains("fs::File"))
        {
            broken.push(path.display().to_string());
        }
    }
    assert!(
        broken.is_empty(),
        "std::fs outside volume/io.rs and config: {broken:?}"
    );
}

#[test]
fn every_module_has_a_row() {
    for (path, _) in sources() {
        let module = module_of(&path);
        let known = ["main", "lib"].contains(&module.as_str())
            || ROWS.iter().any(|(name, _)| *name == module);
        assert!(known, "{module} is not on the map");
    }
}
