use super::Parser;
use crate::ast::{NumberLiteral, StringLiteral};
use crate::go_text::unquote;
use crate::lexer::{Kind, Token};

impl Parser<'_> {
    /// The value of a number or duration token.
    pub(super) fn number_literal(&mut self, token: Token) -> NumberLiteral {
        let text = self.text(token);
        let is_duration = token.kind == Kind::Duration;
        let parsed = if is_duration { parse_duration(text) } else { parse_number(text) };
        let value = parsed.unwrap_or_else(|message| {
            self.error(token.pos, message);
            0.0
        });
        NumberLiteral { value, is_duration, pos: token.pos }
    }

    /// The text of a string token.
    pub(super) fn string_literal(&mut self, token: Token) -> StringLiteral {
        let text = self.text(token);
        let bytes = unquote(text).unwrap_or_else(|| {
            self.error(token.pos, format!("error unquoting string {}: invalid syntax", model::quote(text)));
            Vec::new()
        });
        StringLiteral { bytes, pos: token.pos }
    }
}

/// Parses a number as Go's `strconv.ParseInt(text, 0, 64)` and then `ParseFloat` do: decimal, hexadecimal, octal with a
/// leading zero, `_` between digits, `inf` and `nan` in any case.
pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    let digits = text.replace('_', "");
    let failed =
        |what: &str| Err(format!("error parsing number: strconv.ParseFloat: parsing {}: {what}", model::quote(text)));
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return match i64::from_str_radix(hex, 16) {
            Ok(value) => Ok(value as f64),
            Err(_) => failed("invalid syntax"),
        };
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&digits, 8)
    {
        return Ok(octal as f64);
    }
    if let Ok(whole) = digits.parse::<i64>() {
        return Ok(whole as f64);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_nan() => Ok(model::NORMAL_NAN),
        Ok(value) if value.is_infinite() && !digits.to_ascii_lowercase().contains("inf") => {
            failed("value out of range")
        }
        Ok(value) => Ok(value),
        Err(_) => failed("invalid syntax"),
    }
}

/// Parses a duration such as `1h30m` to seconds.
fn parse_duration(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let quoted = || model::quote(text);
    let mut rest = text;
    let mut millis = 0u64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit_len = rest[digits..].bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + unit_len]);
        if digits == 0 || unit_len == 0 {
            return Err(format!("not a valid duration string: {}", quoted()));
        }
        let Some(at) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("unknown unit {} in duration {}", model::quote(unit), quoted()));
        };
        if at < next_unit {
            return Err(format!("not a valid duration string: {}", quoted()));
        }
        next_unit = at + 1;
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(UNITS[at].1))
            .and_then(|n| n.checked_add(millis))
            .filter(|n| *n <= (i64::MAX / 1_000_000).unsigned_abs())
            .ok_or("duration out of range")?;
        rest = &rest[digits + unit_len..];
    }
    Ok(millis as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("1_000", 1000.0),
            ("0x1F", 31.0),
            ("010", 8.0),
            ("08", 8.0),
            ("1.5e3", 1500.0),
            (".5", 0.5),
            ("2.", 2.0),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert!(parse_number("NaN").unwrap().is_nan());
        assert_eq!(
            parse_number("1e400").unwrap_err(),
            "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"
        );
    }

    #[test]
    fn durations_name_what_is_wrong() {
        for (text, result) in [
            ("1h30m", Ok(5400.0)),
            ("10ms", Ok(0.01)),
            ("0s", Ok(0.0)),
            ("1.5s", Err("unknown unit \".\" in duration \"1.5s\"")),
            ("1s1h", Err("not a valid duration string: \"1s1h\"")),
            ("300y", Err("duration out of range")),
        ] {
            assert_eq!(parse_duration(text), result.map_err(str::to_owned), "{text}");
        }
    }
}
