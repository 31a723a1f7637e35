//! What the crash tests share: a collector that cuts blocks within seconds, a writer and a page of numbered samples, and the
//! check that all of them which were acknowledged are there, once.

mod collector;
mod numbered_page;
mod writer;

pub use collector::{Collector, samples};
pub use numbered_page::NumberedPage;
pub use writer::{SERIES, Writer};

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in milliseconds since the epoch.
///
/// # Panics
/// When the clock stands before it.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock behind 1970").as_millis() as i64
}

/// A seed for a test's random numbers: `FIREWATCH_SEED`, or another one each time.
pub fn seed() -> u64 {
    let given = std::env::var("FIREWATCH_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| now() as u64)
}

/// Random numbers (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
