//! Damage in the files of a store.

use std::io::{self, Write};

use tsdb::{Faults, RepairedBlock, Verification};

/// A line for each block and each file of the log, with what is wrong with it below.
pub(crate) fn print(out: &mut impl Write, found: &Verification) -> io::Result<()> {
    for block in &found.blocks {
        let about = block.meta.as_ref().map_or(String::new(), |meta| {
            format!(", {} series, {} samples", meta.stats.num_series, meta.stats.num_samples)
        });
        writeln!(out, "block {}: {}{about}", block.ulid, verdict(&block.faults))?;
        faults(out, &block.faults)?;
    }
    for log in &found.log {
        writeln!(out, "log {}: {}, {} records", log.path.display(), verdict(&log.faults), log.records)?;
        faults(out, &log.faults)?;
    }
    Ok(())
}

fn verdict(faults: &Faults) -> &'static str {
    if faults.count == 0 { "good" } else { "DAMAGED" }
}

fn faults(out: &mut impl Write, faults: &Faults) -> io::Result<()> {
    for text in &faults.texts {
        writeln!(out, "  {text}")?;
    }
    let more = faults.count - faults.texts.len() as u64;
    if more > 0 { writeln!(out, "  and {more} more") } else { Ok(()) }
}

/// A line for each damaged block.
pub(crate) fn print_repaired(out: &mut impl Write, repaired: &[RepairedBlock]) -> io::Result<()> {
    if repaired.is_empty() {
        writeln!(out, "no block is damaged")?;
    }
    for RepairedBlock { ulid, replacement, series: (kept, lost), moved_to } in repaired {
        match replacement {
            Some(new) => writeln!(out, "block {ulid}: {kept} series are in {new}, {lost} are lost")?,
            None => writeln!(out, "block {ulid}: nothing of it could be read")?,
        }
        writeln!(out, "  its files are in {}", moved_to.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tsdb::{CheckedBlock, CheckedLog, Ulid};

    use super::*;

    #[test]
    fn what_is_wrong_stands_below_its_file() {
        let bad = Faults { texts: vec!["the index is damaged".to_owned()], count: 3 };
        let found = Verification {
            blocks: vec![CheckedBlock { ulid: Ulid::new(0), meta: None, faults: bad }],
            log: vec![CheckedLog { path: "wal/00000001".into(), records: 7, faults: Faults::default() }],
        };
        let mut out = Vec::new();
        print(&mut out, &found).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("block ") && lines[0].ends_with(": DAMAGED"), "{text}");
        assert_eq!(lines[1..], ["  the index is damaged", "  and 2 more", "log wal/00000001: good, 7 records"]);
    }

    #[test]
    fn a_repair_tells_where_the_damaged_files_are() {
        let mut out = Vec::new();
        print_repaired(&mut out, &[]).unwrap();
        let block =
            |replacement| RepairedBlock { ulid: Ulid::new(0), replacement, series: (5, 1), moved_to: "aside".into() };
        print_repaired(&mut out, &[block(None), block(Some(Ulid::new(1)))]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[2]), ("no block is damaged", "  its files are in aside"));
        assert!(lines[1].ends_with("nothing of it could be read"), "{text}");
        assert!(lines[3].contains(": 5 series are in ") && lines[3].ends_with(", 1 are lost"), "{text}");
    }
}
