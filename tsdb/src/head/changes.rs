//! Values as what they differ from others: in the head from the value before, in the log from 0.

use crate::encoding::floats::{put_xor, take_xor};
use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

/// Largest integers whose difference is used instead of XOR: both and their sum stay exact.
const EXACT: f64 = 4_503_599_627_370_496.0;

/// Bytes of a change that begins with this byte; 0 if there is none, `CONTROL` if the next byte tells.
const LENGTHS: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut head = 0;
    while head < 256 {
        lengths[head] = match head {
            0..=0x7f => 1,
            0x81..=0x88 => head as u8 - 0x80 + 1,
            0x90..=0x98 => head as u8 - 0x90 + 1,
            0xff => CONTROL,
            _ => 0,
        };
        head += 1;
    }
    lengths
};
const CONTROL: u8 = u8::MAX;

/// Passes over so many changes.
#[inline]
pub(super) fn skip_changes(reader: &mut Reader<'_>, mut count: usize) -> Result<(), Damaged> {
    while count > 0 {
        // most are a byte
        if let Some(bytes) = reader.rest.first_chunk() {
            let long = u64::from_le_bytes(*bytes) & 0x8080_8080_8080_8080;
            let short = count.min(long.trailing_zeros() as usize / 8);
            if short > 0 {
                reader.rest = &reader.rest[short..];
                count -= short;
                continue;
            }
        }
        let damaged = reader.damaged();
        let [head, rest @ ..] = reader.rest else { return Err(damaged) };
        let len = match (LENGTHS[usize::from(*head)], rest) {
            (0, _) | (CONTROL, []) => return Err(damaged),
            (CONTROL, [0, ..]) => 2,
            (CONTROL, [control, ..]) => 3 + usize::from((control - 1) % 8),
            (len, _) => usize::from(len),
        };
        reader.rest = reader.rest.get(len..).ok_or(damaged)?;
        count -= 1;
    }
    Ok(())
}

/// A value after another: integers as their zigzag difference (below 0x80 in one byte, else 0x80 + bytes that follow),
/// hundredths likewise after 0x90 + bytes that follow, other values as XOR after 0xff.
#[inline]
pub(crate) fn put_change(out: &mut Vec<u8>, before: f64, value: f64) {
    let change = Change::between(before, value);
    out.push(change.first_byte());
    change.put_rest(out);
}

/// A change, by how it is written.
enum Change {
    /// The first byte, and how many of the lowest bytes of a number follow.
    Number(u8, u64, usize),
    Xor(u64),
}

impl Change {
    #[inline]
    fn between(before: f64, value: f64) -> Self {
        if let (Some(a), Some(b)) = (exact_integer(before), exact_integer(value)) {
            let z = varint::zigzag(b - a);
            let len = significant(z);
            if z < 0x80 { Self::Number(z as u8, 0, 0) } else { Self::Number(0x80 + len as u8, z, len) }
        } else if let (Some(a), Some(b)) = (exact_hundredths(before), exact_hundredths(value)) {
            let z = varint::zigzag(b - a);
            let len = significant(z);
            Self::Number(0x90 + len as u8, z, len)
        } else {
            Self::Xor(before.to_bits() ^ value.to_bits())
        }
    }

    #[inline]
    fn first_byte(&self) -> u8 {
        match self {
            Self::Number(first, ..) => *first,
            Self::Xor(_) => 0xff,
        }
    }

    #[inline]
    fn put_rest(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Number(_, number, len) => {
                // all of them at once: quicker than to copy as many as there are
                out.extend_from_slice(&number.to_le_bytes());
                out.truncate(out.len() - 8 + len);
            }
            Self::Xor(bits) => put_xor(out, bits),
        }
    }
}

/// Bytes of a number up to the highest that is not 0.
#[inline]
fn significant(number: u64) -> usize {
    8 - number.leading_zeros() as usize / 8
}

#[inline]
pub(crate) fn take_change(reader: &mut Reader<'_>, before: f64) -> Result<f64, Damaged> {
    let head = reader.byte()?;
    take_rest(head, reader, before)
}

/// The same where the first byte has been read.
#[inline]
fn take_rest(head: u8, reader: &mut Reader<'_>, before: f64) -> Result<f64, Damaged> {
    let z = match head {
        small @ ..=0x7f => u64::from(small),
        0xff => return Ok(f64::from_bits(before.to_bits() ^ take_xor(reader)?)),
        long @ 0x81..=0x88 => {
            let mut word = [0u8; 8];
            let len = usize::from(long - 0x80);
            word[..len].copy_from_slice(reader.take(len)?);
            u64::from_le_bytes(word)
        }
        long @ 0x90..=0x98 => {
            let mut word = [0u8; 8];
            let len = usize::from(long - 0x90);
            word[..len].copy_from_slice(reader.take(len)?);
            let difference = varint::unzigzag(u64::from_le_bytes(word));
            return Ok(((before * 100.0).round() as i64).wrapping_add(difference) as f64 / 100.0);
        }
        _ => return Err(reader.damaged()),
    };
    Ok((before as i64).wrapping_add(varint::unzigzag(z)) as f64)
}

/// Appends values as changes from 0, the first bytes of all of them before what follows of each: alike stands by alike, which compresses
/// better and faster.
pub(crate) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let heads = out.len();
    out.resize(heads + values.len(), 0);
    for (at, value) in values.iter().enumerate() {
        let change = Change::between(0.0, *value);
        out[heads + at] = change.first_byte();
        change.put_rest(out);
    }
}

/// Reads `count` values that [`put_values`] wrote.
pub(crate) fn take_values(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Damaged> {
    let heads = reader.take(count)?;
    heads.iter().map(|head| take_rest(*head, reader, 0.0)).collect()
}

#[inline]
fn exact_integer(value: f64) -> Option<i64> {
    let integer = value as i64;
    // -0.0 is no integer here, its sign would be lost
    (value.abs() < EXACT && (integer as f64).to_bits() == value.to_bits()).then_some(integer)
}

#[inline]
fn exact_hundredths(value: f64) -> Option<i64> {
    let scaled = (value * 100.0).round();
    let integer = scaled as i64;
    (scaled.abs() < EXACT && (integer as f64 / 100.0).to_bits() == value.to_bits()).then_some(integer)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn values() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-5i64..5).prop_map(|v| v as f64),
            any::<i32>().prop_map(f64::from),
            any::<i32>().prop_map(|v| f64::from(v) / 100.0),
            (-9i64..9).prop_map(|v| v as f64 / 100.0),
            any::<u64>().prop_map(f64::from_bits),
            Just(-0.0),
            Just(4_503_599_627_370_495.0),
            Just(-4_503_599_627_370_495.0),
        ]
    }

    proptest! {
        #[test]
        fn changes_are_passed_over(all in prop::collection::vec((values(), values()), 0..40), upto in 0usize..41, cut in 0usize..400) {
            let mut out = Vec::new();
            let ends: Vec<usize> = all.iter().map(|(a, b)| { put_change(&mut out, *a, *b); out.len() }).collect();
            let mut reader = Reader::new(&out, "test");
            let end = if upto == 0 { Some(0) } else { ends.get(upto - 1).copied() };
            prop_assert_eq!(skip_changes(&mut reader, upto).ok().map(|()| out.len() - reader.rest.len()), end);
            // some are missing
            let mut short = Reader::new(&out[..cut.min(out.len())], "test");
            prop_assert_eq!(skip_changes(&mut short, all.len()).is_ok(), cut >= out.len());
        }

        #[test]
        fn a_change_reads_back(a in values(), b in values()) {
            let mut out = Vec::new();
            put_change(&mut out, a, b);
            let mut reader = Reader::new(&out, "test");
            prop_assert_eq!(take_change(&mut reader, a).unwrap().to_bits(), b.to_bits());
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn values_read_back(all in prop::collection::vec(values(), 0..50)) {
            let mut out = Vec::new();
            put_values(&mut out, &all);
            let mut reader = Reader::new(&out, "test");
            let back = take_values(&mut reader, all.len()).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert!(back.iter().map(|v| v.to_bits()).eq(all.iter().map(|v| v.to_bits())));
        }
    }
}
