use serde::{Deserialize, Deserializer};

/// A number of bytes as configuration files write it: `15MB` and `15MiB` are both 15 * 1024 * 1024, as in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u32); 15] = [
    ("EiB", 60),
    ("PiB", 50),
    ("TiB", 40),
    ("GiB", 30),
    ("MiB", 20),
    ("KiB", 10),
    ("EB", 60),
    ("PB", 50),
    ("TB", 40),
    ("GB", 30),
    ("MB", 20),
    ("KB", 10),
    ("kB", 10),
    ("B", 0),
    ("iB", 0),
];

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(0));
        }
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().map_err(|_| format!("units: invalid {text}"))?;
        let shift = UNITS
            .iter()
            .find(|(name, _)| *name == unit && unit != "iB")
            .map(|(_, shift)| *shift)
            .ok_or_else(|| format!("units: unknown unit {unit} in {text}"))?;
        Ok(Self((number * (1u64 << shift) as f64) as u64))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("1B", 1), ("2KB", 2048), ("15MB", 15 << 20), ("1.5GiB", 3 << 29), ("1EB", 1 << 60)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!("100".parse::<Size>(), Err("units: unknown unit  in 100".to_owned()));
        assert!("MB".parse::<Size>().is_err());
    }
}
