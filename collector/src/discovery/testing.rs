//! What tests of mechanisms share: settings as the file would have them, and a server that answers as the test says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use model::Labels;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Consumer, DiscoveryMetrics, Groups};
use crate::config::{DiscoveryConfig, Settings, TargetGroup};

/// The one configuration of a mechanism; `SERVER` stands for a server's address.
pub(super) fn config(mechanism: &str, text: &str, server: Option<&Stub>) -> DiscoveryConfig {
    let text = text.replace("SERVER", &server.map(|s| s.address.to_string()).unwrap_or_default());
    let document = format!("{mechanism}_sd_configs:\n- {}", text.replace('\n', "\n  "));
    DiscoveryConfig::parse(&document).unwrap_or_else(|e| panic!("{text}: {e}")).remove(0)
}

/// Its settings.
pub(super) fn settings(mechanism: &str, text: &str, server: Option<&Stub>) -> Settings {
    match config(mechanism, text, server) {
        DiscoveryConfig::Mechanism { settings, .. } => *settings,
        other => panic!("{other:?}"),
    }
}

/// A mechanism at work.
pub(super) struct Running {
    pub(super) groups: watch::Receiver<Groups>,
    pub(super) metrics: Arc<DiscoveryMetrics>,
    pub(super) shutdown: CancellationToken,
}

impl Running {
    pub(super) fn start(configs: &[DiscoveryConfig]) -> Self {
        let (metrics, shutdown) = (Arc::default(), CancellationToken::new());
        let groups = super::start(configs, Consumer::Scrape, "job", None, &metrics, &shutdown);
        Self { groups, metrics, shutdown }
    }

    /// Mechanisms that could not be set up or have panicked.
    pub(super) fn failed_configs(&self) -> u64 {
        self.metrics.failed_configs(Consumer::Scrape)
    }

    /// Waits until the targets are these, shown as [`show`] shows them.
    pub(super) async fn until(&mut self, expected: &str) {
        let wait = async {
            loop {
                let now = show(&self.groups.borrow_and_update().clone());
                if now == normal(expected) {
                    return;
                }
                let changed = tokio::time::timeout(std::time::Duration::from_secs(20), self.groups.changed()).await;
                assert!(matches!(changed, Ok(Ok(()))), "no change; targets are\n{now}\nnot\n{}", normal(expected));
            }
        };
        wait.await;
    }

    /// Waits until the targets have these addresses.
    pub(super) async fn until_addresses(&mut self, expected: &[&str]) {
        loop {
            let groups = self.groups.borrow_and_update().clone();
            let mut now: Vec<String> =
                groups.iter().flat_map(|g| &g.targets).map(|t| t.value("__address__").to_owned()).collect();
            now.sort();
            if now == expected {
                return;
            }
            let changed = tokio::time::timeout(std::time::Duration::from_secs(20), self.groups.changed()).await;
            assert!(matches!(changed, Ok(Ok(()))), "no change; addresses are {now:?}, not {expected:?}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The targets with all their labels, one a line, in order.
pub(super) fn show(groups: &[TargetGroup]) -> String {
    let mut lines: Vec<String> = groups
        .iter()
        .flat_map(|group| {
            group.targets.iter().map(|target| {
                let mut labels = group.labels.to_builder();
                for (name, value) in target {
                    labels.set(name, value);
                }
                labels.build().to_string()
            })
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Targets written as `address name=value ...`, one a line, `__meta_` left out; values may be quoted.
pub(super) fn check(groups: &[TargetGroup], prefix: &str, expected: &str) {
    let got = show(groups);
    let mut lines: Vec<String> =
        expected.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| line(prefix, l)).collect();
    lines.sort();
    let expected = lines.join("\n");
    if got != expected {
        let split = |text: &str| text.replace("\", ", "\",\n    ");
        panic!("targets are\n{}\n\nnot\n{}", split(&got), split(&expected));
    }
}

fn line(prefix: &str, text: &str) -> String {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    let mut labels = Labels::from_pairs([("__address__", words[0].as_str())]).to_builder();
    for word in words[1..].iter().filter(|w| !w.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("{word} in {text}"));
        // a name that begins with a blank prefix mark stands as it is
        let name = name.strip_prefix('/').map_or_else(|| format!("{prefix}{name}"), str::to_owned);
        labels.set(&name, value);
    }
    labels.build().to_string()
}

fn normal(expected: &str) -> String {
    let mut lines: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// How a path is answered.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Json(Value),
    /// The status, further header lines, the body.
    Raw(u16, &'static str, String),
    /// Nothing, as long as the connection lives.
    Silence,
    /// A body without an end.
    Endless,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Method, blank, path with its query.
    pub(super) line: String,
    /// Header lines, names in lower case.
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

type Answers = Arc<Mutex<HashMap<String, Reply>>>;

/// An HTTP server on loopback. A request is answered as its path with the query says, else as its path, else as `*`, else by 404.
pub(super) struct Stub {
    pub(super) address: SocketAddr,
    answers: Answers,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Stub {
    pub(super) async fn start(answers: impl IntoIterator<Item = (&str, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: HashMap<String, Reply> =
            answers.into_iter().map(|(path, value)| (path.to_owned(), Reply::Json(value))).collect();
        let (answers, seen): (Answers, Arc<Mutex<Vec<Seen>>>) = (Arc::new(Mutex::new(answers)), Arc::default());
        let (shared, log) = (Arc::clone(&answers), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, Arc::clone(&shared), Arc::clone(&log)));
            }
        });
        Self { address, answers, seen, task }
    }

    /// Answers a path differently from now on.
    pub(super) fn set(&self, path: &str, reply: Reply) {
        self.answers.lock().insert(path.to_owned(), reply);
    }

    pub(super) fn json(&self, path: &str, value: Value) {
        self.set(path, Reply::Json(value));
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// The lines of the requests so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answers: Answers, log: Arc<Mutex<Vec<Seen>>>) -> Option<()> {
    loop {
        let mut reader = BufReader::new(&mut stream);
        let (mut line, mut headers) = (String::new(), Vec::new());
        if reader.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).await.ok()?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            headers.push(format!("{}:{value}", name.to_lowercase()));
        }
        let length = headers.iter().find_map(|h| h.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await.ok()?;
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        log.lock().push(Seen { line: line.clone(), headers, body: String::from_utf8_lossy(&body).into_owned() });
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let reply = {
            let answers = answers.lock();
            [line.as_str(), &target, &path, "*"].into_iter().find_map(|key| answers.get(key)).cloned()
        };
        let (status, more, body) = match reply {
            Some(Reply::Json(value)) => (200, "Content-Type: application/json\r\n", value.to_string()),
            Some(Reply::Raw(status, more, body)) => (status, more, body),
            None => (404, "", format!("no answer for {target}")),
            Some(Reply::Silence) => {
                // until the other side has had enough
                let _ = stream.read(&mut [0; 1]).await;
                return None;
            }
            Some(Reply::Endless) => {
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n",
                    )
                    .await
                    .ok()?;
                loop {
                    stream.write_all(&[b' '; 65_536]).await.ok()?;
                }
            }
        };
        let length = if line.starts_with("HEAD") { 0 } else { body.len() };
        let head = format!("HTTP/1.1 {status} X\r\n{more}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body.as_bytes()[..length]).await.ok()?;
    }
}

/// A key for tests that sign; it opens nothing.
pub(super) const RSA_KEY: &str = include_str!("testing/rsa_key.pem");
