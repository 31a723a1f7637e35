use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use common::http::MetricsHandlerStats;
use common::metrics::Page;
use common::selfmetrics::{ProcessCollector, collect_build_info};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::collection::{Closed, Collection, Member, Need, Waiter};
use crate::flags::{Config, PROGRAM};
use crate::workers::Workers;

/// Gathers pages from a set of collectors. Shared by all requests.
pub struct Exporter {
    members: Arc<[Member]>,
    /// Reads what is told about this process.
    process: Option<ProcessCollector>,
    panics: AtomicU64,
    stats: MetricsHandlerStats,
    workers: Workers,
    /// Collections that are not closed.
    open: Mutex<Vec<Arc<Collection>>>,
    /// Pages of former scrapes, whose buffers are used again.
    pages: Mutex<Vec<Page>>,
}

/// Which collectors a request asks for: `?collect[]=` or `?exclude[]=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these.
    pub collect: Vec<String>,
    /// All but these.
    pub exclude: Vec<String>,
}

/// A selection that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Both parameters at once.
    #[error("Combined collect and exclude queries are not allowed.")]
    Both,
    /// A collector that does not run.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: disabled collector: {0}")]
    Disabled(String),
    /// A collector that does not exist.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: missing collector: {0}")]
    Missing(String),
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// The selection cannot be answered.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// Whoever made the page panicked.
    #[error("gathering metrics panicked")]
    Panicked,
}

/// Threads that gather. One does it all as long as no collector hangs; each that hangs keeps one.
const THREADS: usize = 16;
/// Pages kept for later: that of a collection and that of a collector.
const SPARE_PAGES: usize = 2;

impl Exporter {
    /// An exporter with a configuration's collectors.
    pub fn new(config: &Config) -> Self {
        let members = config.collectors.iter().map(|(name, collector)| Member::new(name, collector.clone()));
        Self {
            members: members.collect(),
            process: (!config.disable_exporter_metrics).then(ProcessCollector::default),
            panics: AtomicU64::new(0),
            stats: MetricsHandlerStats::default(),
            workers: Workers::new("collectors", THREADS),
            open: Mutex::default(),
            pages: Mutex::default(),
        }
    }

    /// The names of the collectors that run.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.members.iter().map(|member| member.name)
    }

    /// Collectors that panicked so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// What happened at the endpoint; part of every page that is not filtered.
    pub fn stats(&self) -> &MetricsHandlerStats {
        &self.stats
    }

    /// Checks a selection and gives the collectors it means, by their places.
    fn chosen(&self, selection: &Selection) -> Result<Vec<usize>, SelectionError> {
        if !selection.collect.is_empty() && !selection.exclude.is_empty() {
            return Err(SelectionError::Both);
        }
        for name in &selection.collect {
            if !self.names().any(|n| n == name) {
                let known = crate::collectors::ALL.iter().any(|c| c.name == name);
                let error = if known { SelectionError::Disabled } else { SelectionError::Missing };
                return Err(error(name.clone()));
            }
        }
        let wanted = |name: &str| {
            let listed = |list: &[String]| list.iter().any(|n| n == name);
            if selection.collect.is_empty() { !listed(&selection.exclude) } else { listed(&selection.collect) }
        };
        Ok((0..self.members.len()).filter(|&at| wanted(self.members[at].name)).collect())
    }

    /// Gathers a page and gives it to `use_page`, on a thread where blocking is allowed. What has not come at the deadline is
    /// left out and named on the page. A request that comes while the same is being gathered gets that page, at the earlier one
    /// of both deadlines. May be dropped at any time; the collectors are not stopped by that.
    pub async fn gather<T: Send + 'static>(
        self: &Arc<Self>,
        selection: Selection,
        deadline: Instant,
        use_page: impl FnOnce(&Page) -> T + Send + 'static,
    ) -> Result<T, GatherError> {
        let chosen = self.chosen(&selection)?;
        let (send, receive) = oneshot::channel();
        // a receiver that is gone needs no page
        let waiter: Waiter = Box::new(move |page| {
            let _ = send.send(use_page(page));
        });
        self.enter(selection, chosen, deadline, waiter);
        receive.await.map_err(|_| GatherError::Panicked)
    }

    /// Joins a collection that is open, or begins one.
    fn enter(self: &Arc<Self>, selection: Selection, chosen: Vec<usize>, deadline: Instant, mut waiter: Waiter) {
        let mut open = self.open.lock();
        for collection in open.iter().filter(|c| c.selection == selection) {
            match collection.join(deadline, waiter) {
                Ok(()) => return,
                Err(back) => waiter = back,
            }
        }
        let page = self.spare_page();
        let collection = Arc::new(Collection::new(selection, self.members.clone(), chosen, page, deadline, waiter));
        open.push(collection.clone());
        drop(open);
        self.give_thread(collection.clone());
        tokio::spawn(self.clone().watch(collection));
    }

    fn give_thread(self: &Arc<Self>, collection: Arc<Collection>) {
        let exporter = self.clone();
        self.workers.submit(move || {
            let mut scratch = exporter.spare_page();
            let closed = collection.work(&mut scratch, || {
                exporter.panics.fetch_add(1, Ordering::Relaxed);
            });
            exporter.keep_page(scratch);
            if let Some(closed) = closed {
                exporter.deliver(&collection, closed);
            }
        });
    }

    /// Sees to it that a collection goes on when a collector hangs, and ends when it should.
    async fn watch(self: Arc<Self>, collection: Arc<Collection>) {
        loop {
            match collection.need() {
                Need::Nothing => return,
                Need::Patience(until) => {
                    let _ = tokio::time::timeout_at(until.into(), collection.closed.notified()).await;
                }
                Need::Thread => self.give_thread(collection.clone()),
                Need::End => {
                    let Some(closed) = collection.close() else { return };
                    // every thread that gathers may hang: this one is another's
                    tokio::task::spawn_blocking(move || self.deliver(&collection, closed));
                    return;
                }
            }
        }
    }

    /// Completes a page and hands it to all who wait for it.
    fn deliver(&self, collection: &Arc<Collection>, Closed { mut page, waiters }: Closed) {
        self.open.lock().retain(|open| !Arc::ptr_eq(open, collection));
        let stuck: u32 = self.members.iter().map(Member::stuck).sum();
        if stuck > 0 {
            let help = "Threads that wait for collectors which did not return before their deadline.";
            page.gauge("node_scrape_stuck_threads", help, &[], f64::from(stuck));
        }
        collect_build_info(&mut page, &PROGRAM);
        if let Some(process) = self.process.as_ref().filter(|_| collection.selection == Selection::default()) {
            process.collect(&mut page);
            self.stats.collect(&mut page);
        }
        for waiter in waiters {
            waiter(&page);
        }
        self.keep_page(page);
    }

    fn spare_page(&self) -> Page {
        let mut page = self.pages.lock().pop().unwrap_or_default();
        page.clear();
        page
    }

    fn keep_page(&self, page: Page) {
        let mut pages = self.pages.lock();
        if pages.len() < SPARE_PAGES {
            pages.push(page);
        }
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use common::exposition::{EscapingScheme, text};
    use model::MetricType;
    use parking_lot::Condvar;

    use super::*;
    use crate::{Collector, CollectorError};

    /// What a collector of these tests does.
    enum Does {
        Answer,
        Panic,
        Wait(Arc<Gate>),
    }

    /// Calls wait at it until it is opened.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        calls: AtomicU64,
    }

    impl Gate {
        fn open(&self) {
            *self.open.lock() = true;
            self.opened.notify_all();
        }
    }

    impl Collector for Does {
        fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
            let family = page.family("test", "Test.", MetricType::Gauge);
            match self {
                Self::Answer => page.sample(family, &[("from", "answer")], 1.0),
                Self::Panic => panic!("on purpose"),
                Self::Wait(gate) => {
                    gate.calls.fetch_add(1, Ordering::Relaxed);
                    let mut open = gate.open.lock();
                    while !*open {
                        gate.opened.wait(&mut open);
                    }
                    page.sample(family, &[("from", "gate")], 1.0);
                }
            }
            Ok(())
        }
    }

    fn exporter(collectors: impl IntoIterator<Item = (&'static str, Does)>) -> Arc<Exporter> {
        let mut config = crate::parse(["--web.disable-exporter-metrics".into()]).unwrap();
        let shared = |(name, does)| (name, Arc::new(does) as Arc<dyn Collector>);
        config.collectors = collectors.into_iter().map(shared).collect();
        Arc::new(Exporter::new(&config))
    }

    fn in_ms(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    /// The samples of a page without times and build information.
    fn lines(page: &Page) -> BTreeSet<String> {
        let mut out = Vec::new();
        text::encode(&page.families().0, EscapingScheme::Underscores, &mut out);
        let varies = ["#", "node_scrape_collector_duration_seconds", "node_exporter_build_info"];
        let text = String::from_utf8(out).unwrap();
        text.lines().filter(|l| !varies.iter().any(|v| l.starts_with(v))).map(str::to_owned).collect()
    }

    async fn gather(exporter: &Arc<Exporter>, deadline: Instant) -> BTreeSet<String> {
        exporter.gather(Selection::default(), deadline, lines).await.unwrap()
    }

    fn set(lines: &[&str]) -> BTreeSet<String> {
        lines.iter().map(|l| (*l).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_collector_that_hangs_is_named_and_the_others_are_served() {
        let gate = Arc::new(Gate::default());
        let exporter = exporter([("a", Does::Wait(gate.clone())), ("b", Does::Answer)]);
        let others = ["test{from=\"answer\"} 1", "node_scrape_collector_success{collector=\"b\"} 1"];
        let hung = |reason: &str| {
            let mut lines = set(&others);
            lines.insert("node_scrape_collector_success{collector=\"a\"} 0".to_owned());
            lines.insert(format!("node_scrape_collector_failure_info{{collector=\"a\",reason=\"{reason}\"}} 1"));
            lines.insert("node_scrape_stuck_threads 1".to_owned());
            lines
        };
        assert_eq!(gather(&exporter, in_ms(700)).await, hung("timeout"));
        for _ in 0..3 {
            assert_eq!(gather(&exporter, in_ms(3_600_000)).await, hung("stuck"), "nobody waits for it any more");
        }
        assert_eq!(gate.calls.load(Ordering::Relaxed), 1);

        gate.open();
        while exporter.members[0].stuck() > 0 {
            tokio::task::yield_now().await;
        }
        let mut all = set(&others);
        all.extend(set(&["test{from=\"gate\"} 1", "node_scrape_collector_success{collector=\"a\"} 1"]));
        assert_eq!(gather(&exporter, in_ms(3_600_000)).await, all);
    }

    #[tokio::test]
    async fn threads_that_hang_are_limited() {
        const NAMES: [&str; 20] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];
        let gate = Arc::new(Gate::default());
        let exporter = exporter(NAMES.map(|name| (name, Does::Wait(gate.clone()))));
        let mut page = BTreeSet::new();
        while !page.contains(&format!("node_scrape_stuck_threads {THREADS}")) {
            page = gather(&exporter, in_ms(300)).await;
        }
        page = gather(&exporter, in_ms(300)).await;
        assert!(exporter.workers.threads() <= THREADS);
        let with = |reason: &str| page.iter().filter(|l| l.contains(&format!("reason=\"{reason}\""))).count();
        assert_eq!((with("stuck"), with("not_asked")), (THREADS, NAMES.len() - THREADS), "{page:#?}");
        gate.open();
        while exporter.members.iter().any(|m| m.stuck() > 0) {
            tokio::task::yield_now().await;
        }
        let page = gather(&exporter, in_ms(3_600_000)).await;
        assert!(NAMES.iter().all(|n| page.contains(&format!("node_scrape_collector_success{{collector=\"{n}\"}} 1"))));
    }

    #[tokio::test]
    async fn requests_at_the_same_time_share_one_collection() {
        let gate = Arc::new(Gate::default());
        let exporter = exporter([("a", Does::Wait(gate.clone())), ("b", Does::Answer)]);
        let begin = |selection: Selection| {
            let exporter = exporter.clone();
            tokio::spawn(async move { exporter.gather(selection, in_ms(3_600_000), lines).await.unwrap() })
        };
        let (first, second) = (begin(Selection::default()), begin(Selection::default()));
        let others = begin(Selection { exclude: vec!["a".to_owned()], ..Selection::default() });
        assert!(others.await.unwrap().contains("test{from=\"answer\"} 1"), "another filter waits for nobody");
        while gate.calls.load(Ordering::Relaxed) == 0 || exporter.open.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        gate.open();
        let pages = (first.await.unwrap(), second.await.unwrap());
        assert_eq!(pages.0, pages.1);
        assert!(pages.0.contains("test{from=\"gate\"} 1"));
        assert_eq!(gate.calls.load(Ordering::Relaxed), 1);
        assert!(exporter.open.lock().is_empty());
    }

    #[tokio::test]
    async fn the_nearest_deadline_of_shared_collections_counts() {
        let gate = Arc::new(Gate::default());
        let exporter = exporter([("a", Does::Wait(gate.clone()))]);
        let patient = {
            let exporter = exporter.clone();
            tokio::spawn(async move { gather(&exporter, in_ms(3_600_000)).await })
        };
        while gate.calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let hurried = gather(&exporter, in_ms(300)).await;
        assert!(hurried.contains("node_scrape_collector_failure_info{collector=\"a\",reason=\"timeout\"} 1"));
        assert_eq!(patient.await.unwrap(), hurried);
        gate.open();
    }

    #[tokio::test]
    async fn a_panic_is_contained_and_named() {
        let exporter = exporter([("a", Does::Panic), ("b", Does::Answer)]);
        let page = gather(&exporter, in_ms(3_600_000)).await;
        assert!(page.contains("node_scrape_collector_failure_info{collector=\"a\",reason=\"panic\"} 1"), "{page:#?}");
        assert!(page.contains("test{from=\"answer\"} 1"));
        assert_eq!(exporter.panics(), 1);
    }
}
