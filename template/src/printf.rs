//! Go's `fmt` for template values.

use std::fmt::Write;

use crate::Value;

/// `fmt.Sprint`: a blank between two operands when neither is a string.
pub(crate) fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        let is_text = |v: &Value| matches!(v, Value::Str(_));
        if at > 0 && !is_text(arg) && !is_text(&args[at - 1]) {
            out.push(' ');
        }
        let _ = write!(out, "{arg}");
    }
    out
}

/// `fmt.Sprintln`: blanks between all operands and a line feed.
pub(crate) fn println(args: &[Value]) -> String {
    let mut out = args.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

/// Widths and precisions above this are cut, so that a format cannot ask for gigabytes.
const MAX_WIDTH: usize = 10_000;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `fmt.Sprintf` for template values.
pub fn printf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                return match args.next() {
                    Some(Value::Int(n)) => Some((*n).clamp(0, MAX_WIDTH as i64) as usize),
                    _ => None,
                };
            }
            let mut value = None;
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                let digit = d as usize - '0' as usize;
                value = Some((value.unwrap_or(0usize) * 10 + digit).min(MAX_WIDTH));
            }
            value
        };
        spec.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.next() {
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
                Some(arg) => one(verb, &spec, arg, &mut out),
            },
        }
    }
    let rest: Vec<String> = args.map(|a| format!("{}={a}", a.type_name())).collect();
    if !rest.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", rest.join(", "));
    }
    out
}

fn one(verb: char, spec: &Spec, arg: &Value, out: &mut String) {
    let text = match (verb, arg) {
        ('v', Value::Float(f)) => float('g', spec, *f),
        ('v', Value::Int(i)) => integer(*i, 10, false, spec),
        ('v', Value::Str(s)) if spec.sharp => model::quote(s),
        ('v', other) => other.to_string(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('d', Value::Int(i)) => integer(*i, 10, false, spec),
        ('b', Value::Int(i)) => integer(*i, 2, false, spec),
        ('o', Value::Int(i)) => integer(*i, 8, false, spec),
        ('x', Value::Int(i)) => integer(*i, 16, false, spec),
        ('X', Value::Int(i)) => integer(*i, 16, true, spec),
        ('c', Value::Int(i)) => u32::try_from(*i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        ('U', Value::Int(i)) => format!("U+{i:04X}"),
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(f)) => float(verb, spec, *f),
        ('s', Value::Str(s)) => match spec.precision {
            Some(n) => s.chars().take(n).collect(),
            None => s.to_string(),
        },
        ('q', Value::Str(s)) => model::quote(s),
        ('x', Value::Str(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::Str(s)) => s.bytes().map(|b| format!("{b:02X}")).collect(),
        ('s' | 'q', Value::List(_) | Value::Map(_) | Value::Labels(_) | Value::Object(_)) => arg.to_string(),
        ('T', other) => other.type_name().to_owned(),
        (verb, Value::Nil) => format!("%!{verb}(<nil>)"),
        (verb, other) => format!("%!{verb}({}={other})", other.type_name()),
    };
    pad(&text, spec, matches!(arg, Value::Int(_) | Value::Float(_)), out);
}

fn pad(text: &str, spec: &Spec, numeric: bool, out: &mut String) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    let fill = |out: &mut String, c: char| out.extend(std::iter::repeat_n(c, missing));
    if spec.minus {
        out.push_str(text);
        fill(out, ' ');
    } else if spec.zero && numeric && !text.ends_with("Inf") && !text.ends_with("NaN") {
        let sign = text.len() - text.trim_start_matches(['+', '-']).len();
        out.push_str(&text[..sign]);
        fill(out, '0');
        out.push_str(&text[sign..]);
    } else {
        fill(out, ' ');
        out.push_str(text);
    }
}

fn integer(value: i64, radix: u32, upper: bool, spec: &Spec) -> String {
    let magnitude = value.unsigned_abs();
    let mut digits = match radix {
        2 => format!("{magnitude:b}"),
        8 => format!("{magnitude:o}"),
        16 if upper => format!("{magnitude:X}"),
        16 => format!("{magnitude:x}"),
        _ => magnitude.to_string(),
    };
    if spec.sharp && radix == 16 {
        digits.insert_str(0, if upper { "0X" } else { "0x" });
    }
    format!("{}{digits}", sign(value < 0, spec))
}

fn sign(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn float(verb: char, spec: &Spec, value: f64) -> String {
    if value.is_nan() {
        return if spec.plus { "+NaN".to_owned() } else { "NaN".to_owned() };
    }
    if value.is_infinite() {
        return format!("{}Inf", if value < 0.0 { "-" } else { "+" });
    }
    let magnitude = value.abs();
    let body = match verb {
        'f' | 'F' => format!("{magnitude:.*}", spec.precision.unwrap_or(6)),
        'e' | 'E' => exponent(&format!("{magnitude:.*e}", spec.precision.unwrap_or(6))),
        _ => match spec.precision {
            None => {
                let mut out = String::new();
                model::format_float(magnitude, &mut out);
                out
            }
            Some(precision) => general(magnitude, precision.max(1)),
        },
    };
    let body = if verb.is_ascii_uppercase() { body.to_uppercase() } else { body };
    format!("{}{body}", sign(value.is_sign_negative(), spec))
}

/// Rust's `1.5e7` as Go's `1.5e+07`.
fn exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%.Ng`: N significant digits without trailing zeros.
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let strip = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    // Go lets a shorter number keep its plain form up to 21 digits only without a precision
    if power < -4 || power >= precision as i32 {
        exponent(&format!("{}e{power}", strip(mantissa)))
    } else {
        strip(&format!("{value:.*}", (precision as i32 - 1 - power).max(0) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_gos() {
        for (format, arg, expected) in [
            ("%.4g", Value::Float(123.456), "123.5"),
            ("%.4g", Value::Float(0.000_012_345_6), "1.235e-05"),
            ("%.3g", Value::Float(1500.0), "1.5e+03"),
            ("%g", Value::Float(1e6), "1e+06"),
            ("%6.2f", Value::Float(-1.005), " -1.00"),
            ("%06d", Value::Int(-42), "-00042"),
            ("%+d", Value::Int(7), "+7"),
            ("%e", Value::Float(1500.0), "1.500000e+03"),
            ("%s", Value::Float(1.5), "%!s(float64=1.5)"),
            ("%d", Value::Float(1.0), "%!d(float64=1)"),
            ("%.1f", Value::Int(1), "%!f(int=1)"),
            ("%.2s", Value::from("abc"), "ab"),
            ("%", Value::Int(1), "%!(NOVERB)%!(EXTRA int=1)"),
        ] {
            assert_eq!(printf(format, &[arg]), expected, "{format}");
        }
        assert_eq!(printf("%d %d", &[Value::Int(1)]), "1 %!d(MISSING)");
        assert_eq!(print(&[Value::Int(1), Value::Int(2), Value::from("a"), Value::Int(3)]), "1 2a3");
    }
}
