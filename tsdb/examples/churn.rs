//! Series that come and go for hours of simulated time: what the head takes at the end of each hour, which must not grow.
//!
//! ```text
//! churn SERIES HOURS PERCENT_AN_HOUR INTERVAL_SECONDS [DIR]
//! ```

use std::error::Error;
use std::time::Instant;

use model::Labels;
use tsdb::{Db, Options, SeriesRef};

/// Series of one target.
const SERIES: usize = 1000;

fn labels(target: usize, series: usize, generation: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("churn_metric_{:02}_total", series % 50).as_str()),
        ("instance", &format!("node-{target:04}.example.net:9100")),
        ("job", "churn"),
        ("pod", &format!("pod-{target:04}-{series:04}-{generation}")),
    ])
}

fn anonymous_megabytes() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |a| a.parse());
    let (count, hours, percent, interval) = (number(0, 1_000_000)?, number(1, 8)?, number(2, 10)?, number(3, 60)?);
    let dir = args.get(4).map_or_else(|| std::env::temp_dir().join("tsdb-churn"), Into::into);
    let _ = std::fs::remove_dir_all(&dir);
    let db = Db::open(&dir, Options { background: false, ..Options::default() })?;
    let targets = count.div_ceil(SERIES);
    let scrapes = (3600 / interval).max(1);
    // so many of a target are replaced in an hour, one after another
    let replaced = SERIES * percent / 100;
    let mut refs: Vec<Vec<SeriesRef>> = vec![Vec::new(); targets];
    let mut values = vec![0.0; SERIES];
    println!("hour  anonymous  own account    series     new  blocks  append     maintain");
    for hour in 0..hours {
        let (mut spent, mut new) = (0.0, 0);
        for scrape in 0..scrapes {
            let time = ((hour * scrapes + scrape) * interval * 1000) as i64;
            values.iter_mut().enumerate().for_each(|(at, value)| *value += (at % 3) as f64 * interval as f64);
            for (target, refs) in refs.iter_mut().enumerate() {
                let began = Instant::now();
                let mut appender = db.appender();
                if refs.is_empty() {
                    for series in 0..SERIES {
                        refs.push(appender.series(&labels(target, series, 0))?);
                    }
                }
                for at in replaced * scrape / scrapes..replaced * (scrape + 1) / scrapes {
                    let series = (hour * replaced + at) % SERIES;
                    appender.append(refs[series], time, model::STALE_NAN)?;
                    refs[series] = appender.series(&labels(target, series, hour + 1))?;
                    new += 1;
                }
                appender.append_row(time, refs, &values);
                appender.commit()?;
                spent += began.elapsed().as_secs_f64();
            }
        }
        let began = Instant::now();
        db.maintain()?;
        let maintained = began.elapsed().as_secs_f64();
        let metrics = db.metrics();
        println!(
            "{:>4}  {:>6.1} MB  {:>8.1} MB  {:>8}  {new:>6}  {:>6}  {:>5.1} ns  {maintained:>8.2} s",
            hour + 1,
            anonymous_megabytes(),
            metrics.head_bytes as f64 / 1e6,
            metrics.head_series,
            db.blocks().len(),
            spent * 1e9 / (targets * SERIES * scrapes) as f64,
        );
    }
    Ok(())
}
