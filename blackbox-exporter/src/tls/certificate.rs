//! What probes tell about X.509 certificates, read from their DER.

use std::fmt::Write as _;

/// The parts of a certificate that are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Seconds since 1970 from which it holds.
    pub(crate) not_before: i64,
    /// Seconds since 1970 until which it holds.
    pub(crate) not_after: i64,
    /// The subject's name, DER.
    pub(crate) subject: Vec<u8>,
    /// The issuer's name, DER.
    pub(crate) issuer: Vec<u8>,
    /// The serial number, without leading zeros.
    pub(crate) serial: Vec<u8>,
    /// The DNS names among its alternative names.
    pub(crate) dns_names: Vec<String>,
    /// The identifier of its key.
    pub(crate) subject_key: Option<Vec<u8>>,
    /// The identifier of the key that signed it.
    pub(crate) authority_key: Option<Vec<u8>>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;

/// A reader of DER values, one after another.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: (tag, content, the whole of it).
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let tag = *self.0.first()?;
        let first = usize::from(*self.0.get(1)?);
        let (len, start) = if first < 0x80 {
            (first, 2)
        } else {
            let count = first & 0x7f;
            if count == 0 || count > 4 {
                return None;
            }
            let bytes = self.0.get(2..2 + count)?;
            (bytes.iter().fold(0usize, |len, b| len << 8 | usize::from(*b)), 2 + count)
        };
        let end = start.checked_add(len)?;
        let (whole, rest) = (self.0.get(..end)?, self.0.get(end..)?);
        self.0 = rest;
        Some((tag, &whole[start..], whole))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(t, ..)| *t == tag).map(|(_, content, _)| content)
    }
}

impl Certificate {
    /// Reads a certificate; `None` if it is none.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Der(Der(der).expect(SEQUENCE)?);
        let mut fields = Der(outer.expect(SEQUENCE)?);
        let (mut tag, mut content, _) = fields.next()?;
        if tag == 0xa0 {
            (tag, content, _) = fields.next()?;
        }
        if tag != 0x02 {
            return None;
        }
        let zeros = content.iter().take_while(|b| **b == 0).count();
        let serial = content[zeros..].to_vec();
        fields.expect(SEQUENCE)?;
        let (_, _, issuer) = fields.next()?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let mut time = || validity.next().and_then(|(tag, content, _)| parse_time(tag, content));
        let (not_before, not_after) = (time()?, time()?);
        let (_, _, subject) = fields.next()?;
        let mut certificate = Self {
            not_before,
            not_after,
            subject: subject.to_vec(),
            issuer: issuer.to_vec(),
            serial,
            dns_names: Vec::new(),
            subject_key: None,
            authority_key: None,
        };
        while let Some((tag, content, _)) = fields.next() {
            if tag == 0xa3 {
                certificate.read_extensions(content);
            }
        }
        Some(certificate)
    }

    fn read_extensions(&mut self, content: &[u8]) {
        let Some(list) = Der(content).expect(SEQUENCE) else { return };
        let mut list = Der(list);
        while let Some((_, extension, _)) = list.next() {
            let mut extension = Der(extension);
            let Some(oid) = extension.expect(OID) else { continue };
            let Some((tag, mut content, _)) = extension.next() else { continue };
            if tag == 0x01 {
                let Some((_, value, _)) = extension.next() else { continue };
                content = value;
            }
            match oid {
                // subjectAltName
                [0x55, 0x1d, 0x11] => {
                    let mut names = Der(Der(content).expect(SEQUENCE).unwrap_or_default());
                    while let Some((tag, name, _)) = names.next() {
                        if tag == 0x82 {
                            self.dns_names.push(String::from_utf8_lossy(name).into_owned());
                        }
                    }
                }
                // subjectKeyIdentifier
                [0x55, 0x1d, 0x0e] => self.subject_key = Der(content).expect(OCTETS).map(<[u8]>::to_vec),
                // authorityKeyIdentifier
                [0x55, 0x1d, 0x23] => {
                    let mut parts = Der(Der(content).expect(SEQUENCE).unwrap_or_default());
                    while let Some((tag, value, _)) = parts.next() {
                        if tag == 0x80 {
                            self.authority_key = Some(value.to_vec());
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the subject says that it issued itself.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether another certificate may have issued this one.
    pub(crate) fn may_be_issued_by(&self, other: &Self) -> bool {
        let keys_differ = matches!((&self.authority_key, &other.subject_key), (Some(a), Some(b)) if a != b);
        self.issuer == other.subject && !keys_differ
    }

    /// Whether it holds at a time.
    pub(crate) fn holds_at(&self, seconds: i64) -> bool {
        (self.not_before..=self.not_after).contains(&seconds)
    }
}

/// Seconds since 1970 of a UTCTime or GeneralizedTime.
fn parse_time(tag: u8, content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        0x17 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        0x18 => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let number = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (number(0)?, number(2)?, number(4)?, number(6)?, number(8)?);
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar.
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The attributes that Go names, in the order in which it writes them.
const KNOWN: [(u8, &str); 9] = [
    (5, "SERIALNUMBER"),
    (3, "CN"),
    (17, "POSTALCODE"),
    (9, "STREET"),
    (8, "ST"),
    (7, "L"),
    (11, "OU"),
    (10, "O"),
    (6, "C"),
];

/// A distinguished name as Go's `pkix.Name` writes it: known attributes in a fixed order, values of one attribute joined by `+`,
/// unknown ones last with their number and the hexadecimal DER of their value.
pub(crate) fn name_text(der: &[u8]) -> String {
    let mut known: [Vec<String>; 9] = Default::default();
    let mut unknown = Vec::new();
    let mut names = Der(Der(der).expect(SEQUENCE).unwrap_or_default());
    while let Some(set) = names.expect(SET) {
        let mut set = Der(set);
        while let Some(pair) = set.expect(SEQUENCE) {
            let mut pair = Der(pair);
            let (Some(oid), Some((tag, value, _))) = (pair.expect(OID), pair.next()) else { continue };
            let text = string_value(tag, value);
            let at = match oid {
                [0x55, 0x04, number] => KNOWN.iter().position(|(n, _)| n == number),
                _ => None,
            };
            match at {
                // only the last common name and serial number count
                Some(at @ (0 | 1)) => known[at] = vec![text],
                Some(at) => known[at].push(text),
                None => {
                    let printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
                    let mut der = vec![if printable { 0x13 } else { 0x0c }];
                    push_length(text.len(), &mut der);
                    der.extend_from_slice(text.as_bytes());
                    unknown.push(format!("{}=#{}", oid_text(oid), hex(&der)));
                }
            }
        }
    }
    let mut parts: Vec<String> = Vec::new();
    for ((_, name), values) in KNOWN.iter().zip(&known) {
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|v| format!("{name}={}", escaped(v))).collect();
            parts.push(values.join("+"));
        }
    }
    parts.extend(unknown.into_iter().rev());
    parts.join(",")
}

fn push_length(len: usize, out: &mut Vec<u8>) {
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(0);
        out.push(0x80 | (bytes.len() - from) as u8);
        out.extend_from_slice(&bytes[from..]);
    }
}

fn string_value(tag: u8, value: &[u8]) -> String {
    match tag {
        // BMPString
        0x1e => {
            let units = value.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        // T61String
        0x14 => value.iter().map(|b| char::from(*b)).collect(),
        _ => String::from_utf8_lossy(value).into_owned(),
    }
}

fn oid_text(oid: &[u8]) -> String {
    let mut out = String::new();
    let mut number = 0u64;
    for byte in oid {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if out.is_empty() {
                let first = (number / 40).min(2);
                let _ = write!(out, "{first}.{}", number - first * 40);
            } else {
                let _ = write!(out, ".{number}");
            }
            number = 0;
        }
    }
    out
}

/// RFC 2253's escapes.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let escape = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if escape {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn made() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Fire, Watch");
        params.distinguished_name.push(DnType::CommonName, "a.example");
        params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        params.serial_number = Some(vec![0x01, 0xab, 0x00].into());
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_parts_of_a_certificate() {
        let certificate = Certificate::parse(&made()).unwrap();
        assert_eq!(name_text(&certificate.subject), "CN=a.example,O=Fire\\, Watch,C=DE");
        assert_eq!(certificate.dns_names, ["a.example", "*.b.example"]);
        assert_eq!(hex(&certificate.serial), "01ab00");
        // 2020-02-29 and 2051-12-31: one in each of the two forms of time
        assert_eq!((certificate.not_before, certificate.not_after), (1_582_934_400, 2_587_593_600));
        assert!(certificate.is_self_issued() && certificate.may_be_issued_by(&certificate.clone()));
    }

    #[test]
    fn no_cut_or_flipped_certificate_panics() {
        let der = made();
        for end in 0..der.len() {
            let _ = Certificate::parse(&der[..end]);
        }
        for at in 0..der.len() {
            let mut broken = der.clone();
            broken[at] ^= 0xff;
            if let Some(certificate) = Certificate::parse(&broken) {
                let _ = name_text(&certificate.subject);
            }
        }
    }

    #[test]
    fn unknown_attributes_come_last_in_hexadecimal() {
        // {2.5.4.3: "x"} and {0.9.2342.19200300.100.1.25: "org"}
        let dc = [0x06, 0x0a, 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19];
        let der = [
            &[0x30, 0x24][..],
            &[0x31, 0x14, 0x30, 0x12][..],
            &dc,
            &[0x16, 0x04, b'o', b'r', b'g', b' '],
            &[0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x03, b'#', b'x', b' '],
        ]
        .concat();
        assert_eq!(name_text(&der), "CN=\\#x\\ ,0.9.2342.19200300.100.1.25=#13046f726720");
    }
}
