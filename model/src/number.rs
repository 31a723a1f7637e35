//! Go's float formats, which the ecosystem's pages and APIs show.

use std::fmt::Write;

/// Parses a float as Go's `strconv.ParseFloat` does for decimal text: also `Inf`, `+Inf`, `-inf`, `Infinity`, `NaN` in any case.
/// Hexadecimal floats and digit separators are not accepted (Prometheus' exposition formats refuse them too).
pub fn parse_float(text: &str) -> Option<f64> {
    match text.as_bytes() {
        // by far the most common values on a page
        [d @ b'0'..=b'9'] => Some(f64::from(d - b'0')),
        _ => {
            let value: f64 = text.parse().ok()?;
            Some(if value.is_nan() { crate::NORMAL_NAN } else { value })
        }
    }
}

/// Shortest decimal digits of a finite, positive value: (digits, decimal point position), value = 0.DIGITS * 10^point. Of two texts
/// that are equally short and near it is the even one, as in Go; the standard library takes the larger one.
fn shortest_digits(value: f64, digits: &mut String) -> i32 {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().expect("an integer exponent");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits.push_str(whole);
    digits.push_str(fraction);
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    digits.drain(..zeros);
    digits.truncate(digits.trim_end_matches('0').len());
    whole.len() as i32 - zeros as i32 + exponent
}

fn special(value: f64, out: &mut String) -> bool {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
    } else {
        return false;
    }
    true
}

fn push_exponent(digits: &str, point: i32, out: &mut String) {
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        out.push('.');
        out.push_str(&digits[1..]);
    }
    let exponent = point - 1;
    let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
}

fn push_fixed(digits: &str, point: i32, out: &mut String) {
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.push_str(digits);
    } else if let Some((whole, fraction)) = digits.split_at_checked(point as usize)
        && !fraction.is_empty()
    {
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    } else {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', point as usize - digits.len()));
    }
}

/// Appends `value` as Go's `strconv.FormatFloat(value, 'g', -1, 64)` and the `fmt` verb `%v`: the form of exposition pages,
/// label values and templates. Exponents below -4 and from 6 on use the exponent form (`1e+06`, `1e-05`).
pub fn format_float(value: f64, out: &mut String) {
    if special(value, out) {
        return;
    }
    if value.abs() < 1e6 && value.fract() == 0.0 {
        out.push_str(itoa::Buffer::new().format(value as i64));
        return;
    }
    if value < 0.0 {
        out.push('-');
    }
    let mut digits = String::new();
    let point = shortest_digits(value.abs(), &mut digits);
    if point - 1 < -4 || point > 6 {
        push_exponent(&digits, point, out);
    } else {
        push_fixed(&digits, point, out);
    }
}

/// Appends `value` as Prometheus' HTTP API shows it: plain digits between 1e-6 and 1e21, exponent form elsewhere.
pub fn format_float_json(value: f64, out: &mut String) {
    if special(value, out) {
        return;
    }
    if value < 0.0 {
        out.push('-');
    }
    let mut digits = String::new();
    let magnitude = value.abs();
    let point = shortest_digits(magnitude, &mut digits);
    if !(1e-6..1e21).contains(&magnitude) {
        push_exponent(&digits, point, out);
    } else {
        push_fixed(&digits, point, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, general: &str, json: &str) {
        let (mut g, mut j) = (String::new(), String::new());
        format_float(value, &mut g);
        format_float_json(value, &mut j);
        assert_eq!((g.as_str(), j.as_str()), (general, json));
    }

    #[test]
    fn formats_are_gos() {
        check(0.0, "0", "0");
        check(-0.0, "-0", "-0");
        check(1.0, "1", "1");
        check(-3.75, "-3.75", "-3.75");
        check(999_999.0, "999999", "999999");
        check(1e6, "1e+06", "1000000");
        check(123_456_789.0, "1.23456789e+08", "123456789");
        check(1_234_567.5, "1.2345675e+06", "1234567.5");
        check(1e20, "1e+20", "100000000000000000000");
        check(1e21, "1e+21", "1e+21");
        check(0.0001, "0.0001", "0.0001");
        // two texts are equally near
        check(8.0 + 1.0 / 65_536.0, "8.000015258789062", "8.000015258789062");
        check(100_000_000_000_000.0 + 0.125, "1.0000000000000012e+14", "100000000000000.12");
        check(1_658_206_780_088_563.0 + 0.25, "1.6582067800885632e+15", "1658206780088563.2");
        check(f64::MIN_POSITIVE, "2.2250738585072014e-308", "2.2250738585072014e-308");
        check(5e-324, "5e-324", "5e-324");
        check(f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308");
        check(1e-5, "1e-05", "0.00001");
        check(1.5e-7, "1.5e-07", "1.5e-07");
        check(1e-300, "1e-300", "1e-300");
        check(12_345_678_901_234_567_890.0, "1.2345678901234567e+19", "12345678901234567000");
        check(f64::INFINITY, "+Inf", "+Inf");
        check(f64::NEG_INFINITY, "-Inf", "-Inf");
        check(f64::NAN, "NaN", "NaN");
    }

    #[test]
    fn parses_what_pages_hold() {
        for (text, value) in [("1", 1.0), ("1.5e3", 1500.0), ("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY)] {
            assert_eq!(parse_float(text), Some(value), "{text}");
        }
        assert!(parse_float("nan").is_some_and(|v| v.to_bits() == crate::NORMAL_NAN.to_bits()));
        for text in ["", "0x1p-2", "1_000", "one", "1 "] {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn formatted_floats_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            let (mut g, mut j) = (String::new(), String::new());
            format_float(value, &mut g);
            format_float_json(value, &mut j);
            for text in [g, j] {
                let back = parse_float(&text).unwrap();
                proptest::prop_assert!(back.to_bits() == value.to_bits() || (back.is_nan() && value.is_nan()));
            }
        }
    }
}
