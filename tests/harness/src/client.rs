//! A small HTTP/1.1 client that tells when the first byte of an answer came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Most that an answer may have, its head and body each.
const BODY_LIMIT: usize = 256 << 20;
const HEAD_LIMIT: u64 = 64 << 10;

/// What a server answered, as it came.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as sent, so possibly compressed.
    pub body: Vec<u8>,
    /// From the last byte of the request to the first byte of the answer.
    pub first_byte: Duration,
}

impl Response {
    /// The first header of that name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, inflated if it was sent with gzip.
    ///
    /// # Errors
    /// The body is not gzip although its header says so, is larger than 256 MiB or is not UTF-8.
    pub fn text(&self) -> std::io::Result<String> {
        let mut text = String::new();
        if self.header("content-encoding") == Some("gzip") {
            let inflated = flate2::read::MultiGzDecoder::new(self.body.as_slice());
            inflated.take(BODY_LIMIT as u64).read_to_string(&mut text)?;
        } else {
            self.body.as_slice().read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

/// A connection that is kept open between requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects. `timeout` bounds the connecting and then every read and write.
    ///
    /// # Errors
    /// The connection was refused or timed out.
    pub fn open(address: SocketAddr, timeout: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), host: address.to_string() })
    }

    /// Asks for `path` with further header lines and reads the whole answer.
    ///
    /// # Errors
    /// The connection broke or the answer is not HTTP/1.1 with a length or chunks.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Response> {
        self.request("GET", path, headers, None)
    }

    /// Sends a body to `path` and reads the whole answer.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Response> {
        self.request("POST", path, headers, Some(body))
    }

    /// Sends a request of any method, with a length if there is a body, and reads the whole answer. `Host` is the address unless
    /// it is among the headers.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> std::io::Result<Response> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: {}\r\n", self.host));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        if let Some(body) = body {
            self.stream.get_mut().write_all(body)?;
        }
        let asked = Instant::now();
        self.stream.fill_buf()?;
        let first_byte = asked.elapsed();

        let mut head = String::new();
        let mut limited = Read::by_ref(&mut self.stream).take(HEAD_LIMIT);
        while !head.ends_with("\r\n\r\n") {
            if limited.read_line(&mut head)? == 0 {
                return Err(broken("the answer's head ends early"));
            }
        }
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| broken("the answer has no status line"))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Response { status, headers, body: Vec::new(), first_byte };
        if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            while self.read_chunk(&mut answer.body)? {}
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_| broken("the length of the answer is no number"))?;
            self.read_body(length, &mut answer.body)?;
        } else if answer.status != 204 && answer.status != 304 {
            return Err(broken("the answer has neither a length nor chunks"));
        }
        Ok(answer)
    }

    /// Reads one chunk; false after the last.
    fn read_chunk(&mut self, body: &mut Vec<u8>) -> std::io::Result<bool> {
        let mut line = String::new();
        Read::by_ref(&mut self.stream).take(1024).read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken("the size of a chunk is no number"))?;
        self.read_body(size, body)?;
        line.clear();
        Read::by_ref(&mut self.stream).take(HEAD_LIMIT).read_line(&mut line)?;
        Ok(size > 0)
    }

    fn read_body(&mut self, length: usize, body: &mut Vec<u8>) -> std::io::Result<()> {
        if length.saturating_add(body.len()) > BODY_LIMIT {
            return Err(broken("the answer is too large"));
        }
        let read = Read::by_ref(&mut self.stream).take(length as u64).read_to_end(body)?;
        if read == length { Ok(()) } else { Err(broken("the answer's body ends early")) }
    }
}

/// Asks once, on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::get`].
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<Response> {
    Connection::open(address, Duration::from_secs(30))?.get(path, &[("Connection", "close")])
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers with these bytes to any request, one request after another on one connection.
    fn server(answers: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut stream = BufReader::new(stream);
            for answer in answers {
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).expect("a request") == 0 {
                        return;
                    }
                }
                stream.get_mut().write_all(&answer).expect("an answer");
            }
        });
        address
    }

    fn open(answers: &[&str]) -> Connection {
        let address = server(answers.iter().map(|a| a.as_bytes().to_vec()).collect());
        Connection::open(address, Duration::from_secs(20)).expect("a connection")
    }

    #[test]
    fn lengths_and_chunks_follow_each_other_on_one_connection() {
        let mut connection = open(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nhello",
            "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ]);
        let answer = connection.get("/", &[]).expect("an answer");
        assert_eq!((answer.status, answer.text().unwrap().as_str(), answer.header("x-y")), (200, "hello", Some("z")));
        let answer = connection.get("/", &[]).expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (503, b"abcde".as_slice()));
        assert_eq!(connection.get("/", &[]).expect("an answer").status, 204);
        assert_eq!(connection.get("/", &[]).expect("an answer").body, b"");
    }

    #[test]
    fn broken_answers_are_errors() {
        for (answer, reason) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "ends early"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "head ends early"),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\n\r\nwhat", "neither a length nor chunks"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk is no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "too large"),
            ("nonsense\r\n\r\n", "status line"),
        ] {
            let error = open(&[answer]).get("/", &[]).expect_err(answer).to_string();
            assert!(error.contains(reason), "{answer:?}: {error}");
        }
    }

    #[test]
    fn gzip_bodies_are_inflated() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"up 1\n").expect("to compress");
        let body = encoder.finish().expect("to compress");
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        assert_eq!(get(server(vec![answer]), "/").expect("an answer").text().expect("text"), "up 1\n");
    }
}
