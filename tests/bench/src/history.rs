//! History made up ahead of time: the same series as on the pages, with timestamps, sent by remote write in order of time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::benchmark::BenchError;
use crate::pages::{Behaviour, HistogramCarry, Page, PageSpec, mix, parse_labels, unit};
use crate::recorded::Recording;
use crate::remote_write::{self, Request, Sender};

/// How much time of each series a request brings, in milliseconds: for loads that are to be fast.
pub(crate) const BULK: i64 = 10 * 60 * 1000;

/// Connections that send at once.
const SENDERS: usize = 8;

/// A request is sent when it has about this many bytes before compression.
const REQUEST_BYTES: usize = 2 << 20;

/// The same where each series has one sample in a request: about as many as a remote writer sends at once.
const SCATTERED_BYTES: usize = 300 << 10;

/// The timestamps of scattered series are up to so many milliseconds before those of their target.
const SCATTER: u64 = 5_000;

/// When the scrapes of a target are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Every interval to the millisecond.
    Regular,
    /// As Prometheus' alignment of scrape times to 2 ms leaves them: 19 of 20 on the grid, the rest 3 to 50 ms late.
    AsScraped,
}

/// Times of samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Of the first, in milliseconds.
    pub(crate) start: i64,
    /// None is at or after this.
    pub(crate) end: i64,
    /// Milliseconds from one to the next.
    pub(crate) interval: i64,
    pub(crate) timing: Timing,
}

impl Times {
    fn count(&self) -> u64 {
        ((self.end - self.start).max(0) as u64).div_ceil(self.interval as u64)
    }
}

/// Series with the same timestamps: what a target has.
pub(crate) struct Batch {
    times: Times,
    key: u64,
    series: Vec<Series>,
    states: Vec<f64>,
    tick: u64,
    scattered: bool,
    recorded: Option<Recorded>,
}

/// Values that were recorded, instead of made up.
struct Recorded {
    recording: Recording,
    gains: Vec<Option<f64>>,
}

struct Series {
    labels: Vec<u8>,
    behaviour: Behaviour,
    key: u64,
}

impl Batch {
    /// The history of a page, as if it had been scraped with these labels of the target.
    pub(crate) fn page(spec: &PageSpec, target_labels: &[(&str, &str)], times: Times) -> Self {
        let page = Page::new(spec);
        let labels = page.labels();
        let series = labels.into_iter().zip(page.behaviours()).map(|(mut labels, (behaviour, key))| {
            labels.extend(target_labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
            (labels, behaviour, key)
        });
        Self::new(mix(spec.seed, spec.target as u64), series, times)
    }

    /// A recording, repeated as long as need be, as if it had been scraped with these labels of the target.
    pub(crate) fn recorded(recording: Recording, target_labels: &[(&str, &str)], times: Times) -> Self {
        let series = recording.heads.iter().enumerate().map(|(number, head)| {
            let mut labels = parse_labels(head);
            labels.retain(|(name, _)| target_labels.iter().all(|(target, _)| target != name));
            labels.extend(target_labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
            (labels, Behaviour::Constant(0.0), number as u64)
        });
        let mut batch = Self::new(recording.rows.len() as u64, series, times);
        batch.recorded = Some(Recorded { gains: recording.gains(), recording });
        batch
    }

    /// Any series. Buckets of a histogram follow each other.
    pub(crate) fn table(seed: u64, series: impl Iterator<Item = (Labels, Behaviour)>, times: Times) -> Self {
        let keyed = series.enumerate().map(|(n, (labels, behaviour))| (labels, behaviour, mix(seed, n as u64 + 1)));
        Self::new(seed, keyed, times)
    }

    fn new(key: u64, series: impl Iterator<Item = (Labels, Behaviour, u64)>, times: Times) -> Self {
        let series: Vec<Series> = series
            .map(|(mut labels, behaviour, key)| {
                labels.retain(|(_, value)| !value.is_empty());
                labels.sort();
                Series { labels: remote_write::encode_labels(&labels), behaviour, key }
            })
            .collect();
        let states = series.iter().map(|s| s.behaviour.start(s.key)).collect();
        Self { times, key, series, states, tick: 0, scattered: false, recorded: None }
    }

    /// The same series spread over several batches, each with timestamps of its own, and one sample of each in a request: what
    /// a store meets that cannot share timestamps. Histograms stay together.
    pub(crate) fn scattered(self, shards: usize) -> Vec<Self> {
        let Self { times, key, series, states, tick, .. } = self;
        let mut parts: Vec<Self> = (0..shards)
            .map(|_| Self { times, key, series: Vec::new(), states: Vec::new(), tick, scattered: true, recorded: None })
            .collect();
        let mut shard = 0;
        for (series, state) in series.into_iter().zip(states) {
            if !matches!(
                series.behaviour,
                Behaviour::Bucket { first: false, .. } | Behaviour::Sum(_) | Behaviour::Total
            ) {
                shard = (series.key % shards as u64) as usize;
            }
            parts[shard].series.push(series);
            parts[shard].states.push(state);
        }
        parts
    }

    /// Samples in the whole history.
    pub(crate) fn samples(&self) -> u64 {
        self.times.count() * self.series.len() as u64
    }

    fn timestamp(&self, tick: u64) -> i64 {
        let grid = self.times.start + tick as i64 * self.times.interval;
        if self.times.timing == Timing::Regular || unit(self.key, tick, 0) >= 0.05 {
            return grid;
        }
        grid + 3 + (unit(self.key, tick, 1) * 48.0) as i64
    }

    /// Adds the samples before `until` that were not handed out yet to a request, and gives it to `send` whenever it is full.
    fn requests<E>(
        &mut self,
        until: i64,
        request: &mut Request,
        mut send: impl FnMut(&Request) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut timestamps = Vec::new();
        let mut rows: Vec<f64> = Vec::new();
        while self.tick < self.times.count() {
            let grid = self.times.start + self.tick as i64 * self.times.interval;
            if grid >= until {
                break;
            }
            let (mut moved, mut shown) = (HistogramCarry::default(), HistogramCarry::default());
            if let Some(Recorded { recording, gains }) = &self.recorded {
                let values = gains.iter().enumerate().map(|(n, gain)| recording.value(n, *gain, self.tick));
                rows.extend(values);
                timestamps.push(self.timestamp(self.tick));
                self.tick += 1;
                continue;
            }
            for (series, state) in self.series.iter().zip(&mut self.states) {
                if self.tick > 0 {
                    *state = series.behaviour.next(*state, series.key, self.tick, &mut moved);
                }
                rows.push(series.behaviour.shown(*state, &mut shown));
            }
            timestamps.push(self.timestamp(self.tick));
            self.tick += 1;
        }
        if timestamps.is_empty() {
            return Ok(());
        }
        let width = self.series.len();
        if self.scattered {
            for (row, time) in timestamps.iter().enumerate() {
                for (series, value) in self.series.iter().zip(&rows[row * width..]) {
                    let own = time - (series.key % SCATTER) as i64;
                    request.add(&series.labels, std::iter::once((own, *value)));
                    if request.len() >= SCATTERED_BYTES {
                        send(request)?;
                        request.clear();
                    }
                }
                // the next sample of a series is in another request
                if !request.is_empty() {
                    send(request)?;
                    request.clear();
                }
            }
            return Ok(());
        }
        for (number, series) in self.series.iter().enumerate() {
            let values = timestamps.iter().enumerate().map(|(row, time)| (*time, rows[row * width + number]));
            request.add(&series.labels, values);
            if request.len() >= REQUEST_BYTES {
                send(request)?;
                request.clear();
            }
        }
        Ok(())
    }
}

/// Names and values.
pub(crate) type Labels = Vec<(String, String)>;

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) samples: u64,
    pub(crate) took: Duration,
}

/// Sends all batches in order of time, `slice` milliseconds of each before the next: each on one of a few connections. So all
/// senders are within that stretch of each other, and no store sees samples that it takes for old ones.
pub(crate) fn send(batches: Vec<Batch>, address: SocketAddr, slice: i64) -> Result<Sent, BenchError> {
    let samples = batches.iter().map(Batch::samples).sum();
    let start = batches.iter().map(|b| b.times.start).min().unwrap_or(0);
    let end = batches.iter().map(|b| b.times.end).max().unwrap_or(0);
    let began = Instant::now();
    // the largest first, each to the sender with the least to do
    let mut batches = batches;
    batches.sort_by_key(|b| std::cmp::Reverse(b.samples()));
    let mut shares: Vec<(u64, Vec<Batch>)> = (0..SENDERS).map(|_| (0, Vec::new())).collect();
    for batch in batches {
        if let Some(share) = shares.iter_mut().min_by_key(|share| share.0) {
            share.0 += batch.samples();
            share.1.push(batch);
        }
    }
    let (barrier, failed) = (Barrier::new(SENDERS), AtomicBool::new(false));
    let outcomes: Vec<Result<(), BenchError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|(_, mut share)| {
                let (barrier, failed) = (&barrier, &failed);
                scope.spawn(move || {
                    let mut outcome = Ok(());
                    let mut sender = Sender::new(address);
                    let mut until = start;
                    while until < end {
                        until += slice;
                        if outcome.is_ok() && !failed.load(Ordering::Relaxed) {
                            outcome = send_slice(&mut share, until, &mut sender);
                            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                        }
                        barrier.wait();
                    }
                    outcome
                })
            })
            .collect();
        let gone = || BenchError::program("the sender", "it panicked");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(gone()))).collect()
    });
    outcomes.into_iter().collect::<Result<(), _>>()?;
    Ok(Sent { samples, took: began.elapsed() })
}

fn send_slice(share: &mut [Batch], until: i64, sender: &mut Sender) -> Result<(), BenchError> {
    let mut request = Request::default();
    for batch in share {
        batch.requests(until, &mut request, &mut |request: &Request| sender.post(request))?;
    }
    if request.is_empty() { Ok(()) } else { sender.post(&request) }
}

/// Samples that are sent as they come due, as remote writers do it.
pub(crate) struct Live {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), BenchError>>>,
}

/// How often a live sender looks for samples that are due.
const LIVE_PAUSE: Duration = Duration::from_millis(250);

impl Live {
    /// Sends each batch from a thread of its own.
    pub(crate) fn start(batches: Vec<Batch>, address: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = batches
            .into_iter()
            .map(|batch| {
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
                std::thread::spawn(move || {
                    let mut share = [batch];
                    let mut sender = Sender::new(address);
                    while !stop.load(Ordering::Relaxed) {
                        let before = share[0].tick;
                        send_slice(&mut share, model::now_millis(), &mut sender)?;
                        let more = (share[0].tick - before) * share[0].series.len() as u64;
                        sent.fetch_add(more, Ordering::Relaxed);
                        std::thread::sleep(LIVE_PAUSE);
                    }
                    Ok(())
                })
            })
            .collect();
        Self { stop, sent, threads }
    }

    /// Samples that were acknowledged so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it. Gives the first error that a sender had.
    pub(crate) fn stop(mut self) -> Result<(), BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        let gone = || BenchError::program("a sender", "it panicked");
        self.threads.drain(..).try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(gone())))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Kind;

    const TIMES: Times =
        Times { start: 1_700_000_000_000, end: 1_700_000_600_000, interval: 15_000, timing: Timing::Regular };

    fn spec() -> PageSpec {
        PageSpec { seed: 1, kind: Kind::Application, target: 3, generation: 0, series: 300, flapping: 0.0, moving: 0.0 }
    }

    fn collect(batch: &mut Batch, until: i64) -> (usize, usize) {
        let (mut requests, mut bytes) = (0, 0);
        let mut count = |request: &Request| -> Result<(), ()> {
            requests += 1;
            bytes += request.len();
            Ok(())
        };
        let mut request = Request::default();
        batch.requests(until, &mut request, &mut count).expect("nothing fails");
        if !request.is_empty() {
            count(&request).expect("nothing fails");
        }
        (requests, bytes)
    }

    #[test]
    fn history_has_the_values_of_the_pages() {
        let mut batch = Batch::page(&spec(), &[("job", "j")], TIMES);
        assert_eq!(batch.samples(), 40 * 300);
        let mut page = Page::new(&spec());
        for _ in 0..7 {
            page.advance();
        }
        let mut text = String::new();
        page.render(None, &mut text);
        let mut request = Request::default();
        batch.requests(TIMES.start + 8 * 15_000, &mut request, |_| Err("one request is enough")).expect("one request");
        let values = request.last_values();
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        let expected: Vec<f64> =
            lines.map(|l| model::parse_float(l.rsplit(' ').next().unwrap()).expect("a number")).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn slices_follow_each_other_without_gaps_or_repetitions() {
        let whole = collect(&mut Batch::page(&spec(), &[], TIMES), TIMES.end).1;
        let mut batch = Batch::page(&spec(), &[], TIMES);
        let first = collect(&mut batch, TIMES.start + 100_000);
        assert!(first.0 == 1 && first.1 < whole / 2, "{first:?} of {whole}");
        collect(&mut batch, TIMES.end);
        assert_eq!(batch.tick, 40);
        assert_eq!(collect(&mut batch, i64::MAX), (0, 0));
    }

    #[test]
    fn scattered_series_are_all_there_with_one_sample_in_a_request() {
        let parts = Batch::page(&spec(), &[], TIMES).scattered(8);
        assert_eq!(parts.iter().map(|p| p.series.len()).sum::<usize>(), 300);
        assert!(parts.iter().filter(|p| !p.series.is_empty()).count() == 8);
        let mut values = Vec::new();
        for mut part in parts {
            let mut requests = 0;
            part.requests(TIMES.start + 2 * 15_000, &mut Request::default(), |request| {
                requests += 1;
                let found = request.last_values();
                if requests == 1 {
                    values.extend(found.iter().map(|v| v.to_bits()));
                }
                Ok::<(), ()>(())
            })
            .expect("nothing fails");
            assert_eq!(requests, 2, "one for each scrape");
        }
        let mut request = Request::default();
        let mut together = Batch::page(&spec(), &[], TIMES);
        together.requests(TIMES.start + 1, &mut request, |_| Err("one is enough")).expect("one request");
        let mut expected: Vec<u64> = request.last_values().iter().map(|v| v.to_bits()).collect();
        expected.sort_unstable();
        values.sort_unstable();
        assert_eq!(values, expected);
    }

    #[test]
    fn one_in_twenty_scrapes_is_a_little_late() {
        let times = Times { end: TIMES.start + 15_000 * 10_000, timing: Timing::AsScraped, ..TIMES };
        let batch = Batch::table(1, std::iter::once((labels(&[("__name__", "x")]), Behaviour::Level(3.0))), times);
        let late: Vec<i64> =
            (0..10_000).map(|t| batch.timestamp(t) - times.start - t as i64 * 15_000).filter(|l| *l > 0).collect();
        assert!((450..550).contains(&late.len()), "{}", late.len());
        assert!(late.iter().all(|l| (3..=50).contains(l)), "{late:?}");
    }
}
