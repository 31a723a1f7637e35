use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time as configuration files and PromQL write it: `1h30m`, `15s`, `500ms`. Millisecond resolution, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(i64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The empty text.
    #[error("empty duration string")]
    Empty,
    /// Not of the form `1d2h3m`, units in falling order, each at most once.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// More milliseconds than fit.
    #[error("duration out of range")]
    OutOfRange,
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of `millis` milliseconds, which must not be negative.
    pub const fn from_millis(millis: i64) -> Self {
        assert!(millis >= 0, "a duration is not negative");
        Self(millis)
    }

    /// A duration of `secs` seconds, which must not be negative.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs * 1000)
    }

    /// Milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds, with fractions.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The standard library's duration.
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.unsigned_abs())
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    /// Parses as Prometheus' `model.ParseDuration`: units `y w d h m s ms` in this order, and a bare `0`.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        match text {
            "" => return Err(DurationError::Empty),
            "0" => return Ok(Self::ZERO),
            _ => {}
        }
        let invalid = || DurationError::Invalid(text.to_owned());
        let (mut rest, mut total, mut next_unit) = (text, 0i64, 0usize);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let unit_len = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            if digits == 0 || unit_len == 0 {
                return Err(invalid());
            }
            let unit = &rest[digits..digits + unit_len];
            let at = UNITS[next_unit..].iter().position(|(name, _)| *name == unit).ok_or_else(invalid)? + next_unit;
            let count: i64 = rest[..digits].parse().map_err(|_| DurationError::OutOfRange)?;
            let millis = count.checked_mul(UNITS[at].1).ok_or(DurationError::OutOfRange)?;
            total = total.checked_add(millis).ok_or(DurationError::OutOfRange)?;
            // upstream counts in nanoseconds in 64 bits
            if total > i64::MAX / 1_000_000 {
                return Err(DurationError::OutOfRange);
            }
            next_unit = at + 1;
            rest = &rest[digits + unit_len..];
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Duration {
    /// Writes as Prometheus' `model.Duration`: years and weeks only where they divide without rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (at, (unit, millis)) in UNITS.iter().enumerate() {
            let exact_only = at < 2;
            if exact_only && rest % millis != 0 {
                continue;
            }
            let count = rest / millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest -= count * millis;
            }
        }
        Ok(())
    }
}

impl From<Duration> for std::time::Duration {
    fn from(d: Duration) -> Self {
        d.as_std()
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_as_prometheus() {
        for (text, millis, shown) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 4 * 86_400_000, "4d"),
            ("4d1h", 4 * 86_400_000 + 3_600_000, "4d1h"),
            ("14d", 14 * 86_400_000, "2w"),
            ("3w", 21 * 86_400_000, "3w"),
            ("3w2d1h", 23 * 86_400_000 + 3_600_000, "23d1h"),
            ("10y", 3650 * 86_400_000, "10y"),
            ("1h30m", 5_400_000, "1h30m"),
        ] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!((parsed.millis(), parsed.to_string().as_str()), (millis, shown), "{text}");
        }
    }

    #[test]
    fn refuses_what_prometheus_refuses() {
        for text in ["", "1", "1y1m1d", "-1w", "1.5d", "d", "294y", "200y10400w", "107675d", "1m1m", "1 m"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
