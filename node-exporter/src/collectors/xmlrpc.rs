//! Calls without arguments by XML-RPC: one HTTP/1.0 request over TCP, TLS or a Unix socket, within a deadline.

mod transport;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::http::client::TlsConfig;
use url::Url;

use self::transport::{Server, split};

/// Values within values beyond this are refused.
const DEEPEST: usize = 32;

/// Why a call has no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The server is not there, is not the one it should be, or does not answer in time.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server refuses the request.
    #[error("the server answers with status {0:?}")]
    Status(String),
    /// The server reports a fault of the call.
    #[error("the server reports a fault: {0}")]
    Fault(String),
    /// The answer is not one of XML-RPC.
    #[error("the answer is not XML-RPC: {0}")]
    Malformed(&'static str),
}

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `int`, `i4`, `i8` and `boolean`.
    Int(i64),
    /// `string`, and every other simple type as its text.
    Text(String),
    /// `array`.
    Array(Vec<Self>),
    /// `struct`.
    Struct(Vec<(String, Self)>),
}

/// Where calls go.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    server: Server,
    /// The request up to its content's length.
    head: String,
}

impl Endpoint {
    /// An endpoint of `http[s]://[user:password@]host[:port]/path`, or of `unix:///socket`, whose path is `/RPC2`. Over TLS the
    /// server is checked against the system's authorities.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::with_tls(text, &TlsConfig::default())
    }

    fn with_tls(text: &str, tls: &TlsConfig) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is not an address: {error}"))?;
        let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let (server, host, path) = match url.scheme() {
            "unix" => (Server::Unix(decoded(url.path())), "unix".to_owned(), "/RPC2".to_owned()),
            "http" | "https" => {
                let name = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or(80);
                let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
                let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
                let name = name.trim_matches(['[', ']']);
                let server = match url.scheme() {
                    "https" => Server::tls(name, port, tls)?,
                    _ => Server::Tcp(name.to_owned(), port),
                };
                (server, host, path)
            }
            scheme => {
                return Err(format!("{text:?}: scheme {scheme:?} is not supported, only http, https and unix are"));
            }
        };
        let mut head = format!("POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: text/xml\r\n");
        if !url.username().is_empty() || url.password().is_some() {
            let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
            head += &format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")));
        }
        Ok(Self { server, head })
    }

    /// Calls a method and gives its value.
    pub(super) fn call(&self, method: &str, timeout: Duration) -> Result<Value, CallError> {
        let deadline = Instant::now() + timeout;
        let content = format!(
            "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params></params></methodCall>"
        );
        let request = format!("{}Content-Length: {}\r\n\r\n{content}", self.head, content.len());
        let answer = self.server.exchange(&request, deadline)?;
        parse_answer(&answer)
    }
}

fn parse_answer(answer: &[u8]) -> Result<Value, CallError> {
    let (head, content) = split(answer).ok_or(CallError::Malformed("the head of HTTP is cut off"))?;
    let status = head.lines().next().and_then(|line| line.split_once(' ')).map_or("", |(_, status)| status);
    if !status.starts_with("200") {
        return Err(CallError::Status(status.to_owned()));
    }
    let text = std::str::from_utf8(content).map_err(|_| CallError::Malformed("it is not UTF-8"))?;
    let mut reader = Reader { rest: text };
    reader.open("methodResponse")?;
    match reader.tag()? {
        "params" => {
            reader.open("param")?;
            reader.open("value")?;
            reader.value(0)
        }
        "fault" => {
            reader.open("value")?;
            let Value::Struct(members) = reader.value(0)? else {
                return Err(CallError::Malformed("a fault is no struct"));
            };
            let text = members.into_iter().find(|(name, _)| name == "faultString");
            Err(CallError::Fault(match text {
                Some((_, Value::Text(text))) => text,
                _ => "without a text".to_owned(),
            }))
        }
        _ => Err(CallError::Malformed("neither params nor fault")),
    }
}

/// Reads the tags and texts of a document without attributes.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// The text up to the next tag.
    fn text(&mut self) -> Result<&'a str, CallError> {
        let at = self.rest.find('<').ok_or(CallError::Malformed("it is cut off"))?;
        let (text, rest) = self.rest.split_at(at);
        self.rest = rest;
        Ok(text)
    }

    /// The next tag without its brackets, `/` first if it ends something. Declarations are passed over.
    fn tag(&mut self) -> Result<&'a str, CallError> {
        loop {
            self.text()?;
            let (tag, rest) = self.rest[1..].split_once('>').ok_or(CallError::Malformed("a tag is cut off"))?;
            self.rest = rest;
            if !tag.starts_with(['?', '!']) {
                return Ok(tag.trim_end());
            }
        }
    }

    /// Passes over an expected tag.
    fn open(&mut self, name: &str) -> Result<(), CallError> {
        if self.tag()? == name { Ok(()) } else { Err(CallError::Malformed("an unexpected element")) }
    }

    /// A value and its end, after `<value>`.
    fn value(&mut self, depth: usize) -> Result<Value, CallError> {
        if depth > DEEPEST {
            return Err(CallError::Malformed("values are nested too deeply"));
        }
        let bare = self.text()?;
        let kind = self.tag()?;
        let value = match kind {
            // a value without a type is a string
            "/value" => return Ok(Value::Text(unescape(bare)?)),
            "array" => self.array(depth)?,
            "struct" => self.members(depth)?,
            _ if kind.starts_with('/') => return Err(CallError::Malformed("a value does not end")),
            _ if kind.ends_with('/') => {
                self.open("/value")?;
                return Ok(Value::Text(String::new()));
            }
            _ => {
                let text = self.text()?;
                let simple = match kind {
                    "int" | "i4" | "i8" | "boolean" => {
                        Value::Int(text.trim().parse().map_err(|_| CallError::Malformed("an int is no number"))?)
                    }
                    _ => Value::Text(unescape(text)?),
                };
                if self.tag()?.strip_prefix('/') != Some(kind) {
                    return Err(CallError::Malformed("a value does not end"));
                }
                simple
            }
        };
        self.open("/value")?;
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, CallError> {
        let mut values = Vec::new();
        match self.tag()? {
            "data" => loop {
                match self.tag()? {
                    "value" => values.push(self.value(depth + 1)?),
                    "/data" => break,
                    _ => return Err(CallError::Malformed("an array holds something else than values")),
                }
            },
            "data/" => {}
            _ => return Err(CallError::Malformed("an array has no data")),
        }
        self.open("/array")?;
        Ok(Value::Array(values))
    }

    fn members(&mut self, depth: usize) -> Result<Value, CallError> {
        let mut members = Vec::new();
        loop {
            match self.tag()? {
                "member" => {
                    self.open("name")?;
                    let name = unescape(self.text()?)?;
                    self.open("/name")?;
                    self.open("value")?;
                    members.push((name, self.value(depth + 1)?));
                    self.open("/member")?;
                }
                "/struct" => return Ok(Value::Struct(members)),
                _ => return Err(CallError::Malformed("a struct holds something else than members")),
            }
        }
    }
}

/// Replaces the five named entities and those by number.
fn unescape(text: &str) -> Result<String, CallError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) = after.split_once(';').ok_or(CallError::Malformed("an entity is cut off"))?;
        let number = name.strip_prefix('#').and_then(|n| match n.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => n.parse().ok(),
        });
        out.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => number.and_then(char::from_u32).ok_or(CallError::Malformed("an unknown entity"))?,
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: Result<Value, &str>) {
        let answer = format!("HTTP/1.0 200 OK\r\nServer: x\r\n\r\n{content}");
        assert_eq!(parse_answer(answer.as_bytes()).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
    }

    fn params(value: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}\n</param>\n</params>\n</methodResponse>\n"
        )
    }

    #[test]
    fn values_of_every_kind_are_read() {
        let text = |t: &str| Value::Text(t.to_owned());
        for (value, expected) in [
            ("<value><int>-7</int></value>", Value::Int(-7)),
            ("<value><i4> 7 </i4></value>", Value::Int(7)),
            ("<value><boolean>1</boolean></value>", Value::Int(1)),
            ("<value><string>a &lt;&amp;&gt; &quot;b&apos; &#65;&#x42;</string></value>", text("a <&> \"b' AB")),
            ("<value>bare</value>", text("bare")),
            ("<value></value>", text("")),
            ("<value><string></string></value>", text("")),
            ("<value><string/></value>", text("")),
            ("<value><double>1.5</double></value>", text("1.5")),
            ("<value><array><data/></array></value>", Value::Array(vec![])),
            (
                "<value> <array><data> <value><int>1</int></value> </data></array> </value>",
                Value::Array(vec![Value::Int(1)]),
            ),
            (
                "<value><struct><member><name>a</name><value>b</value></member></struct></value>",
                Value::Struct(vec![("a".to_owned(), text("b"))]),
            ),
        ] {
            check(&params(value), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        let malformed = "the answer is not XML-RPC: ";
        for (content, expected) in [
            ("", "it is cut off"),
            ("<html>", "an unexpected element"),
            ("<methodResponse><x>", "neither params nor fault"),
            (&params("<value><int>x</int></value>"), "an int is no number"),
            (&params("<value><int>1</string></value>"), "a value does not end"),
            (&params("<value>&nbsp;</value>"), "an unknown entity"),
            (&params("<value>&</value>"), "an entity is cut off"),
            (&params("<value>1"), "a value does not end"),
            (&params(&"<value><array><data>".repeat(40)), "values are nested too deeply"),
            ("<methodResponse><params><param><value><int>1", "it is cut off"),
        ] {
            check(content, Err(&format!("{malformed}{expected}")));
        }
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value></member><member><name>faultString</name><value><string>UNKNOWN_METHOD</string></value></member></struct></value></fault></methodResponse>";
        check(fault, Err("the server reports a fault: UNKNOWN_METHOD"));
        let refused = parse_answer(b"HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "the server answers with status \"401 Unauthorized\"");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_a_panic(parts in proptest::collection::vec(
            "(<|>|</|&|;|#x|value|struct|member|name|array|data|int|string|param|params|fault|methodResponse|\\PC){1,3}",
            0..40,
        )) {
            let content = parts.concat();
            parse_answer(format!("HTTP/1.0 200 OK\r\n\r\n{content}").as_bytes()).ok();
            parse_answer(format!("HTTP/1.0 200 OK\r\n\r\n{}", params(&content)).as_bytes()).ok();
            parse_answer(content.as_bytes()).ok();
        }
    }

    #[test]
    fn addresses_are_of_http_https_and_unix() {
        let head = |text: &str| Endpoint::parse(text).map(|e| e.head);
        let plain = "POST /RPC2 HTTP/1.0\r\nHost: localhost:9001\r\nContent-Type: text/xml\r\n";
        assert_eq!(head("http://localhost:9001/RPC2").as_deref(), Ok(plain));
        let known = head("http://us%40er:p@[::1]/a?b=c").unwrap();
        assert!(known.starts_with("POST /a?b=c HTTP/1.0\r\nHost: [::1]\r\n"), "{known}");
        assert!(known.ends_with("Authorization: Basic dXNAZXI6cA==\r\n"), "{known}");
        assert!(head("unix:///run/a%20b.sock").unwrap().starts_with("POST /RPC2 HTTP/1.0\r\nHost: unix\r\n"));
        assert!(head("https://localhost/").unwrap().starts_with("POST / HTTP/1.0\r\nHost: localhost\r\n"));
        assert!(head("ftp://localhost/").unwrap_err().contains("only http, https and unix are"));
        assert!(head("localhost").unwrap_err().contains("is not an address"));
    }

    #[test]
    fn a_server_that_says_nothing_is_left() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        let error = endpoint.call("x", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no answer in time");
    }
}
