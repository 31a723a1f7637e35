//! The data of records in text form.

use std::fmt::Write as _;

use super::message::{MessageError, Reader, base64_text, ipv4, ipv6};
use super::names::type_name;
use crate::tls::days_since_1970;

/// The data of a record as it is written in zone files. Types that are not known here are written as RFC 3597 has it.
pub(super) fn rdata_text(record_type: u16, data: &mut Reader<'_>) -> Result<String, MessageError> {
    if data.is_empty() {
        return Ok(String::new());
    }
    Ok(match record_type {
        1 => data_address(data.rest(), |b| ipv4(b).map(|a| a.to_string()))?,
        28 => data_address(data.rest(), |b| ipv6(b).map(|a| a.to_string()))?,
        // names
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 23 | 39 => data.name()?,
        // a number and a name: MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => format!("{} {}", data.u16()?, data.name()?),
        // two names: MINFO, RP, TALINK
        14 | 17 | 58 => format!("{} {}", data.name()?, data.name()?),
        6 => {
            let (ns, mailbox) = (data.name()?, data.name()?);
            let numbers = [data.u32()?, data.u32()?, data.u32()?, data.u32()?, data.u32()?];
            format!("{ns} {mailbox} {}", numbers.map(|n| n.to_string()).join(" "))
        }
        // strings: HINFO, TXT, SPF, NINFO, AVC, RESINFO
        13 | 16 | 56 | 99 | 258 | 261 => {
            let mut parts = Vec::new();
            while !data.is_empty() {
                parts.push(string(data)?);
            }
            parts.join(" ")
        }
        33 => format!("{} {} {} {}", data.u16()?, data.u16()?, data.u16()?, data.name()?),
        35 => {
            let (order, preference) = (data.u16()?, data.u16()?);
            format!("{order} {preference} {} {} {} {}", string(data)?, string(data)?, string(data)?, data.name()?)
        }
        // DS, DLV, CDS, TA
        43 | 59 | 32768 | 32769 => {
            format!("{} {} {} {}", data.u16()?, data.byte()?, data.byte()?, hex(data.rest()).to_uppercase())
        }
        44 => format!("{} {} {}", data.byte()?, data.byte()?, hex(data.rest()).to_uppercase()),
        // DNSKEY, KEY, CDNSKEY
        25 | 48 | 60 => format!("{} {} {} {}", data.u16()?, data.byte()?, data.byte()?, base64_text(data.rest())),
        // RRSIG, SIG
        24 | 46 => {
            let covered = type_name(data.u16()?);
            let (algorithm, labels, ttl) = (data.byte()?, data.byte()?, data.u32()?);
            let (expires, begins, tag) = (timestamp(data.u32()?), timestamp(data.u32()?), data.u16()?);
            let (signer, signature) = (data.name()?, base64_text(data.rest()));
            format!("{covered} {algorithm} {labels} {ttl} {expires} {begins} {tag} {signer} {signature}")
        }
        47 => format!("{}{}", data.name()?, type_bitmap(data)?),
        // TLSA, SMIMEA
        52 | 53 => format!("{} {} {} {}", data.byte()?, data.byte()?, data.byte()?, hex(data.rest())),
        61 => base64_text(data.rest()),
        64 | 65 => service(data)?,
        256 => format!("{} {} {}", data.u16()?, data.u16()?, quoted(data.rest())),
        257 => {
            let (flag, len) = (data.byte()?, usize::from(data.byte()?));
            let tag = String::from_utf8_lossy(data.bytes(len)?).into_owned();
            format!("{flag} {tag} {}", quoted(data.rest()))
        }
        _ => {
            let bytes = data.rest();
            format!("\\# {} {}", bytes.len(), hex(bytes))
        }
    })
}

fn data_address(bytes: &[u8], parse: impl Fn(&[u8]) -> Option<String>) -> Result<String, MessageError> {
    parse(bytes).ok_or(MessageError::Cut)
}

/// A string of at most 255 bytes, in quotes.
fn string(data: &mut Reader<'_>) -> Result<String, MessageError> {
    let len = usize::from(data.byte()?);
    Ok(quoted(data.bytes(len)?))
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\{byte:03}");
            }
        }
    }
    out.push('"');
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `YYYYMMDDHHMMSS`.
fn timestamp(seconds: u32) -> String {
    let (days, of_day) = (i64::from(seconds / 86_400), seconds % 86_400);
    // the year is found by trying: dates of 32 bits end in 2106
    let year = (1970..2107).rev().find(|year| days_since_1970(*year, 1, 1) <= days).unwrap_or(1970);
    let month = (1..=12).rev().find(|month| days_since_1970(year, *month, 1) <= days).unwrap_or(1);
    let day = days - days_since_1970(year, month, 1) + 1;
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The types of an NSEC record, each after a blank.
fn type_bitmap(data: &mut Reader<'_>) -> Result<String, MessageError> {
    let mut out = String::new();
    while !data.is_empty() {
        let (window, len) = (u16::from(data.byte()?), usize::from(data.byte()?));
        for (at, byte) in data.bytes(len)?.iter().enumerate() {
            for bit in 0..8u16 {
                if byte & (0x80 >> bit) != 0 {
                    let _ = write!(out, " {}", type_name(window << 8 | (at as u16 * 8 + bit)));
                }
            }
        }
    }
    Ok(out)
}

/// SVCB and HTTPS.
fn service(data: &mut Reader<'_>) -> Result<String, MessageError> {
    let mut out = format!("{} {}", data.u16()?, data.name()?);
    while !data.is_empty() {
        let (key, len) = (data.u16()?, usize::from(data.u16()?));
        let value = data.bytes(len)?;
        let list = |size: usize, show: &dyn Fn(&[u8]) -> Option<String>| -> String {
            value.chunks(size).filter_map(show).collect::<Vec<_>>().join(",")
        };
        let (name, text) = match key {
            1 => {
                let (mut names, mut rest) = (Vec::new(), value);
                while let Some((len, after)) = rest.split_first() {
                    let (name, after) = after.split_at_checked(usize::from(*len)).ok_or(MessageError::Cut)?;
                    names.push(String::from_utf8_lossy(name).into_owned());
                    rest = after;
                }
                ("alpn".to_owned(), names.join(","))
            }
            2 => ("no-default-alpn".to_owned(), String::new()),
            3 => ("port".to_owned(), list(2, &|b| Some(u16::from_be_bytes(b.try_into().ok()?).to_string()))),
            4 => ("ipv4hint".to_owned(), list(4, &|b| ipv4(b).map(|a| a.to_string()))),
            5 => ("ech".to_owned(), base64_text(value)),
            6 => ("ipv6hint".to_owned(), list(16, &|b| ipv6(b).map(|a| a.to_string()))),
            key => (format!("key{key}"), quoted(value).trim_matches('"').to_owned()),
        };
        let _ = write!(out, " {name}=\"{text}\"");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_signatures() {
        assert_eq!(timestamp(0), "19700101000000");
        assert_eq!(timestamp(1_709_210_096), "20240229123456");
        assert_eq!(timestamp(u32::MAX), "21060207062815");
    }
}
