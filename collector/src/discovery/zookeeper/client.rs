//! A session with a ZooKeeper server: the requests that read, and the notices that watches give (its protocol of version 0).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const DEFAULT_PORT: u16 = 2181;
/// Bytes of a message; servers allow a quarter of this unless told otherwise.
const MAX_MESSAGE: usize = 4 << 20;

const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const PING: i32 = 11;
/// What marks notices and answers to pings.
const NOTICE: i32 = -1;
const PONG: i32 = -2;
const NO_NODE: i32 = -101;

/// A connection with its session.
pub(super) struct Client {
    stream: TcpStream,
    /// Bytes that have come and not been read.
    buffer: Vec<u8>,
    timeout: Duration,
    next: i32,
    changed: bool,
    heard: Instant,
}

impl Client {
    pub(super) async fn connect(server: &str, timeout: Duration) -> Result<Self, String> {
        let with_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if with_port { server.to_owned() } else { format!("{server}:{DEFAULT_PORT}") };
        let late = |_| "no answer in time".to_owned();
        let stream = tokio::time::timeout(timeout, TcpStream::connect(&address)).await.map_err(late)?;
        let stream = stream.map_err(|e| format!("{address}: {e}"))?;
        let mut client = Self { stream, buffer: Vec::new(), timeout, next: 1, changed: false, heard: Instant::now() };
        let mut hello = Vec::new();
        hello.extend(0i32.to_be_bytes());
        hello.extend(0i64.to_be_bytes());
        hello.extend(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).to_be_bytes());
        hello.extend(0i64.to_be_bytes());
        put_bytes(&mut hello, &[0; 16]);
        client.send(&hello).await?;
        let answer = tokio::time::timeout(timeout, client.receive()).await.map_err(late)??;
        let mut reader = Reader(&answer);
        reader.int()?;
        let granted = u64::try_from(reader.int()?).unwrap_or(0);
        if granted == 0 {
            return Err("the server gives no session".into());
        }
        client.timeout = Duration::from_millis(granted);
        Ok(client)
    }

    /// The data of a node, or nothing where there is no node. A change of it, and its end, are noticed.
    pub(super) async fn data(&mut self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(answer) = self.ask(GET_DATA, path).await? else { return Ok(None) };
        Reader(&answer).bytes().map(|bytes| Some(bytes.to_vec()))
    }

    /// The names of the nodes below a node, or nothing where there is none. Changes of them are noticed.
    pub(super) async fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, String> {
        let Some(answer) = self.ask(GET_CHILDREN, path).await? else { return Ok(None) };
        let mut reader = Reader(&answer);
        let count = reader.int()?.max(0);
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(String::from_utf8_lossy(reader.bytes()?).into_owned());
        }
        Ok(Some(names))
    }

    /// Has it noticed when a node comes.
    pub(super) async fn exists(&mut self, path: &str) -> Result<(), String> {
        self.ask(EXISTS, path).await.map(drop)
    }

    /// Waits until something has changed that was read before; keeps the session alive.
    pub(super) async fn changed(&mut self) -> Result<(), String> {
        let every = self.timeout / 3;
        let mut ping = tokio::time::interval_at(Instant::now() + every, every);
        while !std::mem::take(&mut self.changed) {
            if let Some(message) = self.take_message()? {
                self.note(&message)?;
                continue;
            }
            tokio::select! {
                count = self.stream.read_buf(&mut self.buffer) => self.came(count)?,
                _ = ping.tick() => {
                    if self.heard.elapsed() > self.timeout {
                        return Err("the server is silent".into());
                    }
                    let request = [PONG.to_be_bytes(), PING.to_be_bytes()].concat();
                    self.send(&request).await?;
                }
            }
        }
        Ok(())
    }

    /// The answer to a request about a path, which is watched; nothing where there is no node.
    async fn ask(&mut self, kind: i32, path: &str) -> Result<Option<Vec<u8>>, String> {
        let id = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        let mut request = [id.to_be_bytes(), kind.to_be_bytes()].concat();
        put_bytes(&mut request, path.as_bytes());
        request.push(1);
        let timeout = self.timeout;
        let exchange = async {
            self.send(&request).await?;
            loop {
                let message = self.receive().await?;
                let mut reader = Reader(&message);
                let got = reader.int()?;
                if got == NOTICE || got == PONG {
                    self.note(&message)?;
                    continue;
                }
                reader.take(8)?;
                return match reader.int()? {
                    _ if got != id => Err("the answer is to another request".into()),
                    0 => Ok(Some(reader.0.to_vec())),
                    NO_NODE => Ok(None),
                    code => Err(format!("{path}: error {code}")),
                };
            }
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }

    fn note(&mut self, message: &[u8]) -> Result<(), String> {
        if Reader(message).int()? == NOTICE {
            self.changed = true;
        }
        Ok(())
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), String> {
        let mut framed = (message.len() as u32).to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        self.stream.write_all(&framed).await.map_err(|e| e.to_string())
    }

    async fn receive(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(message);
            }
            let count = self.stream.read_buf(&mut self.buffer).await;
            self.came(count)?;
        }
    }

    fn came(&mut self, count: std::io::Result<usize>) -> Result<(), String> {
        self.heard = Instant::now();
        match count {
            Ok(0) => Err("the server has closed the connection".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A whole message, if one has come.
    fn take_message(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(format!("a message is larger than {MAX_MESSAGE} bytes"));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let message = self.buffer[4..4 + length].to_vec();
        self.buffer.drain(..4 + length);
        Ok(Some(message))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a message ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, String> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Bytes with their length before them; -1 says that there are none.
    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = usize::try_from(self.int()?).unwrap_or(0);
        self.take(length)
    }
}
