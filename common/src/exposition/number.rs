//! Sample values as bytes: the two hottest small functions of a scrape, each with a fast path for what pages hold.

use model::NORMAL_NAN;

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Integers up to here have an exact double.
const EXACT: u64 = 1 << 53;

/// Parses a value as the Prometheus parsers do: Go's `strconv.ParseFloat` without hexadecimal floats and digit separators. A
/// number too large for a double is refused, every NaN becomes the normal one.
#[inline]
pub fn parse_value(text: &[u8]) -> Option<f64> {
    match parse_exact(text) {
        Some(value) => Some(value),
        None => parse_any(text),
    }
}

/// Decimal numbers whose mantissa and power of ten are exact doubles, so that one operation rounds correctly.
#[inline]
fn parse_exact(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    // Nineteen digits cannot overflow, with the point at most twenty bytes.
    let (mut mantissa, mut at, mut fraction) = (0u64, 0usize, 0i32);
    while let Some(digit) = digits.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        if at == 19 {
            return None;
        }
        mantissa = mantissa * 10 + u64::from(digit);
        at += 1;
    }
    let mut seen = at;
    if digits.get(at) == Some(&b'.') {
        at += 1;
        while let Some(digit) = digits.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            if seen == 19 {
                return None;
            }
            mantissa = mantissa * 10 + u64::from(digit);
            (at, seen, fraction) = (at + 1, seen + 1, fraction + 1);
        }
    }
    if seen == 0 || mantissa > EXACT {
        return None;
    }
    let mut exponent = -fraction;
    if let Some(b'e' | b'E') = digits.get(at) {
        at += 1;
        let minus = match digits.get(at)? {
            b'-' => {
                at += 1;
                true
            }
            b'+' => {
                at += 1;
                false
            }
            _ => false,
        };
        let start = at;
        let mut given = 0i32;
        while let Some(digit) = digits.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            if at - start == 3 {
                return None;
            }
            given = given * 10 + i32::from(digit);
            at += 1;
        }
        if at == start {
            return None;
        }
        exponent += if minus { -given } else { given };
    }
    if at != digits.len() {
        return None;
    }
    let magnitude = match exponent {
        0 => mantissa as f64,
        1..=22 => mantissa as f64 * POWERS_OF_TEN[exponent as usize],
        -22..=-1 => mantissa as f64 / POWERS_OF_TEN[-exponent as usize],
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cold]
fn parse_any(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    if value.is_nan() {
        // Go knows no signed NaN
        return text.starts_with(['n', 'N']).then_some(NORMAL_NAN);
    }
    let named = || text.bytes().any(|b| matches!(b, b'i' | b'I'));
    (value.is_finite() || named()).then_some(value)
}

/// Appends a value as Go's `strconv.FormatFloat(value, 'g', -1, 64)`, as the text format shows it.
#[inline]
pub fn push_value(value: f64, out: &mut String) {
    let magnitude = value.abs();
    if value.fract() == 0.0 && magnitude < EXACT as f64 && (value != 0.0 || value.is_sign_positive()) {
        let mut buffer = itoa::Buffer::new();
        if magnitude < 1e6 {
            out.push_str(buffer.format(value as i64));
            return;
        }
        if value < 0.0 {
            out.push('-');
        }
        let digits = buffer.format(magnitude as u64);
        let exponent = digits.len() - 1;
        let digits = digits.trim_end_matches('0');
        out.push_str(&digits[..1]);
        if digits.len() > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        out.push_str("e+");
        if exponent < 10 {
            out.push('0');
        }
        out.push_str(itoa::Buffer::new().format(exponent));
    } else {
        model::format_float(value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "", "-", "+", ".", "e5", "1e", "1e+", "0x1p-3", "1_2", "1e999", "-nan", "+NaN", "1 ", "true", "1.2.3",
            "infi",
        ] {
            assert_eq!(parse_value(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_value(b"\xff"), None);
    }

    #[test]
    fn accepts_what_go_accepts() {
        for (text, value) in [
            ("1.", 1.0),
            (".5", 0.5),
            ("+1", 1.0),
            ("-0", -0.0),
            ("1e5", 1e5),
            ("1E-5", 1e-5),
            ("1.234567e+09", 1.234567e9),
            ("123456789012345678901234567890", 123456789012345678901234567890.0),
            ("9007199254740993", 9007199254740993.0),
            ("5e-324", 5e-324),
            ("1e-999", 0.0),
            ("+Inf", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_value(text.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{text:?}");
        }
        assert_eq!(parse_value(b"NaN").map(f64::to_bits), Some(NORMAL_NAN.to_bits()));
    }

    proptest::proptest! {
        #[test]
        fn values_agree_with_the_standard_library(mantissa: i64, point in 0usize..20, exponent in -40i32..40) {
            let mut text = mantissa.to_string();
            let digits = text.trim_start_matches('-').len();
            if point < digits {
                text.insert(text.len() - point, '.');
            }
            for text in [text.clone(), format!("{text}e{exponent}"), format!("{text}E+{:02}", exponent.abs())] {
                let expected: f64 = text.parse().unwrap();
                proptest::prop_assert_eq!(parse_value(text.as_bytes()).map(f64::to_bits), Some(expected.to_bits()), "{}", text);
            }
        }

        #[test]
        fn values_are_written_as_the_model_writes_them(bits: u64, small in -10_000_000_000i64..10_000_000_000) {
            for value in [f64::from_bits(bits), small as f64, small as f64 * 1000.0, small as f64 / 8.0, -0.0] {
                let (mut fast, mut reference) = (String::new(), String::new());
                push_value(value, &mut fast);
                model::format_float(value, &mut reference);
                proptest::prop_assert_eq!(&fast, &reference);
                if !value.is_nan() {
                    proptest::prop_assert_eq!(parse_value(fast.as_bytes()).map(f64::to_bits), Some(value.to_bits()));
                }
            }
        }
    }
}
