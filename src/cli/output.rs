//! Everything that is printed: tables, bars, bytes, JSON, failures.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub use crate::amounts::{bytes, seconds};

/// Text that came from outside, safe to print: control characters would move the terminal's cursor or change its state.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Columns as wide as their widest cell, two spaces between, no trailing spaces.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths = widths(header, rows);
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = row(&header, &widths);
    for cells in rows {
        text.push_str(&row(cells, &widths));
    }
    text
}

/// Of the columns of a table.
pub fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// One line of a table.
pub fn row(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

/// One record of comma-separated values (RFC 4180), its end included.
pub fn csv(cells: &[String]) -> String {
    let quoted: Vec<String> = cells
        .iter()
        .map(|cell| match cell.contains(['"', ',', '\r', '\n']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        })
        .collect();
    format!("{}\r\n", quoted.join(","))
}

pub fn json(value: &serde_json::Value) {
    line(&value.to_string());
}

/// To standard output; a reader that went away (`| head`) is not an error.
pub fn line(text: &str) {
    drop(writeln!(
        std::io::stdout(),
        "{}",
        text.trim_end_matches('\n')
    ));
}

/// As [`line`], without an end of line of its own.
pub fn bytes_as_they_are(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

pub fn failure(as_json: bool, failure: &dyn std::error::Error) {
    if as_json {
        json(&serde_json::json!({ "version": 1, "error": failure.to_string() }));
    }
    drop(writeln!(std::io::stderr(), "error: {failure}"));
}

/// Progress of long work on standard error: a bar on a terminal, nothing elsewhere.
pub struct Bar {
    total: u64,
    begun: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Bar {
    pub fn new(total: u64) -> Bar {
        Bar {
            total: total.max(1),
            begun: Instant::now(),
            drawn: None,
            shown: std::io::stderr().is_terminal(),
        }
    }

    pub fn at(&mut self, done: u64, note: &str) {
        let due = self
            .drawn
            .is_none_or(|drawn| drawn.elapsed() >= Duration::from_millis(100));
        if !self.shown || !(due || done >= self.total) {
            return;
        }
        self.drawn = Some(Instant::now());
        let share = done as f64 / self.total as f64;
        let filled = (share * 30.0) as usize;
        let elapsed = self.begun.elapsed().as_secs_f64();
        let left = if done > 0 {
            elapsed / share - elapsed
        } else {
            0.0
        };
        eprint!(
            "\r[{:30}] {:3.0} %  {note}  {left:.0} s left \x1b[K",
            "#".repeat(filled),
            share * 100.0
        );
    }

    pub fn end(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_csv_are_quoted_where_they_must_be() {
        let cells = ["A", "", "B,C", "say \"hi\"", "two\r\nlines", "^=\\"].map(str::to_owned);
        assert_eq!(
            csv(&cells),
            "A,,\"B,C\",\"say \"\"hi\"\"\",\"two\r\nlines\",^=\\\r\n"
        );
    }

    #[test]
    fn a_name_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("A\x1b[2J\r^B"), "A\u{fffd}[2J\u{fffd}^B");
    }
}
