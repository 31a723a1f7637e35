//! One request and its answer over HTTP/1.1. A client of our own: a probe that waits should hold little, and what a general
//! client keeps for each connection (two buffers, a queue, a task) is twice all the rest. Framing follows Go's client.

#[cfg(test)]
mod tests;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header, response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::failure::Failure;
use crate::prober::dialogue::Stream;

/// The largest head of an answer, together with the interim answers before it.
const MAX_HEAD: usize = 1 << 20;
/// Headers of an answer.
const MAX_HEADERS: usize = 1000;
/// As long as a head is shorter it is looked at whenever more of it comes, so that nonsense is told early.
const EARLY_LOOK: usize = 4096;
/// The longest line before a chunk, and all lines behind the last one.
const MAX_CHUNK_LINE: usize = 4096;
/// Bytes around the chunks of a body beyond what short chunks need.
const MAX_CHUNK_EXCESS: u64 = 16 * 1024;
/// A request body up to this size is sent with the head.
const SMALL_BODY: usize = 8192;
/// Bytes read at once: a record of TLS.
const READ: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The connection failed.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The connection ended before the answer's head did.
    #[error("EOF")]
    Ended,
    /// The answer is none of HTTP.
    #[error("malformed HTTP response: {0}")]
    Malformed(String),
}

impl Error {
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Connection(_) | Self::Ended => Failure::Connection,
            Self::Malformed(_) => Failure::Protocol,
        }
    }
}

/// A request as it is sent. While its answer is awaited there is nothing else left of it.
pub(super) struct Encoded {
    is_head: bool,
    /// Its head, and its body if that is not small.
    unsent: [Bytes; 2],
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    /// As Go's client has it: without `Transfer-Encoding`, and without a `Content-Length` that does not count.
    pub(super) head: response::Parts,
    /// The length that was announced.
    pub(super) length: Option<u64>,
    pub(super) body: Body,
}

/// A body and the connection it comes from, which ends with it.
pub(super) struct Body {
    connection: Connection,
    framing: Framing,
}

/// How a body ends.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// After so many bytes more.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

/// Where in its chunks a body is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chunks {
    place: Place,
    excess: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the line with a chunk's size.
    #[default]
    Size,
    /// So many bytes before the end of a chunk.
    Data(u64),
    /// Behind a chunk, before the end of its line.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    End,
}

struct Connection {
    stream: Stream,
    /// What is still to be sent.
    unsent: [Bytes; 2],
    flushed: bool,
    /// Why sending has ended early. The answer may say more.
    send_error: Option<io::Error>,
    received: BytesMut,
}

/// Sends a request and waits for the head of its answer. Dropping the future closes the connection.
pub(super) async fn send(stream: Stream, request: Encoded) -> Result<Answer, Error> {
    let Encoded { is_head, unsent } = request;
    let mut connection = Connection { stream, unsent, flushed: false, send_error: None, received: BytesMut::new() };
    let mut head = connection.head().await?;
    let (framing, length) = framing(&mut head, is_head)?;
    Ok(Answer { head, length, body: Body { connection, framing } })
}

/// Brings a request into the form it has on the wire.
pub(super) fn encode(request: Request<Bytes>) -> Encoded {
    let (head, body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let mut out = Vec::with_capacity(256 + if body.len() <= SMALL_BODY { body.len() } else { 0 });
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri.to_string().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        // these are ours to say
        if matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TRAILER) {
            continue;
        }
        let mut word_begins = true;
        out.extend(name.as_str().bytes().map(|byte| {
            let shown = if word_begins { byte.to_ascii_uppercase() } else { byte };
            word_begins = byte == b'-';
            shown
        }));
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() || matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if body.len() <= SMALL_BODY {
        out.extend_from_slice(&body);
        return Encoded { is_head, unsent: [out.into(), Bytes::new()] };
    }
    Encoded { is_head, unsent: [out.into(), body] }
}

impl Connection {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for part in &mut self.unsent {
            while !part.is_empty() {
                let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, part))?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                part.advance(sent);
            }
            *part = Bytes::new();
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what there is to send, and receives more; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.flushed
            && self.send_error.is_none()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            // it may have answered before it went
            self.send_error = Some(error);
            self.unsent = Default::default();
        }
        // on the stack: nothing is held while nothing comes
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let mut space = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space)) {
            Ok(()) => {}
            // TLS without a farewell: widespread, and what announces its length is checked anyway
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(false)),
            Err(error) => return Poll::Ready(Err(self.send_error.take().unwrap_or(error))),
        }
        self.received.extend_from_slice(space.filled());
        Poll::Ready(Ok(!space.filled().is_empty()))
    }

    async fn fill(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Reads the head of the answer; interim answers are passed over.
    async fn head(&mut self) -> Result<response::Parts, Error> {
        let (mut seen, mut passed_over) = (0, 0);
        loop {
            let end = head_end(&self.received, seen);
            seen = self.received.len();
            if let Some(end) = end {
                let head = parse(&self.received.split_to(end).freeze())?;
                let Some(head) = head else { return Err(Error::Malformed("the head ends too early".to_owned())) };
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Ok(head);
                }
                (seen, passed_over) = (0, passed_over + end);
                continue;
            }
            if passed_over + seen >= MAX_HEAD {
                return Err(Error::Malformed(format!("the head is longer than {MAX_HEAD} bytes")));
            }
            if seen > 0 && seen <= EARLY_LOOK {
                parse(&Bytes::copy_from_slice(&self.received))?;
            }
            if !self.fill().await? {
                return Err(self.send_error.take().map_or(Error::Ended, Error::Connection));
            }
        }
    }
}

/// Where the empty line after a head ends. The first `seen` bytes have been searched.
fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| match &bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// A head, none if it is not complete.
fn parse(bytes: &Bytes) -> Result<Option<response::Parts>, Error> {
    let malformed = |error: httparse::Error| Error::Malformed(error.to_string());
    // the parser would pass over empty lines
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Err(malformed(httparse::Error::Version));
    }
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_spaces_after_header_name_in_responses(true);
    let mut few = [httparse::EMPTY_HEADER; 48];
    let mut parsed = httparse::Response::new(&mut few);
    let mut many;
    let complete = match config.parse_response(&mut parsed, bytes) {
        Err(httparse::Error::TooManyHeaders) => {
            many = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
            parsed = httparse::Response::new(&mut many);
            config.parse_response(&mut parsed, bytes)
        }
        parsed => parsed,
    };
    if complete.map_err(malformed)?.is_partial() {
        return Ok(None);
    }
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::from_u16(parsed.code.unwrap_or(0)).map_err(|e| Error::Malformed(e.to_string()))?;
    head.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    head.headers.reserve(parsed.headers.len());
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|e| Error::Malformed(e.to_string()))?;
        let value = if header.value.contains(&b'\n') {
            HeaderValue::from_bytes(&unfolded(header.value))
        } else {
            HeaderValue::from_maybe_shared(bytes.slice_ref(header.value))
        };
        head.headers.append(name, value.map_err(|e| Error::Malformed(e.to_string()))?);
    }
    Ok(Some(head))
}

/// A value of several lines as one.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    lines.join(&b' ')
}

/// How the body ends, and the length that counts as announced. Headers that say something else are taken away.
fn framing(head: &mut response::Parts, is_head: bool) -> Result<(Framing, Option<u64>), Error> {
    let encodings: Vec<HeaderValue> = head.headers.get_all(header::TRANSFER_ENCODING).iter().cloned().collect();
    head.headers.remove(header::TRANSFER_ENCODING);
    let mut chunked = false;
    if head.version == Version::HTTP_11 && !encodings.is_empty() {
        chunked = encodings.len() == 1 && encodings[0].as_bytes().eq_ignore_ascii_case(b"chunked");
        if !chunked {
            return Err(Error::Malformed(format!("unsupported transfer encoding: {encodings:?}")));
        }
        if !is_head {
            head.headers.remove(header::CONTENT_LENGTH);
        }
    }
    let announced = announced(&head.headers)?;
    Ok(match (head.status, announced) {
        // what follows is another protocol's
        (StatusCode::SWITCHING_PROTOCOLS, _) => (Framing::UntilClose, if is_head { announced } else { Some(0) }),
        _ if is_head => (Framing::Length(0), announced),
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => (Framing::Length(0), Some(0)),
        _ if chunked => (Framing::Chunked(Chunks::default()), None),
        (_, Some(length)) => (Framing::Length(length), announced),
        (_, None) => (Framing::UntilClose, None),
    })
}

/// The value of `Content-Length`, which may stand there several times if it is always the same.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter().map(|value| value.as_bytes().trim_ascii());
    let Some(first) = all.next() else { return Ok(None) };
    let digits = std::str::from_utf8(first).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|text| text.parse::<u64>().ok()).filter(|length| i64::try_from(*length).is_ok()) {
        Some(length) if all.all(|other| other == first) => Ok(Some(length)),
        _ => Err(Error::Malformed("bad Content-Length".to_owned())),
    }
}

impl Body {
    /// The next part; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.buffered() {
                Ok(Some(part)) => return Some(Ok(part)),
                Ok(None) if self.has_ended() => return None,
                Ok(None) => {}
                Err(error) => return Some(Err(error.to_owned())),
            }
            match self.connection.fill().await {
                Ok(true) => {}
                Ok(false) if self.framing == Framing::UntilClose => return None,
                Ok(false) => return Some(Err("unexpected EOF".to_owned())),
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }

    fn has_ended(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.place == Place::End,
            Framing::UntilClose => false,
        }
    }

    /// What has been received of the body already; none if there is none.
    fn buffered(&mut self) -> Result<Option<Bytes>, &'static str> {
        let received = &mut self.connection.received;
        match &mut self.framing {
            Framing::Length(left) => Ok(part(received, left)),
            Framing::Chunked(chunks) => chunks.part(received),
            Framing::UntilClose => Ok(part(received, &mut u64::MAX.clone())),
        }
    }
}

/// At most `left` bytes, which are counted there.
fn part(received: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let len = usize::try_from(*left).map_or(received.len(), |left| received.len().min(left));
    *left -= len as u64;
    (len > 0).then(|| received.split_to(len).freeze())
}

impl Chunks {
    fn part(&mut self, received: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
        loop {
            match &mut self.place {
                Place::Size => {
                    let Some(line) = line(received)? else { return Ok(None) };
                    let size = chunk_size(&line)?;
                    // lines much longer than what they announce are an attack
                    self.excess = (self.excess + line.len() as u64 + 2).saturating_sub(size.saturating_mul(2) + 16);
                    if self.excess > MAX_CHUNK_EXCESS {
                        return Err("chunked encoding contains too much non-data");
                    }
                    self.place = if size == 0 { Place::Trailers } else { Place::Data(size) };
                    if size == 0 {
                        self.excess = 0;
                    }
                }
                Place::Data(0) => self.place = Place::DataEnd,
                Place::Data(left) => return Ok(part(received, left)),
                Place::DataEnd => match received.get(..2) {
                    Some(b"\r\n") => {
                        received.advance(2);
                        self.place = Place::Size;
                    }
                    Some(_) => return Err("malformed chunked encoding"),
                    None => return Ok(None),
                },
                Place::Trailers => {
                    let Some(line) = line(received)? else { return Ok(None) };
                    self.excess += line.len() as u64;
                    if self.excess > MAX_CHUNK_LINE as u64 {
                        return Err("suspiciously long trailer after chunked body");
                    }
                    if line.is_empty() {
                        self.place = Place::End;
                    }
                }
                Place::End => return Ok(None),
            }
        }
    }
}

/// A line without its end; none if it is not complete.
fn line(received: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
    match memchr::memchr(b'\n', received) {
        Some(at) if at <= MAX_CHUNK_LINE => {
            let line = received.split_to(at + 1).freeze();
            line.strip_suffix(b"\r\n").map(|text| Some(line.slice_ref(text))).ok_or("chunked line ends with bare LF")
        }
        None if received.len() <= MAX_CHUNK_LINE => Ok(None),
        _ => Err("header line too long"),
    }
}

/// The size in the line before a chunk; extensions do not count.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    match digits {
        [] => Err("empty hex number for chunk length"),
        [_, ..] if digits.len() > 16 => Err("http chunk length too large"),
        _ if !digits.iter().all(u8::is_ascii_hexdigit) => Err("invalid byte in chunk length"),
        _ => Ok(digits.iter().fold(0, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0)))),
    }
}
