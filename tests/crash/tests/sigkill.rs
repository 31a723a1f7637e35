//! SIGKILL at random moments and in the middle of what matters: every acknowledged sample is there with its value, none is
//! there twice, queries answer. A dozen rounds, hundreds with `FIREWATCH_LONG=1`; `FIREWATCH_SEED` replays the choices.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crash_tests::{Collector, NumberedPage, Random, Writer, now, samples, seed};
use harness::{post, try_get};

/// Blocks that end this long before the newest are deleted.
const RETENTION: i64 = 20_000;

/// When a round ends.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After some milliseconds of work.
    Any(u64),
    /// While a block is cut, merged or removed, if there is such a moment in the next three seconds.
    Block,
    /// Some milliseconds after a reload has been asked for.
    Reload(u64),
    /// Some milliseconds after the start, while the log is replayed or just after.
    Replay(u64),
}

fn configure(folder: &Path, page: &NumberedPage, round: u64) {
    let text = format!(
        "global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}\nscrape_configs:\n- job_name: numbered\n  static_configs: [{{targets: ['{}']}}]\n- job_name: round-{round}\n",
        page.address
    );
    std::fs::write(folder.join("prometheus.yml"), text).unwrap();
}

/// Lets the collector work until `moment`, then kills it. Says what it had done by then.
fn round(folder: &Path, moment: Moment, page: &NumberedPage, writer: &mut Writer, totals: &mut Totals) {
    let retention = format!("--storage.tsdb.retention.time={}ms", RETENTION);
    let collector = Collector::start(folder, &["--storage.tsdb.max-block-duration=8s", &retention]);
    if let Moment::Replay(after) = moment {
        std::thread::sleep(Duration::from_millis(after));
        collector.daemon.kill();
        return page.killed();
    }
    let collector = collector.ready();
    check(&collector, page, writer);
    let killed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let base = collector.base.clone();
        let stopped = &killed;
        let writing = scope.spawn(move || {
            // a refusal, or no answer, is no acknowledgement
            while !stopped.load(Ordering::SeqCst) {
                let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.send(&base)));
                if answer.is_err() && !stopped.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        match moment {
            Moment::Any(after) => std::thread::sleep(Duration::from_millis(after)),
            Moment::Block => {
                let end = Instant::now() + Duration::from_secs(3);
                while Instant::now() < end && !collector.block_in_the_making() {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            Moment::Reload(after) => {
                std::thread::sleep(Duration::from_millis(300));
                configure(folder, page, after);
                let url = format!("{}/-/reload", collector.base);
                scope.spawn(move || std::panic::catch_unwind(|| post(&url, &[], &[])).is_ok());
                std::thread::sleep(Duration::from_millis(after));
            }
            Moment::Replay(_) => {}
        }
        if let Moment::Any(_) = moment {
            totals.add(&collector);
        }
        killed.store(true, Ordering::SeqCst);
        collector.daemon.kill();
        writing.join().unwrap();
    });
    page.killed();
}

/// What happened in all rounds.
#[derive(Debug, Default)]
struct Totals {
    blocks: f64,
    checkpoints: f64,
    deleted: f64,
    samples: usize,
}

impl Totals {
    fn add(&mut self, collector: &Collector) {
        if try_get(&format!("{}/metrics", collector.base)).is_ok() {
            self.blocks += collector.metric("prometheus_tsdb_compactions_total");
            self.checkpoints += collector.metric("prometheus_tsdb_checkpoint_creations_total");
            self.deleted += collector.metric("prometheus_tsdb_time_retentions_total");
        }
    }
}

/// Everything acknowledged that retention spares is there.
fn check(collector: &Collector, page: &NumberedPage, writer: &Writer) -> usize {
    let base = &collector.base;
    let newest = writer.sent.keys().next_back().copied().unwrap_or(0).max(now());
    let since = newest - RETENTION;
    let scraped = samples(base, "scraped");
    assert!(scraped.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "a page is there twice: {scraped:?}");
    assert!(scraped.iter().all(|(_, number)| *number < page.sent() as f64), "a page that was never sent: {scraped:?}");
    let up = samples(base, "up");
    for (number, sent) in page.stored() {
        let there = || scraped.iter().any(|(_, found)| *found == number as f64);
        // a scrape that came too late says so itself
        let late = || up.iter().any(|(time, up)| *up == 0.0 && (time - sent).abs() < 600);
        assert!(sent < since + 1000 || there() || late(), "page {number} is missing, sent {} ms ago", now() - sent);
    }
    for metric in
        ["prometheus_tsdb_wal_corruptions_total", "firewatch_tsdb_damaged_blocks_total", "firewatch_tsdb_panics_total"]
    {
        // a record cut short by the kill is no acknowledged one, and the log says so once
        let limit = if metric.contains("wal") { 1.0 } else { 0.0 };
        assert!(collector.metric(metric) <= limit, "{metric}: {}", collector.metric(metric));
    }
    writer.check(base, since)
}

#[test]
fn what_was_acknowledged_survives_sigkill_at_any_moment() {
    let seed = seed();
    println!("FIREWATCH_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let page = NumberedPage::start();
    configure(folder.path(), &page, 0);
    let (mut writer, mut totals) = (Writer::default(), Totals::default());
    let rounds = if std::env::var_os("FIREWATCH_LONG").is_some() { 400 } else { 12 };
    for number in 0..rounds {
        let moment = match number % 6 {
            0 => Moment::Any(200 + random.below(2500)),
            1 | 4 => Moment::Block,
            2 => Moment::Reload(random.below(30)),
            3 => Moment::Replay(random.below(40)),
            _ => Moment::Any(random.below(800)),
        };
        println!("round {number}: {moment:?}, {} acknowledged so far", writer.acknowledged.len());
        round(folder.path(), moment, &page, &mut writer, &mut totals);
    }
    // and all that was killed has also come to its end
    let retention = format!("--storage.tsdb.retention.time={}ms", RETENTION);
    let collector = Collector::start(folder.path(), &["--storage.tsdb.max-block-duration=8s", &retention]).ready();
    totals.samples = check(&collector, &page, &writer);
    harness::eventually("blocks cut, a checkpoint written, old blocks deleted", 90, || {
        writer.send(&collector.base).ok()?;
        let deleted = totals.deleted + collector.metric("prometheus_tsdb_time_retentions_total");
        let checkpoints = totals.checkpoints + collector.metric("prometheus_tsdb_checkpoint_creations_total");
        (totals.blocks > 1.0 && checkpoints > 0.0 && deleted > 0.0).then_some(())
    });
    check(&collector, &page, &writer);
    println!("{totals:?}");
    assert!(totals.samples > 0);
    assert_eq!(collector.daemon.stop(), Some(0));
}
