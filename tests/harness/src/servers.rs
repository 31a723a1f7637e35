use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The media type of pages in text 0.0.4.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4";

/// How a [`Target`] answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A page in text 0.0.4.
    Page(String),
    /// A page with its media type.
    Typed(&'static str, String),
    /// Another status.
    Status(u16),
    /// The first bytes of a longer page, then the connection is closed.
    CutShort(String),
    /// Nothing, for longer than anyone waits.
    Silence,
    /// This many bytes of a page that never ends well.
    Endless(u64),
    /// Not HTTP.
    Garbage,
    /// These bytes, head and body, then the connection is closed.
    Raw(Arc<[u8]>),
}

/// A scrape target whose answers the test decides. Its threads end with the test's process.
#[derive(Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    reply: Arc<Mutex<Reply>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Target {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (reply, heads) = (Arc::new(Mutex::new(reply)), Arc::new(Mutex::new(Vec::new())));
        let (shared, seen) = (Arc::clone(&reply), Arc::clone(&heads));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reply = shared.lock().expect("no test panics while it holds this").clone();
                let seen = Arc::clone(&seen);
                thread::spawn(move || answer(stream, &reply, &seen));
            }
        });
        Self { address, reply, heads }
    }

    /// Answers differently from now on.
    ///
    /// # Panics
    /// Never in practice.
    pub fn set(&self, reply: Reply) {
        *self.reply.lock().expect("no test panics while it holds this") = reply;
    }

    /// The heads of the requests so far.
    ///
    /// # Panics
    /// Never in practice.
    pub fn requests(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics while it holds this").clone()
    }
}

fn answer(mut stream: TcpStream, reply: &Reply, seen: &Mutex<Vec<String>>) {
    let Some((head, _)) = read_request(&stream) else { return };
    seen.lock().expect("no test panics while it holds this").push(head);
    let page = |kind: &str, length: usize, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let text = match reply {
        Reply::Page(body) => page(TEXT, body.len(), body),
        Reply::Typed(kind, body) => page(kind, body.len(), body),
        Reply::Status(code) => format!("HTTP/1.1 {code} Fault\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        Reply::CutShort(body) => page(TEXT, body.len() + 1000, body),
        Reply::Garbage => "this is no HTTP\r\n".to_owned(),
        Reply::Raw(bytes) => {
            let _ = stream.write_all(bytes);
            return;
        }
        Reply::Silence => {
            thread::sleep(Duration::from_secs(600));
            return;
        }
        Reply::Endless(bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: {bytes}\r\n\r\n");
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            let line = "endless{a=\"b\"} 1\n".repeat(4096);
            let mut sent = 0;
            while sent < *bytes && stream.write_all(line.as_bytes()).is_ok() {
                sent += line.len() as u64;
            }
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes());
}

/// The head and body of a request.
pub(crate) fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|l| l.to_lowercase().strip_prefix("content-length:").and_then(|v| v.trim().parse::<usize>().ok()))
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}

/// Takes whatever is posted to it, as an Alertmanager would, and keeps it.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    bodies: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bodies);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if let Some(request) = read_request(&stream) {
                    shared.lock().expect("no test panics while it holds this").push(request);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { address, bodies }
    }

    /// Heads and bodies so far.
    ///
    /// # Panics
    /// Never in practice.
    pub fn received(&self) -> Vec<(String, String)> {
        self.bodies.lock().expect("no test panics while it holds this").clone()
    }
}
