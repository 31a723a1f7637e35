//! The blocks of a store, as promtool shows them.

use std::io::{self, Write};

use model::{Duration, format_rfc3339_millis};
use tsdb::BlockMeta;

/// A line for each block, with promtool's columns; sizes are those of the blocks' files, if they are known.
pub(crate) fn print<'a>(
    out: &mut impl Write,
    blocks: impl Iterator<Item = (&'a BlockMeta, Option<u64>)>,
    human_readable: bool,
) -> io::Result<()> {
    let columns = ["MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES"];
    let mut rows = vec![["BLOCK ULID".to_owned()].into_iter().chain(columns.map(str::to_owned)).collect::<Vec<_>>()];
    let mut sized = false;
    for (m, bytes) in blocks {
        let time = |millis: i64| if human_readable { format_rfc3339_millis(millis) } else { millis.to_string() };
        let mut row = vec![m.ulid.to_string(), time(m.min_time), time(m.max_time)];
        row.push(Duration::from_millis(m.max_time - m.min_time).to_string());
        row.extend([m.stats.num_samples, m.stats.num_chunks, m.stats.num_series].map(|n| n.to_string()));
        if let Some(bytes) = bytes {
            sized = true;
            row.push(if human_readable { size(bytes) } else { bytes.to_string() });
        }
        rows.push(row);
    }
    if sized {
        rows[0].push("SIZE".to_owned());
    }
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// `1.5MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use tsdb::{BlockStats, Compaction, Ulid};

    use super::*;

    #[test]
    fn blocks_are_lines_of_a_table() {
        let meta = BlockMeta {
            ulid: Ulid::new(0),
            min_time: 0,
            max_time: 7_200_000,
            stats: BlockStats { num_samples: 12, num_chunks: 3, num_series: 2, ..BlockStats::default() },
            compaction: Compaction::default(),
            version: 1,
        };
        let shown = |size, human_readable| {
            let mut out = Vec::new();
            print(&mut out, [(&meta, size)].into_iter(), human_readable).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().map(|l| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let head = "ULID MIN TIME MAX TIME DURATION NUM SAMPLES NUM CHUNKS NUM SERIES";
        assert_eq!(shown(None, false), [head.to_owned(), "0 7200000 2h 12 3 2".to_owned()]);
        assert_eq!(shown(Some(2048), false)[1], "0 7200000 2h 12 3 2 2048");
        assert_eq!(
            shown(Some(1_572_864), true),
            [format!("{head} SIZE"), "1970-01-01T00:00:00Z 1970-01-01T02:00:00Z 2h 12 3 2 1.5MiB".to_owned()]
        );
        assert_eq!((size(1023), size(1024)), ("1023B".to_owned(), "1.0KiB".to_owned()));
    }
}
