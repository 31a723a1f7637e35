//! DNS messages: a question is written, the answers that targets are made of are read (RFC 1035, 2782, 3596, 6891).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const MX: u16 = 15;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
const OPT: u16 = 41;
const INTERNET: u16 = 1;
/// Octets of a datagram that we take: fits a usual frame.
const UDP_SIZE: u16 = 4096;
/// Octets of a name on the wire.
const MAX_NAME: usize = 255;
/// Pointers followed within one name.
const MAX_POINTERS: usize = 126;

pub(super) const SUCCESS: u8 = 0;
pub(super) const NO_SUCH_NAME: u8 = 3;

/// What is read of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) is_response: bool,
    pub(super) truncated: bool,
    /// The response code without the upper bits of EDNS, which belong to faults only.
    pub(super) rcode: u8,
    pub(super) answers: Vec<Record>,
}

/// A record of the answer section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) data: Data,
}

/// The data of a record. Names end in a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Mx(String),
    Ns(String),
    Srv { host: String, port: u16 },
    Other,
}

/// Writes a question. With `edns` it says how long an answer may be.
pub(super) fn encode(id: u16, name: &str, record_type: u16, edns: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&id.to_be_bytes());
    const RECURSION_DESIRED: u16 = 1 << 8;
    for number in [RECURSION_DESIRED, 1, 0, 0, u16::from(edns)] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let start = out.len();
    for label in name.trim_end_matches('.').split('.').filter(|_| !name.trim_end_matches('.').is_empty()) {
        if label.is_empty() || label.len() > 63 {
            return Err(format!("{} is not a domain name", model::quote(name)));
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() - start > MAX_NAME {
        return Err(format!("the domain name {} is too long", model::quote(name)));
    }
    for number in [record_type, INTERNET] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if edns {
        out.push(0);
        for number in [OPT, UDP_SIZE, 0, 0, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    Ok(out)
}

/// Reads an answer.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, String> {
    let mut reader = Reader { bytes, at: 0 };
    let id = reader.number()?;
    let flags = reader.number()?;
    let (questions, answers) = (reader.number()?, reader.number()?);
    reader.take(4)?;
    for _ in 0..questions {
        reader.name()?;
        reader.take(4)?;
    }
    let mut message = Message {
        id,
        is_response: flags & 0x8000 != 0,
        truncated: flags & 0x0200 != 0,
        rcode: (flags & 0xf) as u8,
        answers: Vec::new(),
    };
    // what was cut off is asked for again over TCP
    if message.truncated {
        return Ok(message);
    }
    for _ in 0..answers {
        message.answers.push(Record { data: reader.record()? });
    }
    Ok(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| "the answer ends too early".to_owned())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn record(&mut self) -> Result<Data, String> {
        self.name()?;
        let record_type = self.number()?;
        let class = self.number()?;
        self.take(4)?;
        let length = usize::from(self.number()?);
        let begin = self.at;
        let end = begin.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| "a record ends too early".to_owned())?;
        let data = match (class, record_type, length) {
            (INTERNET, A, 4) => {
                let octets: [u8; 4] = self.take(4)?.try_into().map_err(|_| "an address is too short")?;
                Data::Address(IpAddr::V4(Ipv4Addr::from(octets)))
            }
            (INTERNET, AAAA, 16) => {
                let octets: [u8; 16] = self.take(16)?.try_into().map_err(|_| "an address is too short")?;
                Data::Address(IpAddr::V6(Ipv6Addr::from(octets)))
            }
            (INTERNET, NS, _) => Data::Ns(self.name()?),
            (INTERNET, MX, _) => {
                self.take(2)?;
                Data::Mx(self.name()?)
            }
            (INTERNET, SRV, _) => {
                self.take(4)?;
                let port = self.number()?;
                Data::Srv { port, host: self.name()? }
            }
            _ => Data::Other,
        };
        if self.at > end {
            return Err("a record is longer than it says".to_owned());
        }
        self.at = end;
        Ok(data)
    }

    /// A name, pointers followed, with a dot at its end. Octets that stand for themselves nowhere are escaped as in zone files.
    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut octets = 0;
        let (mut place, mut pointers) = (self.at, 0);
        let byte = |at: usize| self.bytes.get(at).copied().ok_or_else(|| "a name ends too early".to_owned());
        loop {
            let length = byte(place)?;
            match length >> 6 {
                0 if length == 0 => {
                    if pointers == 0 {
                        self.at = place + 1;
                    }
                    break;
                }
                0 => {
                    octets += usize::from(length) + 1;
                    if octets > MAX_NAME {
                        return Err("a name is too long".to_owned());
                    }
                    for at in place + 1..=place + usize::from(length) {
                        match byte(at)? {
                            c @ (b'.' | b'\\') => name.extend(['\\', char::from(c)]),
                            c @ 0x21..=0x7e => name.push(char::from(c)),
                            c => {
                                let _ = write!(name, "\\{c:03}");
                            }
                        }
                    }
                    name.push('.');
                    place += 1 + usize::from(length);
                }
                3 => {
                    let target = usize::from(length & 0x3f) << 8 | usize::from(byte(place + 1)?);
                    if pointers == 0 {
                        self.at = place + 2;
                    }
                    pointers += 1;
                    if pointers > MAX_POINTERS {
                        return Err("a name leads in circles".to_owned());
                    }
                    place = target;
                }
                _ => return Err("a name has an impossible label".to_owned()),
            }
        }
        if name.is_empty() {
            name.push('.');
        }
        Ok(name)
    }
}
