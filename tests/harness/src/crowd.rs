use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::servers::{TEXT, read_request};

/// Scrape targets at one address, told apart by their paths: those below `/silent/` take a request and never answer, all others
/// answer with a small page and keep their connection open. Threads end with the test's process.
#[derive(Debug)]
pub struct Crowd {
    /// Where they listen.
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    served: AtomicUsize,
}

/// How long a silent target keeps its end of a connection.
const SILENCE: Duration = Duration::from_secs(10);

impl Crowd {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let counts = Arc::new(Counts::default());
        let (shared, silent) = (Arc::clone(&counts), Arc::new(Mutex::new(Vec::new())));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let (counts, silent) = (Arc::clone(&shared), Arc::clone(&silent));
                let work = move || serve(stream, &counts, &silent);
                thread::Builder::new().stack_size(64 << 10).spawn(work).expect("a thread");
            }
        });
        Self { address, counts }
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Pages so far.
    pub fn served(&self) -> usize {
        self.counts.served.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, counts: &Counts, silent: &Mutex<Vec<(Instant, TcpStream)>>) {
    let _ = stream.set_nodelay(true);
    while let Some((head, _)) = read_request(&stream) {
        if head.starts_with("GET /silent/") {
            let mut silent = silent.lock().expect("no thread panics while it holds this");
            silent.retain(|(since, _)| since.elapsed() < SILENCE);
            silent.push((Instant::now(), stream));
            return;
        }
        let page = "# TYPE answered gauge\nanswered 1\n";
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        counts.served.fetch_add(1, Ordering::Relaxed);
    }
}
