use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use model::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A block's name: 48 bits of time and 80 bits that differ, in 26 characters that sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ulid(u128);

impl Ulid {
    /// A new name for something made at `now`; it sorts behind all that this process has made before.
    pub fn new(now: Timestamp) -> Self {
        static LAST: Mutex<u128> = Mutex::new(0);
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let mut seed = nanos.to_le_bytes().to_vec();
        seed.extend_from_slice(&std::process::id().to_le_bytes());
        seed.extend_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let fresh = (now.max(0) as u128) << 80 | xxh3_128(&seed) >> 48;
        let mut last = LAST.lock();
        *last = fresh.max(last.saturating_add(1));
        Self(*last)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = (0..26).rev().map(|i| DIGITS[(self.0 >> (5 * i)) as usize & 31] as char).collect();
        f.write_str(&text)
    }
}

/// The text is no ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID")]
pub struct UlidError;

impl FromStr for Ulid {
    type Err = UlidError;

    fn from_str(text: &str) -> Result<Self, UlidError> {
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(UlidError);
        }
        text.bytes()
            .try_fold(0u128, |sum, c| {
                let digit = DIGITS.iter().position(|d| *d == c).ok_or(UlidError)?;
                Ok(sum << 5 | digit as u128)
            })
            .map(Self)
    }
}

impl TryFrom<String> for Ulid {
    type Error = UlidError;

    fn try_from(text: String) -> Result<Self, UlidError> {
        text.parse()
    }
}

impl From<Ulid> for String {
    fn from(ulid: Ulid) -> String {
        ulid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_read_back_and_sort_by_time() {
        let (a, b, c) = (Ulid::new(1000), Ulid::new(1000), Ulid::new(1001));
        assert_ne!(a, b);
        assert!(a < b && b < c && a.to_string() < c.to_string());
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_eq!("8".repeat(26).parse::<Ulid>(), Err(UlidError));
        assert_eq!("firewatch".parse::<Ulid>(), Err(UlidError));
    }
}
