//! Promise: an answer comes in the character set that was asked for, or in UTF-8, says which, and is read by others as
//! what was stored.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use common::build::{CT_IMAGE_STORAGE, Tag, put};
use common::elements::Syntax;
use common::images::{ALL, STORE};
use common::tools::{peer_script, run, run_within, tool};
use common::{Server, files};
use kura::dicom::{TextEncoder, VR};

/// In which set a study is stored, and its patient's name.
const STORED: [(&str, &str); 20] = [
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾓﾄ^ｼﾞﾛｳ=山本^次郎=やまもと^じろう",
    ),
    ("ISO_IR 13", "ｽｽﾞｷ^ﾊﾅｺ"),
    (
        "ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159",
        "Niwa=丂丄^山",
    ),
    ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东"),
    ("GBK", "Wang^XiaoDong=王^小東"),
    ("GB18030", "Li^Wu=李^伍䶮"),
    ("ISO_IR 192", "Chen^Wei=陳^偉ヤ홍é"),
    ("ISO_IR 100", "Buc^Jérôme"),
    ("ISO_IR 101", "Wałęsa^Lech"),
    ("ISO_IR 109", "Ĥu^Ŝi"),
    ("ISO_IR 110", "Ķalniņš^Ē"),
    ("ISO_IR 144", "Люкceмбypг"),
    ("ISO_IR 127", "قباني^لنزار"),
    ("ISO_IR 126", "Διονυσιος"),
    ("ISO_IR 138", "שרון^דבורה"),
    ("ISO_IR 148", "Çavuşoğlu^İ"),
    ("ISO_IR 166", "สมชาย^ใจดี"),
    ("ISO_IR 203", "Ægir^Ýmir"),
];

/// In which sets each is asked for, beside its own.
const ASKED: [&str; 6] = [
    "ISO_IR 192",
    "ISO_IR 100",
    "",
    "GB18030",
    "\\ISO 2022 IR 87",
    "ISO_IR 144",
];

struct Question {
    charset: &'static str,
    /// The name in that set; empty where the set lacks it, and the patient's ID is asked.
    name: Vec<u8>,
    /// Number of the row in [`STORED`].
    row: usize,
}

impl Question {
    fn id(&self) -> String {
        format!("ID-{}", self.row)
    }

    /// By ID where the name cannot be written; else by name alone.
    fn line(&self) -> String {
        let hex: String = self.name.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = if self.name.is_empty() {
            self.id()
        } else {
            String::new()
        };
        format!("{}|{hex}|{id}\n", self.charset)
    }

    /// The set that the answer must be in.
    fn expected(&self) -> &'static str {
        let (_, name) = STORED[self.row];
        let declared = match self.charset {
            "" => "ISO_IR 100",
            declared => declared,
        };
        match TextEncoder::new(declared).encode(name, VR::PN) {
            Some(_) => declared,
            None => "ISO_IR 192",
        }
    }
}

fn questions() -> Vec<Question> {
    let mut all = Vec::new();
    for (row, (own, name)) in STORED.into_iter().enumerate() {
        let others = ASKED.into_iter().filter(|other| *other != own);
        for charset in [own].into_iter().chain(others) {
            let name = TextEncoder::new(charset).encode(name, VR::PN);
            let name = name.unwrap_or_default();
            all.push(Question { charset, name, row });
        }
    }
    all
}

fn filled() -> Server {
    let server = Server::start();
    let mut client = server.associate(ALL);
    for (row, (charset, name)) in STORED.into_iter().enumerate() {
        let sop = format!("2.25.{row}.1.1");
        let name = TextEncoder::new(charset).encode(name, VR::PN);
        let name = name.unwrap_or_else(|| panic!("{charset} lacks a character"));
        let mut data_set = Vec::new();
        for (tag, vr, value) in [
            (Tag(0x0008, 0x0005), "CS", charset.as_bytes()),
            (Tag(0x0008, 0x0016), "UI", CT_IMAGE_STORAGE.as_bytes()),
            (Tag(0x0008, 0x0018), "UI", sop.as_bytes()),
            (Tag(0x0010, 0x0010), "PN", &name),
            (Tag(0x0010, 0x0020), "LO", format!("ID-{row}").as_bytes()),
            (Tag(0x0020, 0x000D), "UI", format!("2.25.{row}").as_bytes()),
            (
                Tag(0x0020, 0x000E),
                "UI",
                format!("2.25.{row}.1").as_bytes(),
            ),
        ] {
            put(&mut data_set, Syntax::IMPLICIT_LITTLE, tag, vr, value);
        }
        let (status, comment) = client
            .c_store(STORE, CT_IMAGE_STORAGE, &sop, &data_set)
            .expect("C-STORE");
        assert_eq!(status, 0, "{comment:?}");
    }
    client.release().expect("release");
    server
}

/// Stands for a name in a set that a client cannot convert at all.
const UNSUPPORTED: &str = "(cannot be read by it)";

/// What a client read: character set, name and study of each answer, for each question.
type Read = Vec<Vec<(String, String, String)>>;

/// Compares, and prints a line for each stored set.
fn check(client: &str, questions: &[Question], read: &Read) {
    assert_eq!(questions.len(), read.len(), "{client}");
    let mut wrong = Vec::new();
    let mut matrix: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (question, answers) in questions.iter().zip(read) {
        let (stored, name) = STORED[question.row];
        let by = if question.name.is_empty() {
            "ID"
        } else {
            "name"
        };
        let what = format!(
            "{client}: {name:?} of {stored:?} asked by {by} in {:?}",
            question.charset
        );
        let uid = format!("2.25.{}", question.row);
        let expected = (question.expected().to_owned(), name.to_owned(), uid);
        let unsupported = (
            expected.0.clone(),
            UNSUPPORTED.to_owned(),
            expected.2.clone(),
        );
        let is_unsupported = *answers == [unsupported];
        if *answers != [expected.clone()] && !is_unsupported {
            wrong.push(format!("{what}: {answers:?}, not {expected:?}"));
        }
        let shown = match question.charset {
            "" => "none",
            charset => charset,
        };
        let line = matrix.entry(question.row).or_default();
        let note = if is_unsupported { UNSUPPORTED } else { "" };
        line.push(format!("{shown} ({by}) → {}{note}", expected.0));
    }
    for (row, line) in matrix {
        println!("{client}\t{}\t{}", STORED[row].0, line.join(", "));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn list(questions: &[Question], folder: &Path) -> std::path::PathBuf {
    let path = folder.join("list");
    let text: String = questions.iter().map(Question::line).collect();
    std::fs::write(&path, text).expect("write into the temporary folder");
    path
}

/// Method: every name, asked in its own set and in six others, by name where the set has it; pydicom reads the answers.
#[test]
fn pynetdicom_reads_every_name_in_every_set() {
    let Some(mut script) = peer_script("answered.py") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = filled();
    let questions = questions();
    let outcome = run(script
        .args(["--port", &server.port().to_string()])
        .arg(list(&questions, folder.path())));
    assert!(outcome.success(), "{}", outcome.text());
    let read: Read =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
    check("pynetdicom", &questions, &read);
}

/// What odil 0.12 reads otherwise than pydicom, stored in and asked in: code extensions in the first component group of a
/// name, katakana before kanji, JIS X 0212, and GB 2312.
const NOT_BY_ODIL: [(&str, &str); 4] = [
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
    ),
    (
        "ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159",
        "ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159",
    ),
    ("\\ISO 2022 IR 58", "\\ISO 2022 IR 58"),
    ("ISO_IR 144", "\\ISO 2022 IR 87"),
];

/// Method: the same with odil, where the system has it.
#[test]
fn odil_reads_every_name_in_every_set() {
    let Some(script) = peer_script("odil_answers.py") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = filled();
    let mut questions = questions();
    questions.retain(|question| !NOT_BY_ODIL.contains(&(STORED[question.row].0, question.charset)));
    let script = script.get_args().next().expect("a script").to_owned();
    let Some(python) = ["/usr/bin/python3"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        eprintln!("skipped: no python3 of the system");
        return;
    };
    let outcome = run(std::process::Command::new(python)
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["--port", &server.port().to_string()])
        .arg(list(&questions, folder.path())));
    if outcome.code == Some(77) {
        eprintln!("skipped: odil is not installed (Debian: python3-odil)");
        return;
    }
    assert!(outcome.success(), "{}", outcome.text());
    let read: Read =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
    check("odil", &questions, &read);
}

/// Method: findscu writes its answers as files, which dcmdump converts to UTF-8.
#[test]
fn dcmtk_reads_every_name_in_every_set() {
    let (Some(findscu), Some(dcmdump)) = (tool("findscu"), tool("dcmdump")) else {
        return;
    };
    let server = filled();
    let mut questions = questions();
    // A program for each question takes its time: without those that pynetdicom asks too.
    questions.retain(|question| {
        let (own, _) = STORED[question.row];
        [own, "ISO_IR 192", "ISO_IR 100", ""].contains(&question.charset)
    });
    let mut read = Read::new();
    for question in &questions {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = std::process::Command::new(&findscu);
        command
            .args(["-S", "-X", "-od"])
            .arg(folder.path())
            .args(["-aec", "KURA", "127.0.0.1"])
            .arg(server.port().to_string())
            .args(["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]);
        if !question.charset.is_empty() {
            command.args(["-k", &format!("SpecificCharacterSet={}", question.charset)]);
        }
        if question.name.is_empty() {
            command.args([
                "-k",
                "PatientName",
                "-k",
                &format!("PatientID={}", question.id()),
            ]);
        } else {
            let key = [b"PatientName=".as_slice(), &question.name].concat();
            command.args(["-k".into(), OsString::from_vec(key)]);
        }
        let outcome = run(&mut command);
        assert!(outcome.success(), "{}", outcome.text());
        let value = |file: &Path, options: &[&str], tag: &str| {
            let outcome = run(std::process::Command::new(&dcmdump)
                .args(options)
                .args(["+L", "+P", tag])
                .arg(file));
            if outcome.stderr.contains("not supported") {
                return UNSUPPORTED.to_owned();
            }
            assert!(outcome.success(), "{}", outcome.text());
            let inside = outcome
                .stdout
                .split_once('[')
                .and_then(|(_, rest)| rest.rsplit_once(']'));
            inside.map_or(String::new(), |(value, _)| value.trim_end().to_owned())
        };
        let answers = files::below(folder.path());
        let answers = answers.iter().map(|file| {
            (
                value(file, &[], "0008,0005"),
                value(file, &["+U8"], "0010,0010"),
                value(file, &[], "0020,000d"),
            )
        });
        read.push(answers.collect());
    }
    check("findscu", &questions, &read);
}

/// Method: files of real devices where there are any, else those of `testdata/`; pydicom reads each file and each answer.
#[test]
fn texts_of_real_files_are_answered_as_pydicom_reads_them() {
    let Some(mut script) = peer_script("sample_answers.py") else {
        return;
    };
    let server = Server::start();
    let folder = files::samples().unwrap_or_else(files::testdata);
    let goods = files::good_below(&folder);
    let stored = |good: &files::Good| {
        let class = good.uids.sop_class.as_str();
        let syntax = good.file.transfer_syntax.as_str();
        let mut client = server.associate(&[(1, class, &[syntax])]);
        let (status, comment) = client
            .c_store(1, class, &good.uids.sop_instance, &good.file.data_set)
            .expect("C-STORE");
        client.release().expect("release");
        if status != 0 {
            println!("{} is refused: {comment:?}", good.file.name());
        }
        status == 0
    };
    let goods: Vec<_> = goods.into_iter().filter(stored).collect();
    assert!(goods.len() > 40, "{}", goods.len());
    let outcome = run_within(
        script
            .args(["--called", "KURA", "--port"])
            .arg(server.port().to_string())
            .args(goods.iter().map(|good| &good.file.path)),
        Duration::from_secs(300),
    );
    assert!(outcome.success(), "{}", outcome.text());
    let seen: serde_json::Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.text()));
    assert_eq!(seen["differences"], serde_json::json!([]), "{seen:#}");
    assert_eq!(seen["read"], goods.len(), "{seen:#}");
    println!(
        "{} files, {} answers compared",
        seen["read"], seen["compared"]
    );
}
