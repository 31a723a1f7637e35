//! Records as they are written: behind their header, and compressed where that is much shorter.
//!
//! ```text
//! 63 compressed   length of what it was (varint), zstd frame
//! ```

use std::borrow::Cow;
use std::io::Cursor;

use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;
use crate::wal::{MAX_RECORD, record_header};

/// Begins a payload that is compressed; no other payload begins so.
const COMPRESSED: u8 = 63;
/// What is shorter gains little.
const SHORT: usize = 96;
/// A fast one: what it loses against 1 is a fiftieth of the log, and it takes two thirds of the time.
const LEVEL: i32 = -1;
/// Bits of how far back a repetition may lie: the compressor's memory grows with it.
const WINDOW: u32 = 17;

/// What is shorter by less than a quarter is not worth the time: of those that begin alike so many are written as they are before one is tried
/// again.
const PASSED: u8 = 15;

/// By the tag that a payload begins with: how many more are not to be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passing([u8; 16]);

/// Puts payloads into the form in which they are written.
#[derive(Default)]
pub(crate) struct Packer {
    /// Made with the first payload that is not short.
    compressor: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
    passing: Passing,
}

impl Packer {
    /// One for payloads like those that another one has put.
    pub(crate) fn going_on(passing: Passing) -> Self {
        Self { passing, ..Self::default() }
    }

    /// What the next one is to pass over.
    pub(crate) fn passing(&self) -> Passing {
        self.passing
    }

    /// Appends a record: header and payload.
    pub(crate) fn put(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let packed = payload.len() >= SHORT && !self.passes(payload) && self.compress(payload).is_some();
        let payload = if packed { &self.scratch } else { payload };
        out.extend_from_slice(&record_header(payload));
        out.extend_from_slice(payload);
        // a few records are much longer than all others
        if self.scratch.capacity() > 1 << 20 {
            self.scratch = Vec::new();
        }
    }

    fn left(&mut self, payload: &[u8]) -> &mut u8 {
        let tag = payload.first().map_or(0, |tag| usize::from(*tag));
        &mut self.passing.0[tag % 16]
    }

    fn passes(&mut self, payload: &[u8]) -> bool {
        let left = self.left(payload);
        let passes = *left > 0;
        *left = left.saturating_sub(1);
        passes
    }

    /// Leaves the compressed payload in `scratch`, if it is shorter.
    fn compress(&mut self, payload: &[u8]) -> Option<()> {
        if self.compressor.is_none() {
            let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
            compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(WINDOW)).ok()?;
            self.compressor = Some(compressor);
        }
        let scratch = &mut self.scratch;
        scratch.clear();
        scratch.push(COMPRESSED);
        varint::put(scratch, payload.len() as u64);
        let start = scratch.len();
        // a result that has no room is of no use; memory that it does not need is not touched
        scratch.reserve(payload.len().saturating_sub(start));
        let mut room = Cursor::new(&mut *scratch);
        room.set_position(start as u64);
        let len = self.compressor.as_mut()?.compress_to_buffer(payload, &mut room);
        let len = len.ok().map(|len| start + len).filter(|len| *len <= payload.len());
        scratch.truncate(len.unwrap_or(0));
        *self.left(payload) = if len.is_some_and(|len| len <= payload.len() / 4 * 3) { 0 } else { PASSED };
        len.map(|_| ())
    }
}

/// The payload of a record whose checksum is right.
pub(crate) fn unpack(payload: &[u8]) -> Result<Cow<'_, [u8]>, Damaged> {
    if payload.first() != Some(&COMPRESSED) {
        return Ok(Cow::Borrowed(payload));
    }
    let mut reader = Reader::new(&payload[1..], "log record");
    let len = reader.count(MAX_RECORD)?;
    let plain = zstd::bulk::decompress(reader.rest, len).map_err(|_| reader.damaged())?;
    if plain.len() == len { Ok(Cow::Owned(plain)) } else { Err(reader.damaged()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::RECORD_HEADER;

    fn pack(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Packer::default().put(payload, &mut out);
        out.split_off(RECORD_HEADER)
    }

    /// Bytes that do not repeat, behind a tag.
    fn noise(tag: u8) -> Vec<u8> {
        let mut random = 7u64;
        let next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        };
        std::iter::once(tag).chain(std::iter::repeat_with(next).take(1000)).collect()
    }

    #[test]
    fn what_repeats_is_shorter_and_the_rest_as_it_was() {
        let repeated = b"a text that repeats ".repeat(100);
        assert!(pack(&repeated).len() < 100);
        let noise = noise(7);
        for plain in [&b""[..], b"short", &noise] {
            assert_eq!(pack(plain), plain);
        }
        let packed = pack(&repeated);
        for len in 0..packed.len() {
            assert!(unpack(&packed[..len]).map_or(true, |plain| plain != repeated), "{len}");
        }
        // it says another length than it has
        let other = [&[COMPRESSED, 3], &packed[3..]].concat();
        assert_eq!(unpack(&other), Err(Damaged("log record")));
    }

    #[test]
    fn what_gains_little_is_tried_now_and_then() {
        let repeated = |tag: u8| [&[tag][..], &b"a text that repeats ".repeat(100)].concat();
        let varied = noise(2);
        let mut packer = Packer::default();
        let mut packed = |payload: &[u8]| {
            let mut out = Vec::new();
            packer.put(payload, &mut out);
            out.len() < RECORD_HEADER + payload.len()
        };
        assert!(packed(&repeated(2)) && packed(&repeated(2)));
        assert!(!packed(&varied));
        assert_eq!((0..20).filter(|_| packed(&repeated(2))).count(), 20 - usize::from(PASSED));
        assert!(!packed(&varied));
        assert!(packed(&repeated(9)), "others are tried all the same");
        let mut next = Packer::going_on(packer.passing());
        let mut out = Vec::new();
        next.put(&repeated(2), &mut out);
        assert!(out.ends_with(&repeated(2)) && next.passing() != packer.passing());
    }

    proptest::proptest! {
        #[test]
        fn payloads_read_back(parts: Vec<u8>, times in 1usize..50) {
            // the tags of payloads are below
            let payload: Vec<u8> = parts.repeat(times).into_iter().map(|byte| byte % COMPRESSED).collect();
            let packed = pack(&payload);
            proptest::prop_assert!(packed.len() <= payload.len());
            proptest::prop_assert_eq!(&unpack(&packed).unwrap()[..], payload);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = unpack(&[&[COMPRESSED], &bytes[..]].concat());
        }
    }
}
