//! What a benchmark found: a table for people and JSON for programs.

use serde_json::{Map, Value, json};

use crate::proc_files;

/// A figure that is measured of each program.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in JSON, with its unit.
    pub key: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// How it is shown.
    pub unit: Unit,
    /// Whether less of it is better, so that peers are shown as multiples of us.
    pub compared: bool,
}

/// How a figure is shown. In JSON it is a plain number of seconds, bytes or things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Seconds, shown as milliseconds.
    Milliseconds,
    /// Bytes, shown as millions of bytes.
    Megabytes,
    /// A number of things.
    Count,
    /// A share, shown in per cent.
    Percent,
    /// Bytes of one thing, with the digits behind the point.
    Bytes,
}

/// Each unit with its name in JSON.
const UNITS: [(Unit, &str); 6] = [
    (Unit::Seconds, "seconds"),
    (Unit::Milliseconds, "milliseconds"),
    (Unit::Megabytes, "megabytes"),
    (Unit::Count, "count"),
    (Unit::Percent, "percent"),
    (Unit::Bytes, "bytes"),
];

impl Unit {
    fn name(self) -> &'static str {
        UNITS.iter().find(|(unit, _)| *unit == self).map_or("count", |(_, name)| name)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        UNITS.iter().find(|(_, n)| *n == name).map(|(unit, _)| *unit)
    }
}

/// The day by the clock of the machine, in UTC.
fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// What was measured of one program.
#[derive(Clone, Debug)]
pub struct Row {
    /// Programs that do the same thing have the same group; only those are compared.
    pub group: String,
    /// Its name.
    pub program: String,
    /// Whether it is ours.
    pub ours: bool,
    /// Its version.
    pub version: String,
    /// A figure for each column, in the columns' order, where it was measured.
    pub values: Vec<Option<f64>>,
}

/// What a benchmark found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The name of the report's file, without `.json`.
    pub name: String,
    /// The work, in a line.
    pub work: String,
    /// Whether it was a short run.
    pub quick: bool,
    /// The columns.
    pub columns: Vec<Column>,
    /// The programs.
    pub rows: Vec<Row>,
    /// Programs that did not take part, with the reason.
    pub left_out: Vec<(String, String)>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What went wrong, so that the figures of a program do not count.
    pub problems: Vec<String>,
    /// The day that it was measured on.
    pub date: String,
    /// Load average of the machine before it started.
    pub load_before: f64,
    /// Whether the table has a line for each group and program, with the ratios in it.
    pub by_group: bool,
}

impl Report {
    /// An empty report; reads the machine's load.
    #[must_use]
    pub fn new(name: &str, quick: bool, columns: &[Column]) -> Self {
        Self {
            name: name.to_owned(),
            quick,
            columns: columns.to_vec(),
            date: today(),
            load_before: proc_files::load(),
            ..Self::default()
        }
    }

    /// Each peer's figures as multiples of ours in the same group.
    fn ratios(&self) -> Vec<(&Row, Vec<Option<f64>>)> {
        let ours = |group: &str| self.rows.iter().find(|row| row.ours && row.group == *group);
        let peers = self.rows.iter().filter(|row| !row.ours);
        peers
            .filter_map(|peer| {
                let us = ours(&peer.group)?;
                let figures = self.columns.iter().zip(peer.values.iter().zip(&us.values));
                let ratio = |(column, (peer, us)): (&Column, (&Option<f64>, &Option<f64>))| match (peer, us) {
                    (Some(peer), Some(us)) if column.compared && *us > 0.0 => Some(peer / us),
                    _ => None,
                };
                Some((peer, figures.map(ratio).collect()))
            })
            .collect()
    }

    /// A line for each program, then one for each peer's ratios.
    fn lines_by_program(&self) -> Vec<Vec<String>> {
        let mut heading = vec!["program".to_owned()];
        heading.extend(self.columns.iter().map(|column| column.title.to_owned()));
        let mut lines = vec![heading];
        for row in &self.rows {
            let mut cells = vec![format!("{} {}", row.program, row.version)];
            let shown = self.columns.iter().zip(&row.values);
            cells.extend(shown.map(|(column, value)| value.map_or("-".to_owned(), |value| show(value, column.unit))));
            lines.push(cells);
        }
        for (peer, ratios) in self.ratios() {
            let mut cells = vec![format!("{} / us", peer.program)];
            cells.extend(ratios.iter().map(|ratio| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"))));
            lines.push(cells);
        }
        lines
    }

    /// A line for each group and program, with the ratios beside the figures.
    fn lines_by_group(&self) -> Vec<Vec<String>> {
        let mut heading = vec!["work".to_owned(), "program".to_owned()];
        heading.extend(self.columns.iter().map(|column| column.title.to_owned()));
        let mut lines = vec![heading];
        let ratios = self.ratios();
        let mut group = "";
        for row in &self.rows {
            let first = if group == row.group { "" } else { row.group.as_str() };
            group = &row.group;
            let mut cells = vec![first.to_owned(), format!("{} {}", row.program, row.version)];
            let of_row = ratios.iter().find(|(peer, _)| std::ptr::eq(*peer, row));
            for (number, (column, value)) in self.columns.iter().zip(&row.values).enumerate() {
                let ratio = of_row.and_then(|(_, ratios)| ratios[number]);
                let ratio = ratio.map_or(String::new(), |ratio| format!(" ({ratio:.1}x)"));
                cells.push(value.map_or("-".to_owned(), |value| show(value, column.unit)) + &ratio);
            }
            lines.push(cells);
        }
        lines
    }

    /// The report for people.
    #[must_use]
    pub fn table(&self) -> String {
        let lines = if self.by_group { self.lines_by_group() } else { self.lines_by_program() };
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = format!("{}: {}\n\n", self.name, self.work);
        for line in &lines {
            let names = if self.by_group { 2 } else { 1 };
            let mut text = String::new();
            for (number, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match number {
                    0 => text.push_str(&format!("{cell:<width$}")),
                    _ if number < names => text.push_str(&format!("  {cell:<width$}")),
                    _ => text.push_str(&format!("  {cell:>width$}")),
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out.push('\n');
        if self.quick {
            out.push_str("note: a quick run with less work than the full one; its figures are no claim\n");
        }
        for (program, reason) in &self.left_out {
            out.push_str(&format!("left out: {program}: {reason}\n"));
        }
        for note in &self.notes {
            out.push_str(&format!("note: {note}\n"));
        }
        for problem in &self.problems {
            out.push_str(&format!("PROBLEM: {problem}\n"));
        }
        out
    }

    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let named = |values: &[Option<f64>]| -> Map<String, Value> {
            let figures = self.columns.iter().zip(values);
            figures.filter_map(|(column, value)| Some((column.key.to_owned(), json!((*value)?)))).collect()
        };
        let results = self.rows.iter().map(|row| {
            json!({
                "group": row.group, "program": row.program, "ours": row.ours, "version": row.version,
                "values": named(&row.values),
            })
        });
        let column = |column: &Column| {
            let Column { key, title, unit, compared } = column;
            json!({"key": key, "title": title, "unit": unit.name(), "compared": compared})
        };
        let ratios = self.ratios();
        let ratios = ratios.iter().map(|(peer, ratios)| {
            json!({"group": peer.group, "program": peer.program, "version": peer.version, "values": named(ratios)})
        });
        json!({
            "benchmark": self.name,
            "work": self.work,
            "quick": self.quick,
            "date": self.date,
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
            "machine": {
                "processor": proc_files::processor_model(),
                "memory_bytes": proc_files::machine_memory(),
                "kernel": proc_files::kernel(),
                "processors": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
                "load_before": self.load_before,
                "load_after": proc_files::load(),
            },
            "results": results.collect::<Vec<_>>(),
            "multiples_of_us": ratios.collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(|(p, r)| json!({"program": p, "reason": r})).collect::<Vec<_>>(),
            "notes": self.notes,
            "problems": self.problems,
        })
    }
}

pub(crate) fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Milliseconds => {
            let value = value * 1e3;
            if value < 100.0 { format!("{value:.2} ms") } else { format!("{value:.0} ms") }
        }
        Unit::Megabytes => format!("{:.1} MB", value / 1e6),
        Unit::Count => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (number, digit) in digits.chars().enumerate() {
                if number > 0 && (digits.len() - number).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        Unit::Percent => format!("{:.1} %", value * 100.0),
        Unit::Bytes => format!("{value:.3} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { key: "cpu_seconds", title: "CPU", unit: Unit::Seconds, compared: true },
        Column { key: "rss_bytes", title: "RSS", unit: Unit::Megabytes, compared: true },
        Column { key: "samples", title: "samples", unit: Unit::Count, compared: false },
    ];

    fn report() -> Report {
        let row = |group: &str, program: &str, ours, values| {
            let version = "1.0".to_owned();
            Row { group: String::from(group), program: program.to_owned(), ours, version, values }
        };
        Report {
            name: "ingest".to_owned(),
            work: "little".to_owned(),
            columns: COLUMNS.to_vec(),
            rows: vec![
                row("a", "collector", true, vec![Some(2.0), Some(5e7), Some(1_234_567.0)]),
                row("a", "prometheus", false, vec![Some(9.0), None, Some(999.0)]),
                row("b", "lonely", false, vec![Some(9.0), Some(1e6), None]),
            ],
            left_out: vec![("victoria-metrics".to_owned(), "no network".to_owned())],
            notes: vec!["be careful".to_owned()],
            problems: vec!["prometheus: 3 targets are down".to_owned()],
            date: "2026-01-02".to_owned(),
            load_before: 0.5,
            by_group: false,
            quick: false,
        }
    }

    #[test]
    fn the_table_has_figures_ratios_and_all_that_went_wrong() {
        let expected = "\
ingest: little

program             CPU      RSS    samples
collector 1.0    2.00 s  50.0 MB  1,234,567
prometheus 1.0   9.00 s        -        999
lonely 1.0       9.00 s   1.0 MB          -
prometheus / us   4.50x

left out: victoria-metrics: no network
note: be careful
PROBLEM: prometheus: 3 targets are down
";
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn the_table_by_group_has_the_ratios_beside_the_figures() {
        let mut report = Report { by_group: true, columns: COLUMNS[..1].to_vec(), ..report() };
        report.rows.iter_mut().for_each(|row| row.values.truncate(1));
        let expected = "\
ingest: little

work  program                   CPU
a     collector 1.0          2.00 s
      prometheus 1.0  9.00 s (4.5x)
b     lonely 1.0             9.00 s
";
        assert!(report.table().starts_with(expected), "{}", report.table());
    }

    #[test]
    fn a_quick_run_says_so() {
        let report = Report { quick: true, ..report() };
        assert!(report.table().contains("note: a quick run"));
        assert_eq!(report.json()["quick"], true);
    }

    #[test]
    fn the_json_names_every_figure() {
        let json = report().json();
        assert_eq!(json["benchmark"], "ingest");
        assert_eq!(json["results"][0]["values"]["samples"], 1_234_567.0);
        assert_eq!(json["results"][0]["ours"], true);
        assert_eq!(json["results"][1]["values"], json!({"cpu_seconds": 9.0, "samples": 999.0}));
        assert_eq!(json["multiples_of_us"][0]["values"], json!({"cpu_seconds": 4.5}));
        assert_eq!(json["multiples_of_us"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["left_out"][0]["reason"], "no network");
        assert_eq!(json["problems"][0], "prometheus: 3 targets are down");
        assert!(json["machine"]["processors"].as_u64() > Some(0));
    }

    #[test]
    fn units_are_shown() {
        for (value, unit, expected) in [
            (0.001234, Unit::Milliseconds, "1.23 ms"),
            (1.5, Unit::Milliseconds, "1500 ms"),
            (0.987, Unit::Percent, "98.7 %"),
            (0.0, Unit::Count, "0"),
            (123_456.0, Unit::Count, "123,456"),
            (0.57912, Unit::Bytes, "0.579 B"),
        ] {
            assert_eq!(show(value, unit), expected);
        }
    }
}
