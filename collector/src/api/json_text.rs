//! Texts, times and numbers as the JSON of Prometheus' API has them, appended to an answer.

use model::{Timestamp, format_float_json};

/// A JSON string with the escapes of upstream's encoder.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    push_text_bytes(text.as_bytes(), out);
}

/// The same of the bytes of a text.
pub(super) fn push_text_bytes(text: &[u8], out: &mut Vec<u8>) {
    if has_escapes(text) {
        out.push(b'"');
        push_escaped(text, out);
        out.push(b'"');
    } else {
        push_plain(text, out);
    }
}

/// The same of texts that have nothing to escape.
pub(super) fn push_plain(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// These bytes are no part of another character.
#[inline]
fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Whether a byte of a text is escaped; eight are looked at at a time.
pub(super) fn has_escapes(text: &[u8]) -> bool {
    // long ones in strides that a compiler makes wide
    let (strides, rest) = text.as_chunks::<64>();
    if strides.iter().any(|stride| stride.iter().fold(false, |any, byte| any | is_escaped(*byte))) {
        return true;
    }
    let (words, tail) = rest.as_chunks::<8>();
    if words.iter().any(has_escapes_in_word) {
        return true;
    }
    match text.last_chunk::<8>() {
        // the last eight, some of which have been looked at
        Some(last) if !tail.is_empty() => has_escapes_in_word(last),
        _ => tail.iter().any(|byte| is_escaped(*byte)),
    }
}

/// Whether of the bytes that are escaped in a text there are so many quotes and no other.
pub(super) fn has_quotes_only(json: &[u8], quotes: usize) -> bool {
    let (mut escaped, mut quoted) = (0, 0);
    // counts of a stride fit a byte, which makes wide instructions of the loop
    for stride in json.chunks(128) {
        let (mut escaped_here, mut quoted_here) = (0u8, 0u8);
        for byte in stride {
            escaped_here += u8::from(is_escaped(*byte));
            quoted_here += u8::from(*byte == b'"');
        }
        escaped += usize::from(escaped_here);
        quoted += usize::from(quoted_here);
    }
    escaped == quotes && quoted == quotes
}

fn has_escapes_in_word(word: &[u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    // the high bit of each byte says whether it is below a limit, for bytes that are below 128
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES << 7);
    let word = u64::from_le_bytes(*word);
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, u64::from(b' ')) | equal(b'"') | equal(b'\\') != 0
}

fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Seconds with three digits of fraction where it is not zero.
pub(super) fn push_time(millis: Timestamp, out: &mut Vec<u8>) {
    if millis < 0 {
        out.push(b'-');
    }
    let magnitude = millis.unsigned_abs();
    HighDigits::default().push(magnitude / 1000, out);
    let fraction = magnitude % 1000;
    if fraction != 0 {
        out.push(b'.');
        out.push(b'0' + (fraction / 100) as u8);
        out.push(b'0' + (fraction / 10 % 10) as u8);
        out.push(b'0' + (fraction % 10) as u8);
    }
}

pub(super) fn push_value(value: f64, out: &mut Vec<u8>) {
    out.push(b'"');
    push_number(value, &mut NumberText::default(), out);
    out.push(b'"');
}

/// A number as [`format_float_json`] makes it, which is slow for most of the numbers there are.
#[inline]
pub(super) fn push_number(value: f64, text: &mut NumberText, out: &mut Vec<u8>) {
    // numbers that are whole and exact
    let whole = value as i64;
    if value.abs() < 9e15 && whole as f64 == value && (whole != 0 || value.is_sign_positive()) {
        if whole < 0 {
            out.push(b'-');
        }
        text.high.push(whole.unsigned_abs(), out);
    } else {
        out.extend_from_slice(text.of(value).as_bytes());
    }
}

/// What a number has above its last eight digits, in decimal: numbers of a series that follow each other mostly have it in common.
#[derive(Clone, Copy)]
struct HighDigits {
    high: u64,
    text: FirstDigits,
}

impl Default for HighDigits {
    fn default() -> Self {
        Self { high: 0, text: FirstDigits::new(0) }
    }
}

impl HighDigits {
    /// Appends a number below 10^16, made and written eight digits at a time. A library writes them elsewhere first; to copy them from there
    /// was measured to take as long as making them, since a processor waits for small writes that are read as a large one.
    #[inline]
    fn push(&mut self, number: u64, out: &mut Vec<u8>) {
        const EIGHT: u64 = 100_000_000;
        let high = number / EIGHT;
        if high == 0 {
            FirstDigits::new(number).push(out);
            return;
        }
        if high != self.high {
            *self = Self { high, text: FirstDigits::new(high) };
        }
        self.text.push(out);
        out.extend_from_slice(&eight_digits(number % EIGHT).to_le_bytes());
    }
}

/// The digits of a number below 10^8 without the zeros in front, but for the last digit.
#[derive(Clone, Copy)]
struct FirstDigits {
    /// The first in the lowest byte.
    digits: u64,
    len: u8,
}

impl FirstDigits {
    #[inline]
    fn new(number: u64) -> Self {
        let digits = eight_digits(number);
        let zeros = ((digits & !ZEROS).trailing_zeros() / 8).min(7);
        Self { digits: digits >> (8 * zeros), len: 8 - zeros as u8 }
    }

    #[inline]
    fn push(self, out: &mut Vec<u8>) {
        let end = out.len() + usize::from(self.len);
        out.extend_from_slice(&self.digits.to_le_bytes());
        out.truncate(end);
    }
}

/// Eight times `0`.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^8, the first in the lowest byte: halves are taken apart side by side, until each has one digit.
#[inline]
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | (number % 10_000) << 32;
    // division by multiplication, exact for numbers that are this small
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    ZEROS | tens | (twos - tens * 10) << 8
}

/// Where the texts of numbers are made that are not whole.
#[derive(Default)]
pub(super) struct NumberText {
    quick: zmij::Buffer,
    other: String,
    high: HighDigits,
}

impl NumberText {
    fn of(&mut self, value: f64) -> &str {
        if value.is_finite() {
            let text = self.quick.format_finite(value);
            // most numbers are far from those that have an exponent
            if (1e-4..1e15).contains(&value.abs()) || !text.contains('e') {
                return text.strip_suffix(".0").unwrap_or(text);
            }
        }
        self.other.clear();
        format_float_json(value, &mut self.other);
        &self.other
    }
}

/// What stands before the value of a point: `[time,"`.
pub(super) struct TimeText {
    /// The whole array is copied, which is faster than as much as is needed.
    bytes: [u8; 32],
    len: u8,
}

impl TimeText {
    pub(super) fn new(time: Timestamp, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.push(b'[');
        push_time(time, scratch);
        scratch.extend_from_slice(b",\"");
        // at most 16 digits of seconds, and 8 bytes around them
        let mut bytes = [0; 32];
        bytes[..scratch.len()].copy_from_slice(scratch);
        Self { bytes, len: scratch.len() as u8 }
    }

    #[inline]
    pub(super) fn push_to(&self, out: &mut Vec<u8>) {
        let len = out.len() + usize::from(self.len);
        out.extend_from_slice(&self.bytes);
        out.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_wherever_they_must_be() {
        let texts = (1..150).chain([20]).flat_map(|len| (0..len).map(move |at| (len, at)));
        for (len, at) in texts {
            let bytes = if len == 20 { 0..=127u8 } else { b'"'..=b'"' };
            for byte in bytes.chain([b'\\', b'\n', b' ', 0xc3]) {
                let mut text: Vec<u8> = b"0123456789abcdefghij".iter().copied().cycle().take(len).collect();
                text.splice(at..=at, if byte == 0xc3 { "é".bytes().collect::<Vec<_>>() } else { vec![byte] });
                let text = String::from_utf8(text).unwrap();
                let mut out = Vec::new();
                push_text(&text, &mut out);
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
                assert_eq!(has_escapes(text.as_bytes()), text.bytes().any(is_escaped), "{text:?}");
            }
        }
    }

    #[test]
    fn quotes_are_counted() {
        for len in 0..600 {
            let mut json = vec![b'a'; len];
            let quotes = json.iter_mut().step_by(3).map(|byte| *byte = b'"').count();
            assert!(has_quotes_only(&json, quotes) && !has_quotes_only(&json, quotes + 1));
            for other in [b'\n', b'\\', b'"'] {
                let json = [&json[..], &[other]].concat();
                assert!(!has_quotes_only(&json, quotes));
            }
            // of a text in place of one that stands around it
            if let Some(byte) = json.iter_mut().find(|byte| **byte == b'"') {
                *byte = b'\t';
                assert!(!has_quotes_only(&json, quotes));
            }
        }
    }

    /// The quick way gives the same digits; the real Prometheus gives these where two texts are equally short and near.
    #[test]
    fn numbers_are_those_of_the_slow_way() {
        for (number, expected) in [
            (1_658_206_780_088_562.0 + 0.25, "1658206780088562.2"),
            (1_658_206_780_088_563.0 + 0.25, "1658206780088563.2"),
            (662_936_471_232_937.0 + 0.25, "662936471232937.2"),
            (662_936_471_232_937.0 + 0.75, "662936471232937.8"),
            (8.0 + 1.0 / 65_536.0, "8.000015258789062"),
            (100_000_000_000_000.0 + 0.125, "100000000000000.12"),
        ] {
            let mut quick = Vec::new();
            push_number(number, &mut NumberText::default(), &mut quick);
            assert_eq!(quick, expected.as_bytes());
        }
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let mut numbers =
            vec![0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, 1e-6, 9e-7, 1e15, 9e15, 1e16, 1e20, 1e21, 123.456, 5e-324];
        numbers.extend([
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            9_007_199_254_740_993.0,
        ]);
        for n in 0..200_000u64 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            numbers.push(f64::from_bits(bits));
            // as they are measured: some digits, and sums of them
            numbers.push((bits % 10_000_000) as f64 / 10f64.powi((n % 9) as i32));
            numbers.push((bits % 100_000) as f64 * 0.1 + n as f64 / 3.0);
            numbers.push((bits >> 14) as f64 * 0.25);
            numbers.push((bits >> 16) as f64 * 0.125);
        }
        for number in numbers.into_iter().flat_map(|number| [number, -number]) {
            let (mut quick, mut slow) = (Vec::new(), String::new());
            push_number(number, &mut NumberText::default(), &mut quick);
            format_float_json(number, &mut slow);
            assert_eq!(quick, slow.as_bytes(), "{number:e}");
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let powers = (0..16).map(|n| 10u64.pow(n)).flat_map(|power| [power - 1, power, power + 1, power * 7 / 3]);
        // all there is of four digits, as the first and as the last ones
        let fours = (0..10_000).flat_map(|n| [n, 43_210_000 + n, n * 10_000 + 99, n * 1_000_000_000_000 + 100_000_000]);
        let mut high = HighDigits::default();
        for number in powers.chain(fours).chain([9_999_999_999_999_999]) {
            let mut out = b"x".to_vec();
            high.push(number, &mut out);
            assert_eq!(out, format!("x{number}").as_bytes());
        }
    }

    #[test]
    fn times_before_the_epoch_keep_their_sign() {
        let mut out = Vec::new();
        push_time(-1_500, &mut out);
        assert_eq!(out, b"-1.500");
        for time in [Timestamp::MIN, -1, 0, 1_435_781_451_781, Timestamp::MAX] {
            let (mut text, mut expected) = (Vec::new(), b"[".to_vec());
            TimeText::new(time, &mut Vec::new()).push_to(&mut text);
            push_time(time, &mut expected);
            assert_eq!(text, [&expected[..], b",\""].concat());
        }
    }
}
