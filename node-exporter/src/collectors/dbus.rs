//! Method calls over D-Bus, as far as reading properties needs them: all arguments are strings, calls block, and the whole
//! connection has a deadline. Format: the D-Bus specification's chapters "Message Protocol" and "Authentication Protocol".

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::unix_socket;

/// Why a call has no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum DbusError {
    /// The bus is not there, or not in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// `DBUS_SYSTEM_BUS_ADDRESS` names something else than a Unix socket.
    #[error("the address {0:?} of the bus is not one of a Unix socket")]
    Address(String),
    /// The bus does not let this user in.
    #[error("the bus refuses this user: {0:?}")]
    Refused(String),
    /// The other side answers with an error.
    #[error("{name}: {text}")]
    Failed {
        /// The error's name.
        name: String,
        /// What it says.
        text: String,
    },
    /// The other side does not keep to the format.
    #[error("the bus sends a malformed message: {0}")]
    Malformed(&'static str),
}

/// A value of an answer. A variant is the value in it, a pair of a dictionary is a structure.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(String),
    Array(Vec<Self>),
    Struct(Vec<Self>),
}

impl Value {
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_unsigned(&self) -> Option<u64> {
        if let Self::Unsigned(number) = self { Some(*number) } else { None }
    }

    pub(super) fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    pub(super) fn as_struct(&self) -> Option<&[Self]> {
        if let Self::Struct(values) = self { Some(values) } else { None }
    }
}

/// A method to call.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// The call that reads a property of an object.
    pub(super) fn property(destination: &'a str, path: &'a str, interface: &'a str, property: &'a str) -> Self {
        let arguments = vec![interface, property];
        Self { destination, path, interface: "org.freedesktop.DBus.Properties", member: "Get", arguments }
    }
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;
/// Endianness, type, flags, version, length of the body, serial, length of the fields.
const HEADER: usize = 16;
/// A longer message is not read; the specification allows 128 MiB.
const LONGEST: usize = 16 << 20;
/// Values within values beyond this are refused, as the specification has it.
const DEEPEST: usize = 64;
/// Calls on their way at once; buses limit the answers they owe.
const IN_FLIGHT: usize = 32;
const SYSTEM_BUS: &str = "unix:path=/var/run/dbus/system_bus_socket";

/// An open connection.
pub(super) struct Connection {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
}

impl Connection {
    /// Connects to the system's bus, of `DBUS_SYSTEM_BUS_ADDRESS` or the usual address. Everything done with the connection
    /// is over before the timeout is.
    pub(super) fn system(timeout: Duration) -> Result<Self, DbusError> {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| SYSTEM_BUS.to_owned());
        let path = socket_of(&address).ok_or(DbusError::Address(address))?;
        Self::bus(&path, timeout)
    }

    /// Connects to the bus of a socket.
    pub(super) fn bus(path: &str, timeout: Duration) -> Result<Self, DbusError> {
        let mut connection = Self::private(path, timeout)?;
        let interface = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        let arguments = Vec::new();
        connection.call(&Call { destination: interface, path, interface, member: "Hello", arguments })?;
        Ok(connection)
    }

    /// Connects to a program without a bus between.
    pub(super) fn private(path: &str, timeout: Duration) -> Result<Self, DbusError> {
        let deadline = Instant::now() + timeout;
        let stream = unix_socket::connect(path, timeout)?;
        let mut connection = Self { stream, deadline, serial: 0 };
        connection.authenticate()?;
        Ok(connection)
    }

    /// Says who we are; the kernel vouches for it.
    fn authenticate(&mut self) -> Result<(), DbusError> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let hex: String = user.bytes().map(|b| format!("{b:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 1024 {
                return Err(DbusError::Malformed("a line without an end"));
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(DbusError::Refused(String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        self.write(b"BEGIN\r\n")
    }

    /// Calls a method and gives its first value, an empty array if it has none.
    pub(super) fn call(&mut self, call: &Call<'_>) -> Result<Value, DbusError> {
        self.call_all(std::slice::from_ref(call))?.pop().unwrap_or(Err(DbusError::Malformed("no answer")))
    }

    /// Calls methods without waiting for one to end before the next, and gives what each answers. An error if the connection
    /// itself breaks.
    pub(super) fn call_all(&mut self, calls: &[Call<'_>]) -> Result<Vec<Result<Value, DbusError>>, DbusError> {
        let mut answers = Vec::with_capacity(calls.len());
        for calls in calls.chunks(IN_FLIGHT) {
            let first = self.serial + 1;
            let mut bytes = Vec::new();
            for call in calls {
                self.serial += 1;
                encode(&mut bytes, self.serial, call);
            }
            self.write(&bytes)?;
            let mut found: Vec<Option<Result<Value, DbusError>>> = calls.iter().map(|_| None).collect();
            let mut missing = calls.len();
            while missing > 0 {
                let message = self.receive()?;
                // signals, and answers to nothing, are passed over
                let at = message.reply_to.checked_sub(first).and_then(|at| found.get_mut(at as usize));
                if let (Some(slot @ None), METHOD_RETURN | ERROR) = (at, message.kind) {
                    *slot = Some(message.into_answer());
                    missing -= 1;
                }
            }
            answers.extend(found.into_iter().flatten());
        }
        Ok(answers)
    }

    fn receive(&mut self) -> Result<Message, DbusError> {
        let mut header = [0u8; HEADER];
        self.read(&mut header)?;
        let big = match header[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(DbusError::Malformed("neither little nor big endian")),
        };
        let word = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            (if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }) as usize
        };
        let (body, fields) = (word(4), word(12));
        if body > LONGEST || fields > LONGEST {
            return Err(DbusError::Malformed("it is too long"));
        }
        let fields_end = (HEADER + fields).next_multiple_of(8);
        let mut bytes = header.to_vec();
        bytes.resize(fields_end + body, 0);
        self.read(&mut bytes[HEADER..])?;
        Message::read(&bytes, fields_end, big)
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(Some(left)) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DbusError> {
        self.stream.set_write_timeout(self.left()?)?;
        Ok(self.stream.write_all(bytes).map_err(timed_out)?)
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), DbusError> {
        while !bytes.is_empty() {
            self.stream.set_read_timeout(self.left()?)?;
            match self.stream.read(bytes) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the bus closed the connection").into());
                }
                Ok(len) => bytes = &mut bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error).into()),
            }
        }
        Ok(())
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// The kernel says EAGAIN where a timeout ran out.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { late() } else { error }
}

/// The first Unix socket of an address such as `unix:path=/run/bus,guid=0;tcp:...`.
fn socket_of(address: &str) -> Option<String> {
    let decoded = |value: &str| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
    address.split(';').filter_map(|a| a.strip_prefix("unix:")).flat_map(|a| a.split(',')).find_map(|option| {
        let (key, value) = option.split_once('=')?;
        match key {
            "path" => Some(decoded(value)),
            "abstract" => Some(format!("@{}", decoded(value))),
            _ => None,
        }
    })
}

/// Appends a method call.
fn encode(out: &mut Vec<u8>, serial: u32, call: &Call<'_>) {
    let mut body = Writer::default();
    for argument in &call.arguments {
        body.text(argument);
    }
    let signature = "s".repeat(call.arguments.len());
    let texts = [
        (FIELD_PATH, "o", call.path),
        (FIELD_INTERFACE, "s", call.interface),
        (FIELD_MEMBER, "s", call.member),
        (FIELD_DESTINATION, "s", call.destination),
    ];
    let mut fields = Writer::default();
    for (field, kind, value) in texts {
        fields.align(8);
        fields.bytes.push(field);
        fields.signature(kind);
        fields.text(value);
    }
    if !signature.is_empty() {
        fields.align(8);
        fields.bytes.push(FIELD_SIGNATURE);
        fields.signature("g");
        fields.signature(&signature);
    }
    frame(out, METHOD_CALL, serial, fields, &body.bytes);
}

/// Appends a message.
fn frame(out: &mut Vec<u8>, kind: u8, serial: u32, mut fields: Writer, body: &[u8]) {
    out.extend([b'l', kind, 0, 1]);
    for number in [body.len() as u32, serial, fields.bytes.len() as u32] {
        out.extend(number.to_le_bytes());
    }
    fields.align(8);
    out.extend(fields.bytes);
    out.extend(body);
}

/// Writes values, little endian, each at a multiple of its own size from the beginning.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn text(&mut self, text: &str) {
        self.align(4);
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// At most 255 bytes.
    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }
}

/// A message that came.
struct Message {
    kind: u8,
    reply_to: u32,
    error_name: String,
    values: Vec<Value>,
}

impl Message {
    fn read(bytes: &[u8], fields_end: usize, big: bool) -> Result<Self, DbusError> {
        let mut message = Self { kind: bytes[1], reply_to: 0, error_name: String::new(), values: Vec::new() };
        let mut signature = String::new();
        let mut reader = Reader { bytes: &bytes[..fields_end], at: HEADER - 4, big };
        let Value::Array(fields) = reader.value(&mut "a(yv)".as_bytes(), 0)? else { return Ok(message) };
        for field in fields {
            match field.as_struct() {
                Some([Value::Unsigned(field), Value::Text(text)]) => match *field as u8 {
                    FIELD_ERROR_NAME => message.error_name.clone_from(text),
                    FIELD_SIGNATURE => signature.clone_from(text),
                    _ => {}
                },
                Some([Value::Unsigned(field), Value::Unsigned(number)]) if *field as u8 == FIELD_REPLY_SERIAL => {
                    message.reply_to = *number as u32;
                }
                _ => {}
            }
        }
        // only answers are looked into
        if message.kind == METHOD_RETURN || message.kind == ERROR {
            let mut reader = Reader { bytes: &bytes[fields_end..], at: 0, big };
            let mut types = signature.as_bytes();
            while !types.is_empty() {
                message.values.push(reader.value(&mut types, 0)?);
            }
        }
        Ok(message)
    }

    fn into_answer(self) -> Result<Value, DbusError> {
        let first = self.values.into_iter().next();
        if self.kind == ERROR {
            let text = first.as_ref().and_then(Value::as_text).unwrap_or("without a text").to_owned();
            return Err(DbusError::Failed { name: self.error_name, text });
        }
        Ok(first.unwrap_or(Value::Array(Vec::new())))
    }
}

/// Reads values, each at a multiple of its own size from the beginning.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

const CUT: DbusError = DbusError::Malformed("it is cut off");
const TYPE: DbusError = DbusError::Malformed("an unknown type");

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DbusError> {
        let end = self.at.checked_add(len).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    /// A number of that many bytes, at most eight.
    fn number(&mut self, size: usize) -> Result<u64, DbusError> {
        self.align(size);
        let mut bytes = [0u8; 8];
        let taken = self.take(size)?;
        bytes[..size].copy_from_slice(taken);
        if self.big {
            bytes[..size].reverse();
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self, size_of_length: usize) -> Result<String, DbusError> {
        let len = self.number(size_of_length)? as usize;
        let text = self.take(len)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// A value of the first type of a signature, which is taken off it.
    fn value(&mut self, types: &mut &[u8], depth: usize) -> Result<Value, DbusError> {
        if depth > DEEPEST {
            return Err(DbusError::Malformed("values are nested too deeply"));
        }
        let (kind, rest) = types.split_first().ok_or(TYPE)?;
        *types = rest;
        Ok(match kind {
            b'y' => Value::Unsigned(self.number(1)?),
            b'q' => Value::Unsigned(self.number(2)?),
            b'u' | b'h' => Value::Unsigned(self.number(4)?),
            b't' => Value::Unsigned(self.number(8)?),
            b'b' => Value::Bool(self.number(4)? != 0),
            b'n' => Value::Signed((self.number(2)? as u16).cast_signed().into()),
            b'i' => Value::Signed((self.number(4)? as u32).cast_signed().into()),
            b'x' => Value::Signed(self.number(8)?.cast_signed()),
            b'd' => Value::Double(f64::from_bits(self.number(8)?)),
            b's' | b'o' => Value::Text(self.text(4)?),
            b'g' => Value::Text(self.text(1)?),
            b'v' => {
                let signature = self.text(1)?;
                let mut types = signature.as_bytes();
                let value = self.value(&mut types, depth + 1)?;
                if !types.is_empty() {
                    return Err(TYPE);
                }
                value
            }
            b'(' | b'{' => {
                self.align(8);
                let mut values = Vec::new();
                while !matches!(types.first(), Some(b')' | b'}')) {
                    values.push(self.value(types, depth + 1)?);
                }
                *types = &types[1..];
                Value::Struct(values)
            }
            b'a' => {
                let len = self.number(4)? as usize;
                // there is a gap before the first one even where there is none
                self.align(match types.first() {
                    Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
                    _ => 1,
                });
                let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(CUT)?;
                let mut values = Vec::new();
                let element = *types;
                *types = &element[complete(element, depth)?..];
                while self.at < end {
                    let before = self.at;
                    values.push(self.value(&mut &element[..], depth + 1)?);
                    if self.at == before {
                        return Err(DbusError::Malformed("an array of nothing"));
                    }
                }
                Value::Array(values)
            }
            _ => return Err(TYPE),
        })
    }
}

/// The length of the first complete type of a signature.
fn complete(types: &[u8], depth: usize) -> Result<usize, DbusError> {
    if depth > DEEPEST {
        return Err(DbusError::Malformed("values are nested too deeply"));
    }
    match types.first().ok_or(TYPE)? {
        b'a' => Ok(1 + complete(&types[1..], depth + 1)?),
        b'(' | b'{' => {
            let mut at = 1;
            while !matches!(types.get(at).ok_or(TYPE)?, b')' | b'}') {
                at += complete(&types[at..], depth + 1)?;
            }
            Ok(at + 1)
        }
        b')' | b'}' => Err(TYPE),
        _ => Ok(1),
    }
}

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
