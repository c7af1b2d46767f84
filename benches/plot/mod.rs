//! The drawing in the README: how long queries take in archives of different sizes.

use std::fmt::Write;

use serde_json::Value;

/// Kinds that are drawn, by their names in a report, and their colours.
const DRAWN: [(&str, &str); 6] = [
    ("accession number", "#0072b2"),
    ("series of a study", "#56b4e9"),
    ("one day", "#009e73"),
    ("1000 of a series", "#e69f00"),
    ("name ABC*", "#d55e00"),
    ("name *BCDE*", "#000000"),
];

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Around the axes: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (70.0, 40.0, 170.0, 50.0);
/// Of the ordinate, ms.
const LEAST: f64 = 0.1;
const MOST: f64 = 10_000.0;

/// Median (line) and 99th percentile (bar up from it) of the queries under `load`, of one report for each size.
pub fn svg(reports: &[Value], load: &str) -> String {
    let size = |report: &Value| report["instances"].as_f64().unwrap_or(1.0);
    let sizes: Vec<f64> = reports.iter().map(size).collect();
    let (first, last) = (
        sizes.iter().copied().fold(f64::INFINITY, f64::min),
        sizes.iter().copied().fold(1.0, f64::max),
    );
    let span = (last / first).ln().max(f64::MIN_POSITIVE);
    let right = WIDTH - MARGIN.2;
    let x = |size: f64| MARGIN.0 + 20.0 + (size / first).ln() / span * (right - MARGIN.0 - 40.0);
    let bottom = HEIGHT - MARGIN.3;
    let y = |ms: f64| {
        let share = (ms.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
        bottom - share * (bottom - MARGIN.1)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"22\">C-FIND to its last answer, ms: median, and up to the 99th percentile</text>\n",
        MARGIN.0
    );
    let mut ms = LEAST;
    while ms <= MOST * 1.01 {
        let at = y(ms);
        let _ = writeln!(
            out,
            "<line x1=\"{}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            MARGIN.0,
            MARGIN.0 - 8.0,
            at + 4.0,
            (ms * 10.0).round() / 10.0
        );
        ms *= 10.0;
    }
    for size in &sizes {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{} million</text>",
            x(*size),
            bottom + 22.0,
            (size / 1e6).round()
        );
    }
    let middle = (MARGIN.0 + right) / 2.0;
    let _ = writeln!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">instances in the archive</text>",
        HEIGHT - 8.0
    );
    let mut labels = Vec::new();
    for (kind, colour) in DRAWN {
        let point = |report: &Value| {
            let row = report["queries"]
                .as_array()?
                .iter()
                .find(|row| row["query"] == kind && row["load"] == load)?;
            Some((
                x(size(report)),
                y(row["p50_ms"].as_f64()?),
                y(row["p99_ms"].as_f64()?),
            ))
        };
        let points: Vec<_> = reports.iter().filter_map(point).collect();
        let Some(end) = points.last() else { continue };
        let line: Vec<_> = points
            .iter()
            .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, median, most) in &points {
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{median:.1}\" x2=\"{x:.1}\" y2=\"{most:.1}\" stroke=\"{colour}\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{median:.1}\" r=\"4\" fill=\"{colour}\"/>"
            );
        }
        labels.push((end.1 + 4.0, kind, colour));
    }
    // Labels of lines that end close together go below each other.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0_f64;
    for (at, kind, colour) in labels {
        let at = at.max(free);
        free = at + 15.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{kind}</text>",
            right + 8.0
        );
    }
    out.push_str("</svg>\n");
    out
}
