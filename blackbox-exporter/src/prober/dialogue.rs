//! What is said and expected on a connection, step by step.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::config::{QueryResponse, Regexp};
use crate::failure::Failure;
use crate::log::note;
use crate::metrics;
use crate::probe::Probe;
use crate::tls::{Handshake, Report, TlsClient, TlsError};

/// Anything that bytes go to and come from.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// A connection that can be upgraded to TLS, more than once if it must.
pub(crate) enum Stream {
    Plain(Box<dyn Connection>),
    Tls(Box<TlsStream<Stream>>),
    /// Between two states.
    Gone,
}

impl Stream {
    pub(crate) fn plain(connection: impl Connection + 'static) -> Self {
        Self::Plain(Box::new(connection))
    }

    /// Speaks TLS from now on. The server must have this name unless the settings say another.
    pub(crate) async fn upgrade(&mut self, client: &TlsClient, name: &str) -> Result<Handshake, TlsError> {
        let name = client.server_name().unwrap_or(name).to_owned();
        self.upgrade_as(client, &name).await
    }

    /// Speaks TLS from now on, to a server that must have this name.
    pub(crate) async fn upgrade_as(&mut self, client: &TlsClient, name: &str) -> Result<Handshake, TlsError> {
        let plain = std::mem::replace(self, Self::Gone);
        let (stream, handshake) = Box::pin(client.connect_as(plain, name)).await?;
        *self = Self::Tls(Box::new(stream));
        Ok(handshake)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection is gone")
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

/// A dialogue to be had.
pub(crate) struct Dialogue<'a> {
    pub(crate) tls_client: &'a TlsClient,
    /// The name the server's certificate must have.
    pub(crate) name: &'a str,
    pub(crate) steps: &'a [QueryResponse],
}

/// The longest line.
const MAX_LINE: usize = 64 * 1024;

/// Lines and bytes of a connection.
struct Reader {
    stream: Stream,
    /// Read and not used yet, from `start`.
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

/// What came of waiting for an expression.
struct Found {
    /// The line, or what there is of it.
    line: Vec<u8>,
    matched: bool,
}

impl Reader {
    fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, ended: false }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(1024);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.ended = read == 0;
        Ok(read > 0)
    }

    /// Takes lines until one matches. What comes without a line's end is held against the expression as well, so that prompts match.
    async fn find(&mut self, regexp: &Regexp) -> io::Result<Found> {
        let mut looked_at = 0;
        loop {
            while let Some(end) = memchr::memchr(b'\n', self.rest()) {
                let line = self.rest()[..end].strip_suffix(b"\r").unwrap_or(&self.rest()[..end]).to_vec();
                self.start += end + 1;
                looked_at = 0;
                if regexp.is_match(&line) {
                    return Ok(Found { line, matched: true });
                }
            }
            let rest = self.rest();
            if rest.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
            }
            if rest.len() > looked_at {
                looked_at = rest.len();
                if regexp.is_match(rest) {
                    let line = rest.to_vec();
                    self.start = self.buffer.len();
                    return Ok(Found { line, matched: true });
                }
            }
            if !self.fill().await? {
                let rest = self.rest();
                let line = rest.strip_suffix(b"\r").unwrap_or(rest).to_vec();
                let matched = !line.is_empty() && regexp.is_match(&line);
                self.start = self.buffer.len();
                return Ok(Found { line, matched });
            }
        }
    }

    /// Takes a number of bytes, or fewer at the end.
    async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.rest().len() < count && self.fill().await? {}
        let end = count.min(self.rest().len());
        let taken = self.rest()[..end].to_vec();
        self.start += end;
        Ok(taken)
    }
}

impl Dialogue<'_> {
    /// Has the dialogue.
    pub(crate) async fn run(
        &self,
        probe: &mut Probe<'_>,
        stream: Stream,
        handshake: Option<Handshake>,
    ) -> Result<(), Failure> {
        probe.metrics.set(&metrics::FAILED_DUE_TO_REGEX, 0.0);
        probe.metrics.set(&metrics::FAILED_DUE_TO_BYTES, 0.0);
        if let Some(handshake) = handshake {
            handshake.report(&mut probe.metrics, Report::Dialogue);
        }
        let mut reader = Reader::new(stream);
        for (number, step) in self.steps.iter().enumerate() {
            note!(probe.log, Debug, "Processing query response entry", "entry_number" = number);
            let mut send = step.send.0.clone();
            if let Some(regexp) = &step.expect {
                send = expect(probe, &mut reader, step, regexp).await?;
            }
            if !step.expect_bytes.0.is_empty() {
                expect_bytes(probe, &mut reader, &step.expect_bytes.0).await?;
            }
            if !send.is_empty() {
                note!(probe.log, Debug, "Sending line", "line" = String::from_utf8_lossy(&send));
                send.push(b'\n');
                let sent = async {
                    reader.stream.write_all(&send).await?;
                    reader.stream.flush().await
                };
                if let Err(error) = sent.await {
                    note!(probe.log, Error, "Failed to send", "err" = error);
                    return Err(Failure::Connection);
                }
            }
            if step.starttls {
                match reader.stream.upgrade(self.tls_client, self.name).await {
                    Ok(handshake) => {
                        note!(probe.log, Debug, "TLS Handshake (client) succeeded.");
                        handshake.report(&mut probe.metrics, Report::Dialogue);
                    }
                    Err(error) => {
                        note!(probe.log, Error, "TLS Handshake (client) failed", "err" = error);
                        return Err(probe.tls_failure(&error));
                    }
                }
                // what came before the handshake is not part of what comes after
                reader = Reader::new(reader.stream);
            }
        }
        Ok(())
    }
}

/// Waits for a line; gives what is to be sent.
async fn expect(
    probe: &mut Probe<'_>,
    reader: &mut Reader,
    step: &QueryResponse,
    regexp: &Regexp,
) -> Result<Vec<u8>, Failure> {
    let found = match reader.find(regexp).await {
        Ok(found) => found,
        Err(error) => {
            note!(probe.log, Error, "Error reading from connection", "err" = error);
            return Err(Failure::Connection);
        }
    };
    let shown = String::from_utf8_lossy(&found.line);
    let Some(captures) = regexp.captures(&found.line).filter(|_| found.matched) else {
        probe.metrics.set(&metrics::FAILED_DUE_TO_REGEX, 1.0);
        note!(probe.log, Error, "Regexp did not match", "regexp" = regexp, "line" = shown);
        return Err(Failure::Regex);
    };
    note!(probe.log, Debug, "Regexp matched", "regexp" = regexp, "line" = shown);
    probe.metrics.set(&metrics::FAILED_DUE_TO_REGEX, 0.0);
    if !step.labels.is_empty() {
        let labels = step.labels.iter().map(|label| {
            let mut value = Vec::new();
            captures.expand(label.value.as_bytes(), &mut value);
            (label.name.clone().into(), String::from_utf8_lossy(&value).into_owned().into())
        });
        probe.metrics.set_info(&metrics::EXPECT_INFO, labels.collect());
    }
    let mut send = Vec::new();
    captures.expand(&step.send.0, &mut send);
    Ok(send)
}

async fn expect_bytes(probe: &mut Probe<'_>, reader: &mut Reader, expected: &[u8]) -> Result<(), Failure> {
    let found = match reader.take(expected.len()).await {
        Ok(found) => found,
        Err(error) => {
            note!(probe.log, Error, "Error reading from connection", "err" = error);
            return Err(Failure::Connection);
        }
    };
    if found.len() < expected.len() {
        note!(probe.log, Error, "Read less data than expected", "expected" = expected.len(), "bytes" = found.len());
        return Err(Failure::Connection);
    }
    if found != expected {
        probe.metrics.set(&metrics::FAILED_DUE_TO_BYTES, 1.0);
        note!(probe.log, Error, "Bytes did not match", "expected" = String::from_utf8_lossy(expected));
        return Err(Failure::Bytes);
    }
    note!(probe.log, Debug, "Bytes matched");
    Ok(())
}
