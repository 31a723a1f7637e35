//! A column of timestamps.
//!
//! ```text
//! kind       u8       0 irregular, 1 regular
//! regular:   first (varint, zigzag), interval (varint, zigzag)
//! irregular: an integer column
//! ```

use model::Timestamp;

use crate::encoding::integers;
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

const IRREGULAR: u8 = 0;
const REGULAR: u8 = 1;

/// Appends a column.
pub(crate) fn encode(times: &[Timestamp], out: &mut Vec<u8>) {
    let interval = if times.len() > 1 { times[1].wrapping_sub(times[0]) } else { 0 };
    if times.windows(2).all(|w| w[1].wrapping_sub(w[0]) == interval) {
        out.push(REGULAR);
        varint::put_signed(out, times.first().copied().unwrap_or(0));
        varint::put_signed(out, interval);
    } else {
        out.push(IRREGULAR);
        integers::encode(times, out);
    }
}

/// Reads a column of `count` timestamps, which must ascend.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<Timestamp>, Damaged> {
    let mut reader = Reader::new(bytes, "timestamp column");
    let mut times = Vec::with_capacity(count.min(1 << 20));
    match reader.byte()? {
        REGULAR => {
            let first = reader.signed()?;
            let interval = reader.signed()?;
            times.extend((0..count as i64).map(|i| first.wrapping_add(interval.wrapping_mul(i))));
        }
        IRREGULAR => integers::decode(&mut reader, count, |t| times.push(t))?,
        _ => return Err(reader.damaged()),
    }
    if times.windows(2).all(|w| w[0] < w[1]) { Ok(times) } else { Err(reader.damaged()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn columns_read_back(steps in proptest::collection::vec(1i64..1_000_000, 0..300), start: i32, regular: bool) {
            let mut at = i64::from(start);
            let step = steps.first().copied().unwrap_or(1);
            let times: Vec<i64> = steps.iter().map(|s| { at += if regular { step } else { *s }; at }).collect();
            let mut out = Vec::new();
            encode(&times, &mut out);
            proptest::prop_assert_eq!(decode(&out, times.len()), Ok(times));
        }
    }

    #[test]
    fn columns_that_do_not_ascend_are_damaged() {
        let mut out = Vec::new();
        encode(&[3, 2, 5], &mut out);
        assert!(decode(&out, 3).is_err());
    }
}
