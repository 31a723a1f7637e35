//! Exporters under test: ours in this process, and the real one beside it where `FIREWATCH_PEERS` names the folder it is in.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod certificates;
pub mod servers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Our exporter.
pub struct Exporter {
    pub address: SocketAddr,
    pub reload: mpsc::Sender<()>,
    _shutdown: tokio_util::sync::DropGuard,
}

/// Starts our exporter with a configuration and flags.
pub async fn exporter(config: &str, flags: &[&str]) -> Exporter {
    let mut options = blackbox_exporter::parse(flags.iter().map(Into::into)).expect("flags");
    options.listen = common::http::Listen::Addresses(vec!["127.0.0.1:0".to_owned()]);
    if !flags.iter().any(|flag| flag.starts_with("--config.file")) {
        options.config_text = Some(config.to_owned());
    }
    let bound = blackbox_exporter::bind(options).expect("an exporter");
    let address = bound.addresses()[0];
    let shutdown = CancellationToken::new();
    let (reload, asked) = mpsc::channel(1);
    tokio::spawn(bound.serve(shutdown.clone(), asked));
    Exporter { address, reload, _shutdown: shutdown.drop_guard() }
}

/// An answer of an exporter.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Sends a request and reads the whole answer.
pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("to connect");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("to send");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    // the bodies of the real one come in chunks
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        dechunked(body)
    } else {
        body.to_owned()
    };
    Answer { status, body }
}

fn dechunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, "").await
}

/// A query string of these parameters.
pub fn query(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// Series and values of a page.
pub fn series(page: &str) -> BTreeMap<String, String> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What two exporters must agree on: all but times.
pub fn comparable(page: &str) -> BTreeMap<String, String> {
    let mut found = series(page);
    for (name, value) in &mut found {
        if name.contains("duration_seconds") || name.contains("lookup_time_seconds") {
            "a time".clone_into(value);
        }
        // numbers may be written in two ways
        if let Ok(number) = value.parse::<f64>() {
            *value = number.to_string();
        }
    }
    found
}

/// The real exporter, if there is one.
pub struct Peer {
    child: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the real exporter with a configuration; says so when it is left out.
pub async fn peer(config: &str) -> Option<Peer> {
    let name = "prometheus-blackbox-exporter";
    let binary = std::env::var_os("FIREWATCH_PEERS").map(|folder| PathBuf::from(folder).join(name));
    let Some(binary) = binary.filter(|path| path.exists()) else {
        println!("left out: FIREWATCH_PEERS does not name a folder with {name}");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("blackbox.yml");
    std::fs::write(&file, config).expect("to write");
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let child = Command::new(binary)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("to start");
    let peer = Peer { child, address, _folder: folder };
    for _ in 0..400 {
        if TcpStream::connect(address).await.is_ok() {
            return Some(peer);
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the real exporter does not listen");
}
