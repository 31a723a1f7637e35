use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::servers::read_request;

/// An API server that answers each path as the test says, in JSON. It takes paths with and without a version, as Docker's daemon
/// does. Threads end with the test's process.
#[derive(Debug)]
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    answers: Answers,
}

/// Bodies by path.
type Answers = Arc<Mutex<HashMap<String, String>>>;

impl Stub {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answers = Answers::default();
        let shared = Arc::clone(&answers);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &answers));
            }
        });
        Self { address, answers }
    }

    /// Answers a path differently from now on.
    ///
    /// # Panics
    /// Never in practice.
    pub fn set(&self, path: &str, body: &serde_json::Value) {
        let mut answers = self.answers.lock().expect("no thread panics while it holds this");
        answers.insert(path.to_owned(), body.to_string());
    }
}

fn serve(mut stream: TcpStream, answers: &Answers) {
    while let Some((head, _)) = read_request(&stream) {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
        let answer = answers.lock().expect("no thread panics while it holds this").get(path).cloned();
        let (status, body) = match &answer {
            Some(body) => ("200 OK", body.as_str()),
            None => ("404 Not Found", "{}"),
        };
        let body = if head.starts_with("HEAD ") { "" } else { body };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nApi-Version: 1.44\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}
