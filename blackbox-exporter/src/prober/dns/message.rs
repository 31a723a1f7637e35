//! DNS messages: a query is written, an answer is read into records in the text form that expressions are held against. That form
//! is the one of the Go library that blackbox_exporter uses, tabs included, so that its expressions go on matching; this is why
//! records are read here and not by a library with a form of its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::names::{class_name, type_name};
use super::rdata::rdata_text;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) id: u16,
    pub(crate) name: &'a str,
    pub(crate) record_type: u16,
    pub(crate) class: u16,
    pub(crate) recursion_desired: bool,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) is_response: bool,
    /// The response code, with the upper bits of EDNS.
    pub(crate) rcode: u16,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// `name TTL class type data`, separated by tabs.
    pub(crate) text: String,
    /// The serial number, of SOA records.
    pub(crate) serial: Option<u32>,
}

/// Why a message cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// It ends too early.
    #[error("dns: overflow unpacking message")]
    Cut,
    /// A compressed name leads nowhere.
    #[error("dns: too many or wrong compression pointers")]
    Pointer,
    /// A name is too long.
    #[error("dns: name exceeded the limit of 255 octets")]
    NameLength,
    /// A name has an impossible label.
    #[error("dns: bad label")]
    Label,
}

const OPT: u16 = 41;
const SOA: u16 = 6;
/// Octets of a name on the wire.
const MAX_NAME: usize = 255;
/// Pointers followed within one name.
const MAX_POINTERS: usize = 126;

impl Question<'_> {
    /// The query on the wire.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&self.id.to_be_bytes());
        let flags = u16::from(self.recursion_desired) << 8;
        for number in [flags, 1, 0, 0, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        encode_name(self.name, &mut out)?;
        out.extend_from_slice(&self.record_type.to_be_bytes());
        out.extend_from_slice(&self.class.to_be_bytes());
        Ok(out)
    }
}

/// Writes a name. `\.` and `\123` stand for the characters they mean elsewhere.
fn encode_name(name: &str, out: &mut Vec<u8>) -> Result<(), MessageError> {
    let start = out.len();
    let mut label: Vec<u8> = Vec::new();
    let mut bytes = name.trim_end_matches('.').bytes().peekable();
    let finish = |label: &mut Vec<u8>, out: &mut Vec<u8>| {
        if label.is_empty() || label.len() > 63 {
            return Err(MessageError::Label);
        }
        out.push(label.len() as u8);
        out.append(label);
        Ok(())
    };
    let empty = bytes.peek().is_none();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => finish(&mut label, out)?,
            b'\\' => {
                let first = bytes.next().ok_or(MessageError::Label)?;
                if first.is_ascii_digit() {
                    let digits = [first, bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                    let text = std::str::from_utf8(&digits).map_err(|_| MessageError::Label)?;
                    label.push(text.parse().map_err(|_| MessageError::Label)?);
                } else {
                    label.push(first);
                }
            }
            byte => label.push(byte),
        }
    }
    if !empty {
        finish(&mut label, out)?;
    }
    out.push(0);
    if out.len() - start > MAX_NAME { Err(MessageError::NameLength) } else { Ok(()) }
}

/// A place in a message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0, end: message.len() }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.end).ok_or(MessageError::Cut)?;
        let bytes = &self.message[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let bytes = &self.message[self.at..self.end];
        self.at = self.end;
        bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    pub(super) fn byte(&mut self) -> Result<u8, MessageError> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A part of what follows as a reader of its own.
    fn part(&mut self, count: usize) -> Result<Self, MessageError> {
        let start = self.at;
        self.bytes(count)?;
        Ok(Self { message: self.message, at: start, end: self.at })
    }

    /// A name in text form. Pointers may lead backwards only, and not on for ever.
    pub(super) fn name(&mut self) -> Result<String, MessageError> {
        let mut text = String::new();
        let (mut at, mut end) = (self.at, self.end);
        let mut after = None;
        let (mut pointers, mut octets) = (0, 1);
        loop {
            let len = usize::from(*self.message.get(at).filter(|_| at < end).ok_or(MessageError::Cut)?);
            match len {
                0 => {
                    at += 1;
                    break;
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + len).filter(|_| at + 1 + len <= end);
                    push_label(label.ok_or(MessageError::Cut)?, &mut text);
                    octets += len + 1;
                    if octets > MAX_NAME {
                        return Err(MessageError::NameLength);
                    }
                    at += 1 + len;
                }
                0xc0..=0xff => {
                    let low = *self.message.get(at + 1).filter(|_| at + 1 < end).ok_or(MessageError::Cut)?;
                    let target = (len & 0x3f) << 8 | usize::from(low);
                    pointers += 1;
                    if pointers > MAX_POINTERS || target >= at {
                        return Err(MessageError::Pointer);
                    }
                    after.get_or_insert(at + 2);
                    (at, end) = (target, self.message.len());
                }
                _ => return Err(MessageError::Label),
            }
        }
        self.at = after.unwrap_or(at);
        if text.is_empty() {
            text.push('.');
        }
        Ok(text)
    }
}

fn push_label(label: &[u8], out: &mut String) {
    for byte in label {
        match byte {
            b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x21..=0x7e => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\{byte:03}");
            }
        }
    }
    out.push('.');
}

impl Message {
    /// Reads a message.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let mut message = Self { id, is_response: flags & 0x8000 != 0, rcode: flags & 0xf, ..Self::default() };
        for _ in 0..counts[0] {
            reader.name()?;
            reader.u32()?;
        }
        for (section, count) in counts[1..].iter().enumerate() {
            for _ in 0..*count {
                // a server may promise more records than it sends
                if reader.is_empty() {
                    break;
                }
                let (record, rcode) = read_record(&mut reader)?;
                message.rcode |= rcode;
                match section {
                    0 => message.answers.push(record),
                    1 => message.authorities.push(record),
                    _ => message.additionals.push(record),
                }
            }
        }
        Ok(message)
    }
}

/// Reads a record, and the upper bits of the response code if it is EDNS.
fn read_record(reader: &mut Reader<'_>) -> Result<(Record, u16), MessageError> {
    let name = reader.name()?;
    let (record_type, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
    let len = usize::from(reader.u16()?);
    let mut data = reader.part(len)?;
    if record_type == OPT {
        let version = ttl >> 16 & 0xff;
        let flags = if ttl & 0x8000 == 0 { "" } else { " do" };
        let text = format!("\n;; OPT PSEUDOSECTION:\n; EDNS: version {version}; flags:{flags}; udp: {class}");
        return Ok((Record { text, serial: None }, (ttl >> 24 << 4) as u16));
    }
    let mut serial = None;
    if record_type == SOA && !data.is_empty() {
        let mut copy = data.clone();
        copy.name()?;
        copy.name()?;
        serial = Some(copy.u32()?);
    }
    let text = rdata_text(record_type, &mut data)?;
    let text = format!("{name}\t{ttl}\t{}\t{}\t{text}", class_name(class), type_name(record_type));
    Ok((Record { text, serial }, 0))
}

pub(super) fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

pub(super) fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from)
}

pub(super) fn base64_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
