//! `kura find`: search the archive from the shell.

pub(super) mod asked;

use std::io::Write;
use std::ops::ControlFlow;

use clap::ValueEnum;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use asked::Attribute;

use super::output;
use super::{End, Failure};
use crate::config::Config;
use crate::control::{self, FindEnd, FindKey, Request, Response};
use crate::dicom::{Tag, VR, items};
use crate::index::Values;

const EXAMPLES: &str = "\
Examples:
  kura find PatientID=4711
  kura find 'PatientName=yamada*' StudyDate=20260101-20260131 ModalitiesInStudy=CT
  kura find StudyDate=today PatientID PatientName StudyDescription
  kura find --level series StudyInstanceUID=1.2.3 --columns SeriesNumber,Modality,SeriesDescription
  kura find 'RequestAttributesSequence.RequestedProcedureID=R42' --level series
  kura find '(0008,1030)=*knee*' --fuzzy 'PatientName=john smith'
  kura find StudyDate=-20191231 --most 0 --csv > old.csv

* is any run of characters, ? is one. A value with \\ between is several: 'ModalitiesInStudy=CT\\MR'.
Exit codes: 0 done, also when nothing was found; 1 the index is not complete; 3 it could not be asked.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Find {
    /// What to search by, KEYWORD=VALUE: the keyword of DICOM or (gggg,eeee); SEQUENCE.KEYWORD for one in a sequence.
    /// Without =VALUE: a column to be shown
    #[arg(value_name = "KEY[=VALUE]")]
    keys: Vec<String>,
    #[arg(long, value_enum, ignore_case = true, default_value_t = LevelArgument::Study)]
    level: LevelArgument,
    /// What to show, in this order: PatientID,StudyDate,…
    #[arg(long, value_name = "KEYS")]
    columns: Option<String>,
    /// Words of names match in any order, with or without accents
    #[arg(long)]
    fuzzy: bool,
    /// Matches shown at most; 0: all
    #[arg(long, default_value_t = 1_000)]
    most: u64,
    /// Comma-separated values (RFC 4180) in UTF-8, keywords in the first line
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LevelArgument {
    Patient,
    Study,
    Series,
    #[value(alias = "instance")]
    Image,
}

impl LevelArgument {
    fn as_str(self) -> &'static str {
        match self {
            LevelArgument::Patient => "PATIENT",
            LevelArgument::Study => "STUDY",
            LevelArgument::Series => "SERIES",
            LevelArgument::Image => "IMAGE",
        }
    }

    /// Where no columns are asked for: headings and attributes.
    fn columns(self) -> &'static [(&'static str, Tag)] {
        match self {
            LevelArgument::Patient => &[
                ("PATIENT ID", tags::PATIENT_ID),
                ("NAME", tags::PATIENT_NAME),
                ("STUDIES", tags::NUMBER_OF_PATIENT_RELATED_STUDIES),
            ],
            LevelArgument::Study => &[
                ("DATE", tags::STUDY_DATE),
                ("PATIENT ID", tags::PATIENT_ID),
                ("NAME", tags::PATIENT_NAME),
                ("MODALITIES", tags::MODALITIES_IN_STUDY),
                ("INSTANCES", tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
                ("STUDY INSTANCE UID", tags::STUDY_INSTANCE_UID),
            ],
            LevelArgument::Series => &[
                ("MODALITY", tags::MODALITY),
                ("NUMBER", tags::SERIES_NUMBER),
                ("DESCRIPTION", tags::SERIES_DESCRIPTION),
                ("INSTANCES", tags::NUMBER_OF_SERIES_RELATED_INSTANCES),
                ("SERIES INSTANCE UID", tags::SERIES_INSTANCE_UID),
            ],
            LevelArgument::Image => &[
                ("NUMBER", tags::INSTANCE_NUMBER),
                ("SOP INSTANCE UID", tags::SOP_INSTANCE_UID),
            ],
        }
    }
}

pub fn run(verb: &Find, config: &Config, json: bool) -> Result<End, Failure> {
    let mut keys: Vec<FindKey> = Vec::new();
    let mut chosen: Vec<Attribute> = match &verb.columns {
        Some(text) => asked::list(text)?,
        None => Vec::new(),
    };
    for text in &verb.keys {
        match text.split_once('=') {
            Some((name, value)) => {
                let attribute = Attribute::read(name)?;
                attribute.add(&mut keys, &asked::with_dates(attribute.tag, value));
            }
            None => chosen.push(Attribute::read(text)?),
        }
    }
    let of_level = verb.level.columns().iter();
    let columns: Vec<Column> = match chosen.is_empty() {
        true => of_level
            .map(|(heading, tag)| Column::new((*heading).to_owned(), Attribute::of(*tag)))
            .collect(),
        false => chosen
            .iter()
            .map(|attribute| Column::new(attribute.name(), *attribute))
            .collect(),
    };
    for column in &columns {
        column.attribute.add(&mut keys, "");
    }
    let request = control::Find {
        level: verb.level.as_str().to_owned(),
        keys,
        fuzzy_names: verb.fuzzy,
        most: verb.most,
    };
    let form = match (json, verb.csv) {
        (true, _) => Form::Json {
            all: chosen.is_empty(),
        },
        (_, true) => Form::Csv,
        _ => Form::Table(Vec::new()),
    };
    let mut printer = Printer::new(form, columns);
    let end = ask(config, request, &mut printer)?;
    if printer.stopped {
        return Ok(End::Ok);
    }
    printer.end(&end);
    for tag in &end.ignored {
        eprintln!(
            "note: {} is not kept in the index, so that nothing was compared with it",
            keyword(*tag)
        );
    }
    if end.more {
        eprintln!(
            "note: there are more than {}; ask for less, or for all with --most 0",
            verb.most
        );
    }
    if !end.complete {
        eprintln!("warning: {}", end.note);
    }
    Ok(if end.complete { End::Ok } else { End::Degraded })
}

/// Gives the matches to the printer as they come; how the search ended.
fn ask(config: &Config, request: control::Find, printer: &mut Printer) -> Result<FindEnd, Failure> {
    let mut last = None;
    let mut give = |response| match response {
        Response::Matches(matches) => printer.matches(&matches),
        response => {
            last = Some(response);
            ControlFlow::Continue(())
        }
    };
    super::ask_each(config, Request::Find(request), &mut give)?;
    match last {
        Some(Response::Found(end)) => Ok(end),
        Some(Response::Failed { reason }) => Err(reason.into()),
        // Who reads the output has enough.
        None if printer.stopped => Ok(FindEnd::default()),
        _ => Err("the server answered something else".into()),
    }
}

struct Column {
    heading: String,
    attribute: Attribute,
}

impl Column {
    fn new(heading: String, attribute: Attribute) -> Column {
        Column { heading, attribute }
    }
}

enum Form {
    /// Rows kept until the widths of the columns are known.
    Table(Vec<Vec<String>>),
    Csv,
    /// With everything that is known, or the columns only.
    Json {
        all: bool,
    },
}

/// Rows whose widths decide how wide the columns of a table are; of a longer table they are printed when so many came.
const ROWS_MEASURED: usize = 1_000;

/// Prints matches as they come.
struct Printer {
    form: Form,
    columns: Vec<Column>,
    out: std::io::BufWriter<std::io::Stdout>,
    count: u64,
    /// Widths of the columns, once the head of a table was printed.
    widths: Option<Vec<usize>>,
    /// Nobody reads what is printed any more.
    stopped: bool,
}

impl Printer {
    fn new(form: Form, columns: Vec<Column>) -> Printer {
        Printer {
            form,
            columns,
            out: std::io::BufWriter::new(std::io::stdout()),
            count: 0,
            widths: None,
            stopped: false,
        }
    }

    fn matches(&mut self, matches: &[Values]) -> ControlFlow<()> {
        let mut written = Ok(());
        for values in matches {
            written = written.and_then(|()| self.one(values));
        }
        self.stopped = written.and_then(|()| self.out.flush()).is_err();
        match self.stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn one(&mut self, values: &Values) -> std::io::Result<()> {
        self.count += 1;
        let cells = self.columns.iter().map(|c| c.attribute.value(values));
        match &mut self.form {
            Form::Table(rows) => {
                let cells: Vec<String> = cells.map(|cell| output::plain(&cell)).collect();
                if let Some(widths) = &self.widths {
                    return self.out.write_all(output::row(&cells, widths).as_bytes());
                }
                rows.push(cells);
                if rows.len() > ROWS_MEASURED {
                    return self.head(&format!("more than {ROWS_MEASURED} found"));
                }
                Ok(())
            }
            Form::Csv => {
                let cells: Vec<String> = cells.collect();
                self.csv_head()?;
                self.out.write_all(output::csv(&cells).as_bytes())
            }
            Form::Json { all } => {
                let object: serde_json::Map<String, serde_json::Value> = match all {
                    true => values
                        .iter()
                        .map(|(t, v)| (keyword(*t), json(*t, v)))
                        .collect(),
                    false => {
                        let value = |c: &Column| match c.attribute.within {
                            Some(_) => c.attribute.value(values).into(),
                            None => json(c.attribute.tag, &c.attribute.value(values)),
                        };
                        let columns = self.columns.iter();
                        columns.map(|c| (c.attribute.name(), value(c))).collect()
                    }
                };
                let before = match self.count {
                    1 => "{\"version\":1,\"matches\":[",
                    _ => ",",
                };
                write!(self.out, "{before}{}", serde_json::Value::from(object))
            }
        }
    }

    /// What comes before the rows of a table, and those kept so far.
    fn head(&mut self, answer: &str) -> std::io::Result<()> {
        let Form::Table(rows) = &mut self.form else {
            return Ok(());
        };
        let rows = std::mem::take(rows);
        let header: Vec<&str> = self.columns.iter().map(|c| &*c.heading).collect();
        self.widths = Some(output::widths(&header, &rows));
        write!(self.out, "{answer}\n{}", output::table(&header, &rows))
    }

    fn csv_head(&mut self) -> std::io::Result<()> {
        if self.widths.is_none() {
            self.widths = Some(Vec::new());
            let names: Vec<String> = self.columns.iter().map(|c| c.attribute.name()).collect();
            return self.out.write_all(output::csv(&names).as_bytes());
        }
        Ok(())
    }

    fn end(&mut self, end: &FindEnd) {
        let result = match &self.form {
            Form::Table(_) if self.widths.is_none() => self.head(&format!("{} found", self.count)),
            Form::Table(_) => {
                eprintln!("{} found", self.count);
                Ok(())
            }
            Form::Csv => self.csv_head(),
            Form::Json { .. } => {
                let ignored: Vec<String> = end.ignored.iter().map(|tag| keyword(*tag)).collect();
                let rest = serde_json::json!({
                    "complete": end.complete,
                    "note": end.note,
                    "more": end.more,
                    "ignored": ignored,
                });
                let rest = rest.to_string();
                let before = match self.count {
                    0 => "{\"version\":1,\"matches\":[",
                    _ => "",
                };
                writeln!(self.out, "{before}],{}", rest.trim_start_matches('{'))
            }
        };
        // A reader that went away is not an error.
        drop(result.and_then(|()| self.out.flush()));
    }
}

/// Items of a sequence as objects, all else as text.
fn json(tag: u32, text: &str) -> serde_json::Value {
    if asked::vr(tag) != VR::SQ {
        return text.into();
    }
    let items = items::from_text(text).into_iter().map(|item| {
        let values = item.into_iter();
        values
            .map(|(tag, text)| (keyword(tag), serde_json::Value::from(text)))
            .collect::<serde_json::Map<_, _>>()
    });
    items.collect::<Vec<_>>().into()
}

pub fn keyword(tag: u32) -> String {
    let tag = Tag((tag >> 16) as u16, tag as u16);
    StandardDataDictionary
        .by_tag(tag)
        .map_or_else(|| tag.to_string(), |entry| entry.alias().to_owned())
}
