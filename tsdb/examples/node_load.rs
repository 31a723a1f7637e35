//! Loads node-like series into a database and says what they cost: memory, time, bytes on disk, time to open and to read.
//!
//! ```text
//! node_load TARGETS SCRAPES INTERVAL_SECONDS [DIR [BLOCK_SECONDS]] [own]
//! ```
//! With `own` every sample has a timestamp of its own, some seconds before the scrape, as of values that were gathered one by one.
//! With scrapes that span more than one and a half blocks (of two hours, if nothing is said) blocks are cut and merged as well, and it
//! says what anonymous memory that took at most.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{Labels, Matcher};
use tsdb::{AppendError, Appender, Db, Options, SeriesRef};

/// Series of one target.
const SERIES: usize = 1500;

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// How a series moves, by what real node pages have: about two thirds stand still, most of the rest are counters.
#[derive(Clone, Copy)]
enum Kind {
    Constant,
    /// Seconds in hundredths that follow the clock, as the idle time of a core.
    Seconds(u64),
    /// A counter in units that come in bursts.
    Counter(u64),
    /// Bytes in pages, up and down.
    Pages,
    /// A small number that changes at times.
    Level,
    /// A fraction without short decimals.
    Fraction,
}

fn kind(series: usize) -> Kind {
    match series % 30 {
        0..=18 => Kind::Constant,
        19..=20 => Kind::Seconds(5 + series as u64 % 90),
        21..=22 => Kind::Counter(10),
        23..=24 => Kind::Counter(100_000),
        25..=26 => Kind::Pages,
        27..=28 => Kind::Level,
        _ => Kind::Fraction,
    }
}

fn labels(target: usize, series: usize) -> Labels {
    let instance = format!("node-{target:04}.example.net:9100");
    let name = format!("node_subsystem{:02}_metric_{:02}_total", series / 100, series / 10 % 10);
    let device = format!("dev{}", series % 10);
    Labels::from_pairs([
        ("__name__", name.as_str()),
        ("device", &device),
        ("instance", &instance),
        ("job", "node"),
        ("mode", if series.is_multiple_of(2) { "read" } else { "write" }),
    ])
}

fn step(value: &mut f64, kind: Kind, interval: u64, random: &mut Random) {
    match kind {
        Kind::Constant => {}
        Kind::Seconds(share) => {
            let hundredths = interval * share + random.below(1 + interval * 4);
            *value = ((*value * 100.0).round() + hundredths as f64) / 100.0;
        }
        Kind::Counter(scale) => {
            if random.below(4) > 0 {
                *value += random.below(scale * interval) as f64;
            }
        }
        Kind::Pages => *value = (*value + (random.below(401) as f64 - 200.0) * 4096.0).max(4096.0),
        Kind::Level => {
            if random.below(8) == 0 {
                *value = random.below(40) as f64;
            }
        }
        Kind::Fraction => *value = random.below(1 << 50) as f64 / (1u64 << 50) as f64,
    }
}

/// Appends the samples of a scrape.
fn append(
    appender: &mut Appender,
    time: i64,
    series: &[SeriesRef],
    values: &[f64],
    own: bool,
) -> Result<(), AppendError> {
    if own {
        for (at, (series, value)) in series.iter().zip(values).enumerate() {
            let before = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            appender.append(*series, time - (before % 5000) as i64, *value)?;
        }
    } else {
        appender.append_row(time, series, values);
    }
    Ok(())
}

fn rss_megabytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1e6
}

/// Anonymous memory of the process.
fn anonymous_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0 / 1e6
}

/// Processor time of the process, all threads together.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // in hundredths, as everywhere
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Does some work and gives the most anonymous memory that there was meanwhile.
fn most_memory_of<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0.0f64;
            while !done.load(Ordering::Relaxed) {
                most = most.max(anonymous_megabytes());
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, watch.join().unwrap_or(0.0))
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let own = args.pop_if(|last| last == "own").is_some();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |a| a.parse());
    let (targets, scrapes, interval) = (number(0, 200)?, number(1, 18)?, number(2, 10)?);
    let dir = args.get(3).map_or_else(|| std::env::temp_dir().join("tsdb-node-load"), Into::into);
    let _ = std::fs::remove_dir_all(&dir);
    let mut options = Options { background: false, ..Options::default() };
    if args.len() > 4 {
        options.min_block_duration = number(4, 0)? as i64 * 1000;
    }
    // of simulated time; twice in a block, if blocks are short
    let maintenance = 3600.min(options.min_block_duration as usize / 2000);
    let db = Db::open(&dir, options.clone())?;
    let count = targets * SERIES;

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut values: Vec<f64> = (0..count).map(|_| random.below(1 << 30) as f64).collect();
    let base = rss_megabytes();
    let began = Instant::now();
    let mut refs: Vec<SeriesRef> = Vec::with_capacity(count);
    for target in 0..targets {
        let mut appender = db.appender();
        for series in 0..SERIES {
            refs.push(appender.series(&labels(target, series))?);
        }
        let range = target * SERIES..(target + 1) * SERIES;
        append(&mut appender, target as i64 % (interval as i64 * 1000), &refs[range.clone()], &values[range], own)?;
        appender.commit()?;
    }
    println!("create    {:.2} us/series", began.elapsed().as_secs_f64() * 1e6 / count as f64);
    let created = db.metrics().wal_bytes_written;
    let (mut spent, mut maintained) = (0.0, 0.0);
    for scrape in 1..scrapes {
        for target in 0..targets {
            let range = target * SERIES..(target + 1) * SERIES;
            for (at, value) in values[range.clone()].iter_mut().enumerate() {
                step(value, kind(at), interval as u64, &mut random);
            }
            let time = (scrape * interval * 1000 + target % (interval * 1000)) as i64;
            let began = Instant::now();
            let mut appender = db.appender();
            append(&mut appender, time, &refs[range.clone()], &values[range], own)?;
            appender.commit()?;
            spent += began.elapsed().as_secs_f64();
        }
        if scrape * interval % maintenance < interval {
            let (began, cpu) = (Instant::now(), processor_seconds());
            let (cuts, before) = (db.metrics().head_truncations, anonymous_megabytes());
            let (result, most) = most_memory_of(|| db.maintain());
            result?;
            maintained += began.elapsed().as_secs_f64();
            if db.metrics().head_truncations > cuts {
                println!(
                    "cut       {:.2} s, {:.2} s of processors; anonymous memory {before:.1} MB before, {most:.1} MB at most, {:.1} MB after",
                    began.elapsed().as_secs_f64(),
                    processor_seconds() - cpu,
                    anonymous_megabytes()
                );
            }
        }
    }
    let samples = (scrapes - 1) * count;
    println!("append    {:.1} ns/sample", spent * 1e9 / samples.max(1) as f64);
    println!("maintain  {maintained:.2} s");
    let metrics = db.metrics();
    println!(
        "log       {:.2} B/sample, after {:.0} B/series",
        (metrics.wal_bytes_written - created) as f64 / samples.max(1) as f64,
        created as f64 / count as f64
    );
    println!(
        "memory    {:.1} MB RSS more, {:.0} B/series; by own account {:.1} MB, {:.0} B/series",
        rss_megabytes() - base,
        (rss_megabytes() - base) * 1e6 / count as f64,
        metrics.head_bytes as f64 / 1e6,
        metrics.head_bytes as f64 / count as f64
    );
    let blocks = db.blocks();
    let stored: u64 = blocks.iter().map(|b| b.stats.num_samples).sum();
    println!(
        "blocks    {} of {stored} samples, {:.3} B/sample",
        blocks.len(),
        metrics.blocks_bytes as f64 / stored.max(1) as f64
    );
    for (what, matchers) in
        [("one metric", vec![Matcher::equal("__name__", "node_subsystem03_metric_04_total")]), ("everything", vec![])]
    {
        let began = Instant::now();
        let end = (scrapes * interval * 1000) as i64;
        let selection = db.select(&matchers, 0, end)?;
        let selected = began.elapsed();
        let mut read = 0;
        for from in (0..selection.labels().len()).step_by(512) {
            let samples = selection.read(from..(from + 512).min(selection.labels().len()), 0, end)?;
            read += samples.iter().map(|s| s.floats.len()).sum::<usize>();
        }
        println!(
            "read      {what}: {} series, {read} samples, select {:.1} ms, read {:.1} ms",
            selection.labels().len(),
            selected.as_secs_f64() * 1e3,
            (began.elapsed() - selected).as_secs_f64() * 1e3
        );
    }
    db.close()?;
    let image = std::fs::read_dir(dir.join("firewatch/head"))?.flatten().filter_map(|entry| entry.metadata().ok());
    println!("image     {:.1} B/series with chunks", image.map(|m| m.len()).sum::<u64>() as f64 / count as f64);
    drop(db);
    let began = Instant::now();
    let db = Db::open(&dir, options)?;
    println!(
        "open      {:.2} s for {:.1} MB of log",
        began.elapsed().as_secs_f64(),
        db.metrics().wal_bytes as f64 / 1e6
    );
    Ok(())
}
