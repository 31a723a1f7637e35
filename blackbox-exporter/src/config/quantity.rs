//! Durations and sizes as Go's libraries write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration in Go's form (`1m30s`, `1.5s`, `100ms`), or a number of nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GoDuration(pub Duration);

/// A number of bytes with a binary unit (`1KB` and `1KiB` are 1024), 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub u64);

/// Splits `1.5h` into its number and the unit, and gives what follows.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    Some((number.parse().ok()?, unit, rest))
}

impl GoDuration {
    fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::default());
        }
        if let Ok(nanoseconds) = text.parse() {
            return Some(Self(Duration::from_nanos(nanoseconds)));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut seconds = 0.0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest)?;
            let factor = match unit {
                "ns" => 1e-9,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
            seconds += number * factor;
            rest = after;
        }
        Duration::try_from_secs_f64(seconds).ok().map(Self)
    }
}

impl Bytes {
    fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(0));
        }
        let mut rest = text;
        let mut total = 0.0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest)?;
            let power = match unit {
                "B" => 0,
                "KB" | "KiB" => 1,
                "MB" | "MiB" => 2,
                "GB" | "GiB" => 3,
                "TB" | "TiB" => 4,
                "PB" | "PiB" => 5,
                "EB" | "EiB" => 6,
                _ => return None,
            };
            total += number * 1024f64.powi(power);
            rest = after;
        }
        Some(Self(total as u64))
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("invalid duration {}", model::quote(&text))))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("invalid size {}: write it as 10MB", model::quote(&text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in
            [("5s", Some(5000)), ("1m30s", Some(90_000)), ("1.5s", Some(1500)), ("250ms", Some(250)), ("0", Some(0))]
        {
            assert_eq!(GoDuration::parse(text).map(|d| d.0.as_millis()), millis, "{text}");
        }
        for text in ["", "5", "s", "5 s", "1d", "-1s", "1e3s"] {
            let parsed = GoDuration::parse(text).map(|d| d.0);
            assert!(parsed.is_none_or(|d| d < Duration::from_micros(1)), "{text}: {parsed:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("1MB", Some(1 << 20)),
            ("1.5KiB", Some(1536)),
            ("1GB512MB", Some((1 << 30) + (512 << 20))),
            ("12", None),
            ("1mb", None),
            ("", None),
        ] {
            assert_eq!(Bytes::parse(text).map(|b| b.0), bytes, "{text}");
        }
    }
}
