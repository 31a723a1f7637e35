//! A collector whose log takes long to read: what it does meanwhile, and when it cannot read it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use collector::{Collector, StartError};
use harness::{Reply, Series, Target, api, encode, eventually, get, post, query, send, value};
use model::{Labels, now_millis};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tsdb::{Db, FileFault, FileObserver, FileOperation, Files, Options};

const MINUTE: i64 = 60_000;

/// A disk that gives nothing of the log until it is told what to do.
#[derive(Debug, Default)]
struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waits,
    Works,
    Fails,
}

impl Disk {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }
}

impl FileObserver for Disk {
    fn before(&self, operation: &FileOperation<'_>) -> Result<(), FileFault> {
        if let FileOperation::Open(path) | FileOperation::Read(path) = operation
            && path.parent().is_some_and(|folder| folder.ends_with("wal"))
        {
            let state = self.changed.wait_while(self.state.lock().unwrap(), |state| *state == State::Waits).unwrap();
            if *state == State::Fails {
                return Err(FileFault { error: io::Error::from_raw_os_error(5), written: 0 });
            }
        }
        Ok(())
    }

    fn done(&self, _: &FileOperation<'_>) {}
}

/// A store with a sample of `old` each minute for the last twelve hours, the last ones in the log only.
fn fill(folder: &Path, now: i64) {
    let options = Options { background: false, image_interval_bytes: None, ..Options::default() };
    let db = Db::open(folder, options).unwrap();
    for minute in -720..0 {
        let mut appender = db.appender();
        let series = appender.series(&Labels::from_pairs([("__name__", "old")])).unwrap();
        appender.append(series, now + minute * MINUTE, 1.0).unwrap();
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    assert!(db.blocks().len() > 2);
}

struct Running {
    base: String,
    shutdown: CancellationToken,
    thread: JoinHandle<Result<(), StartError>>,
}

fn start(folder: &Path, target: &Target, disk: &Arc<Disk>) -> Running {
    let config = folder.join("collector.yml");
    let rules = "groups: [{name: g, interval: 1s, rules: [{record: counted, expr: 'count_over_time(old[1d])'}]}]";
    fs::write(folder.join("rules.yml"), rules).unwrap();
    let jobs = format!("scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{}']}}]}}]", target.address);
    fs::write(&config, format!("global: {{scrape_interval: 1s}}\nrule_files: [rules.yml]\n{jobs}\n")).unwrap();
    let flags = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        "--web.listen-address=127.0.0.1:0".to_owned(),
        "--web.enable-remote-write-receiver".to_owned(),
        "--web.enable-admin-api".to_owned(),
    ];
    let mut options = collector::flags::parse(flags.map(Into::into)).unwrap().options;
    options.files = Files::observed(disk.clone());
    let shutdown = CancellationToken::new();
    let (stop, (send, receive)) = (shutdown.clone(), std::sync::mpsc::channel());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let collector = Collector::start(options, stop).await?;
            send.send(collector.addresses()[0]).unwrap();
            collector.run().await
        })
    });
    let base = format!("http://{}", receive.recv().expect("it starts"));
    Running { base, shutdown, thread }
}

/// The answer to an instant query with its warnings.
fn ask(base: &str, expr: &str, time: i64) -> (Value, usize) {
    let path = format!("{base}/api/v1/query?query={}&time={}", encode(expr), time / 1000);
    let mut answer: Value = serde_json::from_str(&get(&path).body).unwrap();
    let warnings = answer["warnings"].as_array().map_or(0, Vec::len);
    (answer["data"]["result"][0]["value"][1].take(), warnings)
}

#[test]
fn while_the_log_is_read_blocks_answer_scrapes_wait_and_rules_rest() {
    let folder = tempfile::tempdir().unwrap();
    let now = now_millis() / MINUTE * MINUTE;
    fill(&folder.path().join("data"), now);
    let (target, disk) = (Target::start(Reply::Page("page_value 1\n".to_owned())), Arc::new(Disk::default()));
    let Running { base, shutdown, thread } = start(folder.path(), &target, &disk);

    assert_eq!(get(&format!("{base}/-/healthy")).status, 200);
    assert_eq!(get(&format!("{base}/-/ready")).status, 503);
    assert!(get(&format!("{base}/metrics")).body.contains("prometheus_ready 0"));
    let told = api(&base, "notifications")[0]["text"].take();
    assert_eq!(told, "Prometheus is starting and replaying the write-ahead log (WAL).");
    let replay = api(&base, "status/walreplay");
    assert!(["min", "max", "current"].iter().all(|field| replay[field].is_u64()), "{replay}");

    // what lies in blocks is there, and nothing is said about what is not asked for
    assert_eq!(ask(&base, "count_over_time(old[1h])", now - 600 * MINUTE), ("60".into(), 0));
    let (found, warnings) = ask(&base, "count_over_time(old[1d])", now);
    let in_blocks: i64 = found.as_str().unwrap().parse().unwrap();
    assert!((400..720).contains(&in_blocks) && warnings == 1, "{in_blocks} {warnings}");
    assert_eq!(api(&base, "label/__name__/values"), serde_json::json!(["old"]));
    // nothing is taken in, and nothing deleted
    for path in ["api/v1/admin/tsdb/delete_series?match[]=old", "api/v1/admin/tsdb/snapshot"] {
        assert_eq!(post(&format!("{base}/{path}"), &[], b"").status, 503, "{path}");
    }
    assert_eq!(get(&format!("{base}/api/v1/query_exemplars?query=old")).status, 503);
    assert_eq!(get(&format!("{base}/federate?match[]=old")).status, 503);
    assert_eq!(get(&format!("{base}/api/v1/status/tsdb")).status, 503);
    let series =
        Series { labels: vec![("__name__".into(), "written".into())], samples: vec![(now, 1.0)], histograms: vec![] };
    assert_eq!(send(&base, &[series]).status, 503);

    // a page is fetched and waits; rules are not evaluated
    eventually("a scrape", 20, || (!target.requests().is_empty()).then_some(()));
    assert_eq!(api(&base, "rules")["groups"][0]["rules"][0]["health"], "unknown");
    // long after the page has come
    std::thread::sleep(std::time::Duration::from_secs(2));
    let opened = now_millis();
    disk.set(State::Works);
    eventually("ready", 20, || (get(&format!("{base}/-/ready")).status == 200).then_some(()));
    assert_eq!(api(&base, "notifications"), serde_json::json!([]));
    eventually("the page", 20, || value(&base, "page_value"));
    let first = query(&base, "page_value[1h]")[0]["values"][0][0].as_f64().unwrap();
    assert!(first * 1000.0 <= opened as f64, "it has the time at which it was asked for: {first} {opened}");
    let took = query(&base, "scrape_duration_seconds[1h]")[0]["values"][0][1].as_str().unwrap().parse::<f64>().unwrap();
    assert!((first + took) * 1000.0 < opened as f64, "the wait is no part of the scrape: {first} {took} {opened}");
    // the first evaluation had all of it
    let counted =
        eventually("the rule", 20, || query(&base, "counted[1h]")[0]["values"][0][1].as_str().map(str::to_owned));
    assert_eq!(counted, "720");
    let (found, warnings) = ask(&base, "count_over_time(old[1d])", now);
    assert_eq!((found, warnings), ("720".into(), 0));
    shutdown.cancel();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_log_that_cannot_be_read_ends_the_server() {
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("data"), now_millis());
    let (target, disk) = (Target::start(Reply::Page(String::new())), Arc::new(Disk::default()));
    let Running { thread, .. } = start(folder.path(), &target, &disk);
    disk.set(State::Fails);
    let error = thread.join().unwrap().unwrap_err();
    assert!(matches!(error, StartError::Storage(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("opening storage failed: ") && text.contains("/wal/"), "{text}");
}

#[test]
fn a_server_that_is_stopped_while_it_reads_its_log_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let now = now_millis() / MINUTE * MINUTE;
    fill(&folder.path().join("data"), now);
    let (target, disk) = (Target::start(Reply::Page(String::new())), Arc::new(Disk::default()));
    let Running { shutdown, thread, .. } = start(folder.path(), &target, &disk);
    shutdown.cancel();
    disk.set(State::Works);
    thread.join().unwrap().unwrap();
    let Running { base, shutdown, thread } = start(folder.path(), &target, &disk);
    eventually("ready", 20, || (get(&format!("{base}/-/ready")).status == 200).then_some(()));
    assert_eq!(ask(&base, "count_over_time(old[1d])", now), ("720".into(), 0));
    shutdown.cancel();
    thread.join().unwrap().unwrap();
}
