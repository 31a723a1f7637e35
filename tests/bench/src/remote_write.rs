//! Remote write 1.0 as a fast sender writes it: labels are encoded once for each series.

use std::net::SocketAddr;
use std::time::Duration;

use crate::benchmark::BenchError;
use harness::client::Connection;

/// For the connecting, and for every read and write.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The bytes of a sample but for its timestamp: two keys, and the value.
const FIXED_SAMPLE_BYTES: usize = 10;

const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// A `prometheus.WriteRequest` under construction.
#[derive(Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a series, its labels from [`encode_labels`], with times in milliseconds and values.
    pub(crate) fn add(&mut self, labels: &[u8], samples: impl Iterator<Item = (i64, f64)> + Clone) {
        let size = |time: i64| FIXED_SAMPLE_BYTES + varint_len(time as u64);
        let length = labels.len() + samples.clone().map(|(time, _)| 2 + size(time)).sum::<usize>();
        self.bytes.push(0x0a);
        put_varint(length as u64, &mut self.bytes);
        self.bytes.extend_from_slice(labels);
        for (time, value) in samples {
            self.bytes.extend_from_slice(&[0x12, size(time) as u8, 0x09]);
            self.bytes.extend_from_slice(&value.to_le_bytes());
            self.bytes.push(0x10);
            put_varint(time as u64, &mut self.bytes);
        }
    }

    /// The last value of each series.
    #[cfg(test)]
    pub(crate) fn last_values(&self) -> Vec<f64> {
        let mut values = Vec::new();
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            let (length, head) = read_varint(&rest[1..]);
            let series = &rest[1 + head..][..length as usize];
            rest = &rest[1 + head + length as usize..];
            let value = &series[series.len() - 15..][..8];
            values.push(f64::from_le_bytes(value.try_into().unwrap()));
        }
        values
    }
}

/// Labels, sorted by name, as part of a series.
pub(crate) fn encode_labels(labels: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels {
        let field = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
        out.push(0x0a);
        put_varint((field(name) + field(value)) as u64, &mut out);
        for (key, text) in [(0x0a, name), (0x12, value)] {
            out.push(key);
            put_varint(text.len() as u64, &mut out);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Sends remote writes on one connection, and on a new one when the server ends it: VictoriaMetrics does every two minutes.
pub(crate) struct Sender {
    address: SocketAddr,
    connection: Option<Connection>,
}

impl Sender {
    /// Connects with the first request.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends a request. Anything but success is an error.
    pub(crate) fn post(&mut self, request: &Request) -> Result<(), BenchError> {
        let body = snap::raw::Encoder::new()
            .compress_vec(&request.bytes)
            .map_err(|e| BenchError::program("remote write", e.to_string()))?;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address, TIMEOUT).map_err(|e| BenchError::io("the store", e))?,
        };
        let answer =
            connection.post("/api/v1/write", &HEADERS, &body).map_err(|e| BenchError::io("remote write", e))?;
        if answer.header("connection").is_none_or(|told| !told.eq_ignore_ascii_case("close")) {
            self.connection = Some(connection);
        }
        if answer.status / 100 == 2 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
        Err(BenchError::program("remote write", format!("the answer is {}: {text}", answer.status)))
    }
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
fn read_varint(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, at + 1);
        }
    }
    panic!("a varint that does not end");
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};

    use super::*;

    #[test]
    fn a_connection_that_the_server_ends_is_followed_by_another() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // answers two requests on each connection, and says when it is the last
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for last in ["", "Connection: close\r\n"] {
                    let (mut line, mut len) = (String::new(), 0);
                    while line != "\r\n" {
                        line.clear();
                        stream.read_line(&mut line).unwrap();
                        if let Some(bytes) = line.strip_prefix("Content-Length: ") {
                            len = bytes.trim().parse().unwrap();
                        }
                    }
                    stream.read_exact(&mut vec![0; len]).unwrap();
                    write!(stream.get_mut(), "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n{last}\r\n").unwrap();
                }
            }
        });
        let mut sender = Sender::new(address);
        let mut request = Request::default();
        request.add(&encode_labels(&[("__name__".into(), "up".into())]), [(1, 1.0)].into_iter());
        for _ in 0..4 {
            sender.post(&request).unwrap();
        }
        server.join().unwrap();
    }

    #[test]
    fn the_bytes_are_those_of_protobuf() {
        let labels = encode_labels(&[("__name__".into(), "up".into()), ("a".into(), "b".repeat(200))]);
        let mut request = Request::default();
        request.add(&labels, [(1_700_000_000_123, 1.5), (-1, 0.0)].into_iter());
        let mut expected: Vec<u8> = vec![0x0a, 14, 0x0a, 8];
        expected.extend(b"__name__");
        expected.extend([0x12, 2]);
        expected.extend(b"up");
        expected.extend([0x0a, 0xce, 0x01, 0x0a, 1, b'a', 0x12, 0xc8, 0x01]);
        expected.extend([b'b'; 200]);
        assert_eq!(labels, expected);
        let mut series = expected;
        series.extend([0x12, 16, 0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 0xfb, 0xd0, 0x95, 0xff, 0xbc, 0x31]);
        series.extend([0x12, 20, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
        series.extend([0xff; 9]);
        series.push(1);
        let mut whole = vec![0x0a];
        put_varint(series.len() as u64, &mut whole);
        whole.extend(series);
        assert_eq!(request.bytes, whole);
    }

    #[test]
    fn lengths_of_varints() {
        for (value, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!((varint_len(value), out.len()), (length, length), "{value}");
            assert_eq!(read_varint(&out).0, value);
        }
    }
}
