//! `kura journal`: what came and went.

use std::io::Write;
use std::ops::ControlFlow;

use clap::ValueEnum;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::output;
use super::{End, Failure};
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::transfers::{self, Direction, SearchEnd, Transfer, Wanted};

const EXAMPLES: &str = "\
Examples:
  kura journal                          the newest
  kura journal --since yesterday --failed
  kura journal --peer HOROS1 --direction forwarded --since 3d
  kura journal --study 1.2.392.200036.9116
  kura journal A700H --since 2026-01-01 --until 2026-02-01

Newest first. Images that are just coming have their line within a minute.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Journal {
    /// Words that are all in the line: of a UID, an AE title, an address, a status, a reason
    text: Vec<String>,
    /// AE title, or address
    #[arg(long)]
    peer: Option<String>,
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    #[arg(long, value_enum, ignore_case = true)]
    direction: Option<DirectionArgument>,
    /// Only where something failed
    #[arg(long)]
    failed: bool,
    /// From that day or moment on: 2026-01-31, 2026-01-31T08:00, today, yesterday, 3d, 12h, 30min
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Before that day or moment
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Lines shown at most; 0: all
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum DirectionArgument {
    /// Received
    Stored,
    /// Sent for a C-MOVE
    Moved,
    /// Sent for a C-GET
    Got,
    /// Sent by rule or by hand
    Forwarded,
    /// Asked of another archive
    Pulled,
    /// Storage commitment
    Committed,
}

impl From<DirectionArgument> for Direction {
    fn from(argument: DirectionArgument) -> Direction {
        match argument {
            DirectionArgument::Stored => Direction::Stored,
            DirectionArgument::Moved => Direction::Moved,
            DirectionArgument::Got => Direction::Got,
            DirectionArgument::Forwarded => Direction::Forwarded,
            DirectionArgument::Pulled => Direction::Pulled,
            DirectionArgument::Committed => Direction::Committed,
        }
    }
}

pub fn run(verb: &Journal, config: &Config, json: bool) -> Result<End, Failure> {
    let now = Zoned::now();
    let moment = |text: &Option<String>| -> Result<Option<String>, Failure> {
        let text = text.as_deref();
        let moment = text.map(|text| read_moment(text, &now)).transpose()?;
        Ok(moment.map(|moment| moment.to_string()))
    };
    let wanted = Wanted {
        words: verb.text.clone(),
        peer: verb.peer.clone(),
        study: verb.study.clone(),
        direction: verb.direction.map(Direction::from),
        failed: verb.failed,
        since: moment(&verb.since)?,
        until: moment(&verb.until)?,
        most: verb.limit,
    };
    let mut printer = Printer::new(json);
    let end = ask(config, wanted, &mut printer)?;
    if printer.stopped {
        return Ok(End::Ok);
    }
    printer.end(&end);
    if end.more {
        eprintln!(
            "note: there are more than {}; ask for less, or for all with --limit 0",
            verb.limit
        );
    }
    if end.damaged_count > 0 {
        eprintln!(
            "note: {} lines cannot be read and were passed over",
            end.damaged_count
        );
    }
    Ok(End::Ok)
}

/// By the running server, which has lines that are not written yet; without one, from its files.
fn ask(config: &Config, wanted: Wanted, printer: &mut Printer) -> Result<SearchEnd, Failure> {
    let mut last = None;
    let request = Request::Journal(wanted.clone());
    let asked = control::ask_each(&config.state, &request, &mut |response| match response {
        Response::Transfers(transfers) => printer.lines(&transfers),
        response => {
            last = Some(response);
            ControlFlow::Continue(())
        }
    })?;
    if !asked {
        let mut one = |transfer| printer.lines(&[transfer]);
        return Ok(transfers::search(&config.state, &wanted, &mut one)?);
    }
    match last {
        Some(Response::Journal(end)) => Ok(end),
        Some(Response::Failed { reason }) => Err(reason.into()),
        // Who reads the output has enough.
        None if printer.stopped => Ok(SearchEnd::default()),
        _ => Err("the server answered something else".into()),
    }
}

/// A day is its beginning, here.
fn read_moment(text: &str, now: &Zoned) -> Result<Timestamp, Failure> {
    let wrong = || -> Failure {
        format!("{text:?} is no moment; such as 2026-01-31, 2026-01-31T08:00, yesterday or 3d")
            .into()
    };
    let zone = TimeZone::system();
    let day = |date: Date| date.to_zoned(zone.clone()).map(|day| day.timestamp());
    match text {
        "today" => return Ok(day(now.date())?),
        "yesterday" => return Ok(day(now.date().yesterday()?)?),
        _ => {}
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if let Ok(number) = number.parse::<i64>()
        && (0..=100_000).contains(&number)
    {
        let span = match unit {
            "d" | "days" | "day" => Some(number.days()),
            "h" => Some(number.hours()),
            "min" => Some(number.minutes()),
            _ => None,
        };
        if let Some(span) = span {
            return Ok(now.checked_sub(span)?.timestamp());
        }
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return Ok(local.to_zoned(zone)?.timestamp());
    }
    Err(wrong())
}

/// Rows whose widths decide how wide the columns are.
const ROWS_MEASURED: usize = 1_000;

const HEADER: [&str; 9] = [
    "ENDED",
    "WHAT",
    "PEER",
    "INSTANCES",
    "SIZE",
    "SECONDS",
    "STATUS",
    "STUDY INSTANCE UID",
    "REASON",
];

/// Prints lines as they come.
struct Printer {
    json: bool,
    out: std::io::BufWriter<std::io::Stdout>,
    count: u64,
    /// Of a table, until its widths are known.
    rows: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    /// Nobody reads what is printed any more.
    stopped: bool,
}

impl Printer {
    fn new(json: bool) -> Printer {
        Printer {
            json,
            out: std::io::BufWriter::new(std::io::stdout()),
            count: 0,
            rows: Vec::new(),
            widths: None,
            stopped: false,
        }
    }

    fn lines(&mut self, transfers: &[Transfer]) -> ControlFlow<()> {
        let mut written = Ok(());
        for transfer in transfers {
            written = written.and_then(|()| self.one(transfer));
        }
        self.stopped = written.is_err();
        match self.stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn one(&mut self, transfer: &Transfer) -> std::io::Result<()> {
        self.count += 1;
        if self.json {
            let before = match self.count {
                1 => "{\"version\":1,\"transfers\":[",
                _ => ",",
            };
            let object = serde_json::to_string(transfer).map_err(std::io::Error::other)?;
            return write!(self.out, "{before}{object}");
        }
        let row = row(transfer);
        match &self.widths {
            Some(widths) => write!(self.out, "{}", output::row(&row, widths)),
            None => {
                self.rows.push(row);
                match self.rows.len() < ROWS_MEASURED {
                    true => Ok(()),
                    false => self.head(),
                }
            }
        }
    }

    fn head(&mut self) -> std::io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.widths = Some(output::widths(&HEADER, &rows));
        write!(self.out, "{}", output::table(&HEADER, &rows))
    }

    fn end(&mut self, end: &SearchEnd) {
        let result = match self.json {
            true => {
                let before = match self.count {
                    0 => "{\"version\":1,\"transfers\":[",
                    _ => "",
                };
                let (more, damaged) = (end.more, end.damaged_count);
                writeln!(
                    self.out,
                    "{before}],\"more\":{more},\"damaged_count\":{damaged}}}"
                )
            }
            false if self.count == 0 => writeln!(self.out, "nothing was noted"),
            false if self.widths.is_none() => self.head(),
            false => Ok(()),
        };
        // A reader that went away is not an error.
        drop(result.and_then(|()| self.out.flush()));
    }
}

fn row(transfer: &Transfer) -> Vec<String> {
    let ended = transfer.at.parse::<Timestamp>().map(|at| {
        let local = at.to_zoned(TimeZone::system());
        local.strftime("%Y-%m-%d %H:%M:%S").to_string()
    });
    let total = transfer.instances_count + transfer.failed_count;
    vec![
        ended.unwrap_or_else(|_| output::plain(&transfer.at)),
        transfer.direction.as_str().to_owned(),
        output::plain(&transfer.peer),
        match transfer.failed_count {
            0 => total.to_string(),
            _ => format!("{} of {total}", transfer.instances_count),
        },
        output::bytes(transfer.bytes),
        format!("{:.1}", transfer.seconds),
        format!("{:04X}H", transfer.status),
        output::plain(&transfer.study_instance_uid),
        output::plain(&transfer.reason),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_a_time_or_so_long_ago() {
        let now: Zoned = "2026-01-31T12:00:00[UTC]".parse().unwrap();
        let ago = |text: &str| {
            let moment = read_moment(text, &now).unwrap();
            now.timestamp().duration_since(moment).as_secs()
        };
        assert_eq!(ago("30min"), 30 * 60);
        assert_eq!(ago("12h"), 12 * 3600);
        assert_eq!(ago("3d"), 3 * 24 * 3600);
        assert_eq!(ago("2026-01-31T11:59:00Z"), 60);
        for text in ["", "d", "3x", "2026-13-01", "-1d", "999999999d"] {
            assert!(read_moment(text, &now).is_err(), "{text}");
        }
        let days = [
            ("2026-01-30", "2026-01-31"),
            ("2026-01-31", "2026-01-31T12:00"),
        ];
        for (earlier, later) in days {
            let moment = |text| read_moment(text, &now).unwrap();
            assert!(moment(earlier) < moment(later), "{earlier}");
        }
    }
}
