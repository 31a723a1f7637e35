//! A bus in place of the system's, for tests.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;

use super::{
    ERROR, FIELD_ERROR_NAME, FIELD_REPLY_SERIAL, FIELD_SIGNATURE, HEADER, METHOD_RETURN, Message, Reader, Value,
    Writer, frame,
};

/// What the fake answers with: a value and its signature.
pub(in crate::collectors) enum Sent {
    Text(&'static str),
    Variant(&'static str, Value),
    Plain(&'static str, Value),
    Error,
}

/// A bus that answers calls on one connection after another: member, path, and arguments, by the function.
pub(in crate::collectors) struct FakeBus {
    folder: TempDir,
}

impl FakeBus {
    pub(in crate::collectors) fn start(answer: impl Fn(&str, &str, &[String]) -> Sent + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("bus")).expect("a socket");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a connection"), &answer);
            }
        });
        Self { folder }
    }

    pub(in crate::collectors) fn path(&self) -> PathBuf {
        self.folder.path().join("bus")
    }
}

fn serve(mut stream: UnixStream, answer: &impl Fn(&str, &str, &[String]) -> Sent) {
    let mut line = Vec::new();
    while !line.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        line.push(byte[0]);
        if line.ends_with(b"\r\n") && line.starts_with(b"\0AUTH EXTERNAL ") && !line.ends_with(b"BEGIN\r\n") {
            stream.write_all(b"OK 0123456789abcdef\r\n").expect("a write");
        }
    }
    loop {
        let mut header = [0u8; HEADER];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let fields_end = (HEADER + word(12) as usize).next_multiple_of(8);
        let mut bytes = header.to_vec();
        bytes.resize(fields_end + word(4) as usize, 0);
        stream.read_exact(&mut bytes[HEADER..]).expect("a message");
        let mut reader = Reader { bytes: &bytes[..fields_end], at: HEADER - 4, big: false };
        let Ok(Value::Array(fields)) = reader.value(&mut "a(yv)".as_bytes(), 0) else { panic!("no fields") };
        let field = |number: u64| {
            let found = fields.iter().filter_map(Value::as_struct).find(|f| f[0] == Value::Unsigned(number));
            found.and_then(|f| f[1].as_text()).unwrap_or("").to_owned()
        };
        let mut body = Reader { bytes: &bytes[fields_end..], at: 0, big: false };
        let arguments: Vec<String> = field(8).bytes().map(|_| body.text(4).expect("a text")).collect();
        let sent = match &*field(3) {
            "Hello" => Sent::Text(":1.1"),
            member => answer(member, &field(1), &arguments),
        };
        let mut out = Vec::new();
        // something else comes in between
        reply(&mut out, 9999, &Sent::Text("not for you"));
        reply(&mut out, word(8), &sent);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

fn reply(out: &mut Vec<u8>, to: u32, sent: &Sent) {
    let mut fields = Writer::default();
    fields.bytes.push(FIELD_REPLY_SERIAL);
    fields.signature("u");
    fields.align(4);
    fields.bytes.extend(to.to_le_bytes());
    let mut body = Writer::default();
    let (kind, signature) = match sent {
        Sent::Text(text) => {
            body.text(text);
            (METHOD_RETURN, "s")
        }
        Sent::Variant(signature, value) => {
            body.signature(signature);
            write(&mut body, &mut signature.as_bytes(), value);
            (METHOD_RETURN, "v")
        }
        Sent::Plain(signature, value) => {
            write(&mut body, &mut signature.as_bytes(), value);
            (METHOD_RETURN, *signature)
        }
        Sent::Error => {
            fields.align(8);
            fields.bytes.push(FIELD_ERROR_NAME);
            fields.signature("s");
            fields.text("org.example.No");
            body.text("there is none");
            (ERROR, "s")
        }
    };
    fields.align(8);
    fields.bytes.push(FIELD_SIGNATURE);
    fields.signature("g");
    fields.signature(signature);
    frame(out, kind, 1, fields, &body.bytes);
}

/// Appends a value of the first type of a signature, which is taken off it.
pub(super) fn write(out: &mut Writer, types: &mut &[u8], value: &Value) {
    let kind = types[0];
    *types = &types[1..];
    match (kind, value) {
        (b'u', Value::Unsigned(number)) => {
            out.align(4);
            out.bytes.extend((*number as u32).to_le_bytes());
        }
        (b't', Value::Unsigned(number)) => {
            out.align(8);
            out.bytes.extend(number.to_le_bytes());
        }
        (b'b', Value::Bool(yes)) => {
            out.align(4);
            out.bytes.extend(u32::from(*yes).to_le_bytes());
        }
        (b's' | b'o', Value::Text(text)) => out.text(text),
        (b'(', Value::Struct(values)) => {
            out.align(8);
            for value in values {
                write(out, types, value);
            }
            *types = &types[1..];
        }
        (b'a', Value::Array(values)) => {
            let element = *types;
            *types = &element[super::complete(element, 0).expect("a type")..];
            out.align(4);
            let at = out.bytes.len();
            out.bytes.extend([0; 4]);
            if element[0] == b'(' {
                out.align(8);
            }
            let begin = out.bytes.len();
            for value in values {
                write(out, &mut &element[..], value);
            }
            let len = (out.bytes.len() - begin) as u32;
            out.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        }
        (kind, value) => panic!("{value:?} as {:?}", char::from(kind)),
    }
}

/// Reads a message's bytes as the client does.
pub(super) fn read(bytes: &[u8], fields_end: usize) -> Result<Vec<Value>, super::DbusError> {
    Message::read(bytes, fields_end, bytes[0] == b'B').map(|message| message.values)
}
