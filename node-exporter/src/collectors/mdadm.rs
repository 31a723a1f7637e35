use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError};
use crate::files::{Paths, malformed, names_or_none, number};

of_paths!(Mdadm, "mdadm", true);

/// An array as `/proc/mdstat` shows it.
#[derive(Debug, Default, PartialEq)]
struct Array<'a> {
    name: &'a str,
    state: &'a str,
    active: u64,
    failed: u64,
    spare: u64,
    required: u64,
    blocks: u64,
    synced: u64,
}

const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

impl Collector for Mdadm {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let path = self.0.proc("mdstat");
        let text = self.0.optional(&path)?;
        let arrays = parse(&text).map_err(|line| malformed(&path, &format!("error parsing mdstat: {line:?}")))?;
        let mut family = |name: &str, help: &str| page.family(name, help, MetricType::Gauge);
        let disks = family("node_md_disks", "Number of active/failed/spare disks of device.");
        let required = family("node_md_disks_required", "Total number of disks of device.");
        let blocks = family("node_md_blocks", "Total number of blocks on device.");
        let synced = family("node_md_blocks_synced", "Number of blocks synced on device.");
        let state = family("node_md_state", "Indicates the state of md-device.");
        let raid_disks = family("node_md_raid_disks", "Number of raid disks on device.");
        let degraded = family("node_md_degraded", "Number of degraded disks on device.");
        for array in arrays {
            let device = ("device", array.name);
            for (kind, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
                page.sample(disks, &[device, ("state", kind)], count as f64);
            }
            page.sample(required, &[device], array.required as f64);
            page.sample(blocks, &[device], array.blocks as f64);
            page.sample(synced, &[device], array.synced as f64);
            for name in STATES {
                page.sample(state, &[device, ("state", name)], f64::from(u8::from(name == array.state)));
            }
        }
        let folder = self.0.sys("block");
        for name in names_or_none(&folder).iter().filter(|n| n.starts_with("md")) {
            let md = folder.join(name).join("md");
            if let Some(count) = number(&md.join("raid_disks")) {
                page.sample(raid_disks, &[("device", name)], count);
                // levels without redundancy have no such file
                page.sample(degraded, &[("device", name)], number(&md.join("degraded")).unwrap_or(0.0));
            }
        }
        Ok(())
    }
}

/// Reads arrays; an error is the line that is not understood.
fn parse(text: &str) -> Result<Vec<Array<'_>>, String> {
    let mut arrays = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty()
            || line.starts_with("Personalities")
            || line.starts_with("unused")
            || line.starts_with(' ')
        {
            continue;
        }
        let mut fields = line.split_ascii_whitespace();
        let (Some(name), Some(":"), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(line.to_owned());
        };
        let failed = line.matches("(F)").count() as u64;
        let spare = line.matches("(S)").count() as u64;
        let members = line.matches('[').count() as u64;
        let details = lines.next().ok_or_else(|| line.to_owned())?;
        let blocks = details.split_ascii_whitespace().next().and_then(|b| b.parse().ok());
        let blocks = blocks.ok_or_else(|| details.to_owned())?;
        // `[4/3]`: required and active
        let counts = details.rsplit('[').find_map(|part| {
            let (required, active) = part.split_once(']')?.0.split_once('/')?;
            Some((required.parse().ok()?, active.parse().ok()?))
        });
        let (required, active) = match (counts, state) {
            // spares and failed members are all there is
            (_, "inactive") => (0, 0),
            (Some(counts), _) => counts,
            // arrays without redundancy need all their members
            (None, _) => (members - failed - spare, members - failed - spare),
        };
        let mut array = Array { name, state, active, failed, spare, required, blocks, synced: blocks };
        while let Some(line) = lines.next_if(|l| l.starts_with(' ')) {
            progress(line, &mut array);
        }
        arrays.push(array);
    }
    Ok(arrays)
}

/// A line on recovery, resync or check.
fn progress<'a>(line: &'a str, array: &mut Array<'a>) {
    let word = |name: &str| line.contains(name);
    array.state = if word("recovery") || word("reshape") || word("recover") {
        "recovering"
    } else if word("resync") {
        "resync"
    } else if word("check") {
        "check"
    } else {
        return;
    };
    let done = line.split_once('(').and_then(|(_, rest)| rest.split_once('/')).and_then(|(done, _)| done.parse().ok());
    // delayed and pending ones have not begun
    array.synced = done.unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_in_their_states() {
        let text = "Personalities : [raid1]\nmd6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      195310144 blocks [2/1] [U_]\n      \
                    [=>...]  recovery =  8.5% (16775552/195310144) finish=17.0min\n\nmd1 : active raid0 a[0] b[1]\n      10 blocks 64k \
                    chunks\n\nmd2 : inactive sdb[2](S) sdc[1](S)\n      79 blocks super external:imsm\n\nunused devices: <none>\n";
        let arrays = parse(text).unwrap();
        assert_eq!(
            arrays[0],
            Array {
                name: "md6",
                state: "recovering",
                active: 1,
                failed: 1,
                spare: 1,
                required: 2,
                blocks: 195_310_144,
                synced: 16_775_552
            }
        );
        assert_eq!((arrays[1].active, arrays[1].required, arrays[1].synced), (2, 2, 10));
        assert_eq!((arrays[2].state, arrays[2].active, arrays[2].spare), ("inactive", 0, 2));
        assert!(parse("md1 active\n").is_err());
    }
}
