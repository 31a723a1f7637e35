//! A farm of scrape targets on loopback: one process, one port, an address of 127.77.0.0/16 for each target.
//!
//! `GET /t/TARGET/GENERATION` gives the next page of a target: the first request scrape 0, the second scrape 1. So a program that
//! scrapes a target k times has had its first k pages whatever its timing. `GET /farm` gives what was served as JSON.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::benchmark::BenchError;
use crate::pages::{Kind, Page, PageSpec};

/// Most targets that a farm has.
pub const TARGETS_LIMIT: usize = 20_000;

/// Most bytes in the head of a request.
const REQUEST_LIMIT: usize = 16 << 10;

/// What a farm serves.
#[derive(Args, Clone, Debug)]
pub struct FarmSpec {
    /// Number of targets.
    #[arg(long, default_value_t = 200)]
    pub targets: usize,
    /// Series on the page of each.
    #[arg(long, default_value_t = 1500)]
    pub series: usize,
    /// Seed of everything made up.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of the series that comes and goes, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub flapping: f64,
    /// Share of the lines that show another series at each scrape, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub moving: f64,
    /// Give each line a timestamp of its own.
    #[arg(long)]
    pub timestamps: bool,
}

/// The address of a target's own.
#[must_use]
pub fn address(target: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, (target / 250) as u8, (target % 250 + 1) as u8))
}

/// What a farm has served.
#[derive(Default)]
struct Served {
    pages: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    sent: AtomicU64,
}

/// The current page of a target.
struct Slot {
    generation: u64,
    page: Page,
    fresh: bool,
}

struct Farm {
    spec: FarmSpec,
    slots: Vec<Mutex<Slot>>,
    served: Served,
}

/// Serves until standard input ends, so that a farm never outlives the process that started it. Prints `port PORT` when
/// it listens.
///
/// # Errors
/// No port is free on all addresses, or there are too many targets.
pub fn run(spec: FarmSpec) -> Result<(), BenchError> {
    if spec.targets == 0 || spec.targets > TARGETS_LIMIT {
        return Err(BenchError::Usage(format!("a farm has from 1 to {TARGETS_LIMIT} targets, not {}", spec.targets)));
    }
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| BenchError::io("runtime", e))?;
    runtime.block_on(serve(spec)).map_err(|e| BenchError::io("the farm's port", e))
}

async fn serve(spec: FarmSpec) -> std::io::Result<()> {
    let listeners = listen(spec.targets).await?;
    let port = listeners[0].local_addr()?.port();
    let slots = (0..spec.targets)
        .map(|target| Mutex::new(Slot { generation: 0, page: new_page(&spec, target, 0), fresh: true }))
        .collect();
    let farm = Arc::new(Farm { spec, slots, served: Served::default() });
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        let farm = Arc::clone(&farm);
        tasks.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let farm = Arc::clone(&farm);
                        // a connection that breaks is the scraper's affair
                        tokio::spawn(async move { drop(connection(stream, &farm).await) });
                    }
                    // out of descriptors: wait until some are closed
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        });
    }
    println!("port {port}");
    std::io::stdout().flush()?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// One port that is free on the addresses of all targets.
async fn listen(targets: usize) -> std::io::Result<Vec<TcpListener>> {
    let mut last = std::io::Error::other("no port");
    for _ in 0..20 {
        let first = TcpListener::bind(SocketAddr::new(address(0), 0)).await?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![first];
        for target in 1..targets {
            match TcpListener::bind(SocketAddr::new(address(target), port)).await {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        if listeners.len() == targets {
            return Ok(listeners);
        }
    }
    Err(last)
}

fn new_page(spec: &FarmSpec, target: usize, generation: u64) -> Page {
    Page::new(&PageSpec {
        seed: spec.seed,
        kind: Kind::of(target),
        target,
        generation,
        series: spec.series,
        flapping: spec.flapping,
        moving: spec.moving,
    })
}

/// Answers requests on one connection until the client closes it.
async fn connection(mut stream: TcpStream, farm: &Farm) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    let mut scratch = String::new();
    loop {
        let end = loop {
            if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if request.len() > REQUEST_LIMIT || stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        request.drain(..end);
        let answer = answer(&head, farm, &mut scratch)?;
        stream.write_all(&answer).await?;
    }
}

fn answer(head: &str, farm: &Farm, scratch: &mut String) -> std::io::Result<Vec<u8>> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let gzip = head.lines().any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("accept-encoding") && value.split(',').any(|v| v.trim().starts_with("gzip"))
        })
    });
    scratch.clear();
    if path == "/farm" {
        let served = &farm.served;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let json = serde_json::json!({
            "pages": count(&served.pages), "samples": count(&served.samples),
            "bytes": count(&served.bytes), "sent": count(&served.sent),
        });
        return Ok(response("200 OK", "application/json", "", json.to_string().as_bytes()));
    }
    let Some((target, generation)) = target_of(path).filter(|(target, _)| *target < farm.slots.len()) else {
        return Ok(response("404 Not Found", "text/plain", "", b"there is no such target\n"));
    };
    let samples = {
        let mut slot = farm.slots[target].lock().unwrap_or_else(PoisonError::into_inner);
        if slot.generation != generation {
            *slot = Slot { generation, page: new_page(&farm.spec, target, generation), fresh: true };
        } else if !slot.fresh {
            slot.page.advance();
        }
        slot.fresh = false;
        slot.page.render(farm.spec.timestamps.then(now_millis), scratch)
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    let answer = if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(scratch.len() / 4), Compression::fast());
        encoder.write_all(scratch.as_bytes())?;
        response("200 OK", content_type, "Content-Encoding: gzip\r\n", &encoder.finish()?)
    } else {
        response("200 OK", content_type, "", scratch.as_bytes())
    };
    let served = &farm.served;
    for (counter, more) in [
        (&served.pages, 1),
        (&served.samples, samples as u64),
        (&served.bytes, scratch.len() as u64),
        (&served.sent, answer.len() as u64),
    ] {
        counter.fetch_add(more, Ordering::Relaxed);
    }
    Ok(answer)
}

fn response(status: &str, content_type: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Target and generation of `/t/TARGET/GENERATION`.
fn target_of(path: &str) -> Option<(usize, u64)> {
    let (target, generation) = path.strip_prefix("/t/")?.split_once('/')?;
    Some((target.parse().ok()?, generation.parse().ok()?))
}

fn now_millis() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_targets_are_distinct_loopback_addresses() {
        let all: std::collections::HashSet<IpAddr> = (0..TARGETS_LIMIT).map(address).collect();
        assert_eq!(all.len(), TARGETS_LIMIT);
        assert!(all.iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn paths_name_target_and_generation() {
        assert_eq!(target_of("/t/7/2"), Some((7, 2)));
        for path in ["/t/7", "/t/-1/2", "/t/x/2", "/metrics", ""] {
            assert_eq!(target_of(path), None, "{path}");
        }
    }
}
