//! Promise: the tables of `CONFORMANCE.md` say what the program does.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::wire::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, STUDY_ROOT_FIND};
use common::{Server, build};
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use kura::config::{Config, Limits};
use kura::dicom::attributes::item_keys;
use kura::dicom::{
    Answering, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, INDEXED, Level, Tag,
};
use kura::net::{extended, pdu};

fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rows of the table whose first heading begins so, without the headings.
fn table(first_heading: &str) -> Vec<Vec<String>> {
    let text = source("CONFORMANCE.md");
    let start = format!("| {first_heading}");
    let rows = text.lines().skip_while(|line| !line.starts_with(&start));
    let rows: Vec<Vec<String>> = rows
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(
        !rows.is_empty(),
        "CONFORMANCE.md has no table {first_heading:?}"
    );
    rows
}

fn column(rows: &[Vec<String>], at: usize) -> BTreeSet<String> {
    let cells = rows.iter().map(|row| row[at].clone());
    cells.filter(|cell| !cell.is_empty()).collect()
}

/// Constants of a module or a file: name, what stands behind `=`.
fn constants(text: &str, kind: &str) -> BTreeMap<String, String> {
    let constants = text.lines().filter_map(|line| {
        let (name, value) = line.trim().strip_prefix("pub const ")?.split_once(kind)?;
        let value = value.trim_matches([' ', '=', ';', '"']);
        Some((name.to_owned(), value.to_owned()))
    });
    constants.collect()
}

/// The text of `pub mod NAME { … }` in `src/dicom/uid.rs`.
fn module(name: &str) -> String {
    let text = source("src/dicom/uid.rs");
    let start = text
        .find(&format!("pub mod {name} {{"))
        .expect("the module");
    let end = text[start..].find("\n}").expect("its end");
    text[start..start + end].to_owned()
}

/// Method: every SOP class of the table is proposed to a server; the constants are those of the table and no others.
#[test]
fn the_sop_classes_are_those_that_are_accepted() {
    let rows = table("SOP class");
    let mut listed = column(&rows, 1);
    assert!(listed.remove("(see 4.2.2)"));
    // A class whose content is looked at.
    let not_services = ["KEY_OBJECT_SELECTION_DOCUMENT_STORAGE"];
    let mut named = constants(&module("sop"), ": &str");
    named.retain(|name, _| !not_services.contains(&name.as_str()));
    assert_eq!(listed, named.into_values().collect());
    let server = Server::start();
    let contexts: Vec<(u8, &str, &[&str])> = listed
        .iter()
        .map(String::as_str)
        .chain(["1.2.840.10008.1.20.2", "1.2.840.10008.5.1.4.31"])
        .zip((1..).step_by(2))
        .map(|(class, id)| (id, class, &[IMPLICIT_LITTLE][..]))
        .collect();
    let client = server.associate(&contexts);
    for (id, class, _) in contexts {
        assert_eq!(
            client.accepted(id).is_some(),
            listed.contains(class),
            "{class}"
        );
    }
    client.release().expect("release");
}

/// Method: each alone in a storage context and in a query context.
#[test]
fn the_transfer_syntaxes_are_those_that_are_accepted() {
    let rows = table("Transfer syntax");
    let named = constants(&module("ts"), ": &str");
    assert_eq!(column(&rows, 1), named.into_values().collect());
    let server = Server::start();
    for row in rows {
        let syntax = match row[1].as_str() {
            "" => "1.2.3.4",
            syntax => syntax,
        };
        let client = server.associate(&[
            (1, build::CT_IMAGE_STORAGE, &[syntax]),
            (3, STUDY_ROOT_FIND, &[syntax]),
        ]);
        for (id, said) in [(1, &row[2]), (3, &row[3])] {
            assert_eq!(client.accepted(id).is_some(), said == "yes", "{row:?}");
        }
        client.release().expect("release");
    }
    // Which of several is taken.
    let deflated = "1.2.840.10008.1.2.1.99";
    let client = server.associate(&[(
        1,
        STUDY_ROOT_FIND,
        &[deflated, IMPLICIT_LITTLE, EXPLICIT_LITTLE],
    )]);
    assert_eq!(client.accepted(1), Some(EXPLICIT_LITTLE));
    client.release().expect("release");
}

#[test]
fn the_statuses_are_those_of_the_program() {
    let tables = [
        "C-STORE status",
        "C-FIND status",
        "C-MOVE and C-GET status",
        "N-ACTION status",
        "Status of any request",
    ];
    let listed: BTreeSet<String> = tables
        .iter()
        .flat_map(|name| column(&table(name), 0))
        .collect();
    let named = constants(&source("src/scp/status.rs"), ": u16");
    let named: BTreeSet<String> = named
        .into_values()
        .map(|value| value.trim_start_matches("0x").to_owned())
        .collect();
    assert_eq!(listed, named);
}

#[test]
fn the_failure_reasons_are_those_of_the_program() {
    let named = constants(&source("src/commitment/mod.rs"), ": u16");
    let named: BTreeSet<String> = named
        .into_values()
        .map(|value| value.trim_start_matches("0x").to_owned())
        .collect();
    assert_eq!(column(&table("Failure Reason"), 0), named);
}

fn keyword(tag: Tag) -> String {
    let entry = StandardDataDictionary.by_tag(tag);
    entry.unwrap_or_else(|| panic!("{tag}")).alias().to_owned()
}

fn words(cell: &str) -> BTreeSet<String> {
    cell.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_keys_are_those_that_are_kept() {
    let rows = table("Level");
    for (row, level) in
        rows.iter()
            .zip([Level::Patient, Level::Study, Level::Series, Level::Instance])
    {
        assert_eq!(row[0], level.as_str());
        let of_level = INDEXED.iter().filter(|(of, _)| *of == level);
        let kept: BTreeSet<String> = of_level.map(|(_, tag)| keyword(*tag)).collect();
        assert_eq!(words(&row[1]), kept, "{level}");
    }
    let listed: BTreeMap<String, BTreeSet<String>> = table("Sequence")
        .into_iter()
        .map(|row| (row[0].clone(), words(&row[1])))
        .collect();
    let kept: BTreeMap<String, BTreeSet<String>> = INDEXED
        .iter()
        .filter(|(_, tag)| !item_keys(*tag).is_empty())
        .map(|(_, tag)| {
            let keys = item_keys(*tag).iter().map(|key| keyword(*key));
            (keyword(*tag), keys.collect())
        })
        .collect();
    assert_eq!(listed, kept);
}

/// Method: each byte alone is proposed as 0 and as 1.
#[test]
fn what_is_negotiated_is_answered_so() {
    for (heading, class) in [
        ("Byte, FIND", STUDY_ROOT_FIND),
        ("Byte, MOVE and GET", common::wire::STUDY_ROOT_MOVE),
        ("Byte, MOVE and GET", common::wire::STUDY_ROOT_GET),
    ] {
        for (at, row) in table(heading).into_iter().enumerate() {
            assert!(row[0].starts_with(&(at + 1).to_string()), "{row:?}");
            for proposed in [0, 1] {
                let mut asked = vec![0; at + 1];
                asked[at] = proposed;
                let answered = extended::answer(class, &asked).expect("an answer");
                assert_eq!(answered.len(), asked.len());
                let said = row[1 + usize::from(proposed)].parse();
                assert_eq!(said, Ok(answered[at]), "{row:?}");
            }
        }
    }
}

/// Method: all registration numbers there may be, alone and with code extensions.
#[test]
fn the_character_sets_are_those_that_are_written() {
    let rows = table("Specific Character Set");
    let listed: BTreeSet<String> = column(&rows, 0).union(&column(&rows, 1)).cloned().collect();
    let mut known = BTreeSet::new();
    let mut try_one = |declared: &str, term: &str| {
        let answering = Answering::new(declared);
        let answered = answering.choose(&[]).term();
        if answered.split('\\').any(|one| one == term) {
            known.insert(term.to_owned());
        }
    };
    for number in 1..400 {
        let term = format!("ISO_IR {number}");
        try_one(&term, &term);
        let term = format!("ISO 2022 IR {number}");
        try_one(&format!("{term}\\ISO 2022 IR 100\\ISO 2022 IR 87"), &term);
        try_one(&format!("ISO 2022 IR 6\\{term}"), &term);
    }
    for term in ["GB18030", "GBK", "GB2312", "UTF-8"] {
        try_one(term, term);
    }
    // Nothing declared is the same.
    known.insert("ISO_IR 6".to_owned());
    assert_eq!(listed, known);
}

#[test]
fn the_parameters_of_associations_are_the_defaults() {
    let rows: BTreeMap<String, String> = table("Parameter")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let limits = Limits::default();
    let number = |name: &str| {
        let digits: String = rows[name]
            .chars()
            .filter(|c| *c != ',')
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse::<u64>().unwrap_or_else(|_| panic!("{name}"))
    };
    assert_eq!(rows["Application context"], pdu::APPLICATION_CONTEXT);
    assert_eq!(rows["Implementation class UID"], IMPLEMENTATION_CLASS_UID);
    assert_eq!(
        rows["Implementation version name"],
        IMPLEMENTATION_VERSION_NAME
    );
    for (name, value) in [
        (
            "Maximum PDU length received",
            u64::from(pdu::PDU_LENGTH_MAX),
        ),
        (
            "Associations accepted at the same time",
            limits.associations as u64,
        ),
        (
            "of which from one address",
            limits.associations_per_address as u64,
        ),
        ("A message that stalls", limits.stall_seconds),
        ("Silence between messages", limits.idle_seconds),
    ] {
        assert_eq!(number(name), value, "{name}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("kura.toml");
    std::fs::write(&file, "").expect("an empty configuration");
    let config = Config::load(Some(&file)).expect("the defaults");
    let said = table("Setting of `kura.toml`").remove(0);
    assert!(said[1].contains(config.ae_title.as_str()), "{said:?}");
    assert!(said[1].contains(&config.port.to_string()), "{said:?}");
}
