use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use crate::now;

/// A scrape target whose page has the number of the request as its only sample. A request says that the page before has been
/// stored, since a target is asked again only when it has been dealt with.
#[derive(Debug)]
pub struct NumberedPage {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// When each page was sent; page `n` is the one at `n`.
    sent: Vec<i64>,
    /// Numbers of pages that have been stored.
    stored: Vec<usize>,
    /// The last page has been sent to the process that runs now.
    pending: bool,
}

impl NumberedPage {
    /// Listens on a free port, until the test's process ends.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                }
                if !head.ends_with("\r\n\r\n") {
                    continue;
                }
                let number = lock(&shared).next();
                let page = format!("# TYPE scraped counter\nscraped {number}\n");
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
                    page.len()
                );
                let _ = stream.write_all((head + &page).as_bytes());
            }
        });
        Self { address, state }
    }

    /// The process that scrapes has been killed: whether the last page was stored is not known.
    pub fn killed(&self) {
        lock(&self.state).pending = false;
    }

    /// Pages that have been stored, with the time when they were sent.
    pub fn stored(&self) -> Vec<(usize, i64)> {
        let state = lock(&self.state);
        state.stored.iter().map(|number| (*number, state.sent[*number])).collect()
    }

    /// Pages sent so far.
    pub fn sent(&self) -> usize {
        lock(&self.state).sent.len()
    }
}

impl State {
    fn next(&mut self) -> usize {
        if self.pending {
            self.stored.push(self.sent.len() - 1);
        }
        self.pending = true;
        self.sent.push(now());
        self.sent.len() - 1
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics while holding this")
}
