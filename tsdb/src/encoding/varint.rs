//! Integers of variable length (LEB128) and the reader every format here is parsed with.

use crate::error::Damaged;

pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads fields off the front of some bytes. Never panics: what is missing is [`Damaged`].
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// `what` names the structure in errors.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn damaged(&self) -> Damaged {
        Damaged(self.what)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(Damaged(self.what))?;
        self.rest = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Damaged(self.what))?;
        self.rest = tail;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let (&byte, tail) = self.rest.split_first().ok_or(Damaged(self.what))?;
        self.rest = tail;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Damaged> {
        let Some(word) = self.rest.first_chunk::<8>() else { return self.varint_by_byte() };
        let word = u64::from_le_bytes(*word);
        if word & 0x80 == 0 {
            self.rest = &self.rest[1..];
            return Ok(word & 0x7f);
        }
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.varint_by_byte();
        }
        let bits = ends.trailing_zeros() + 1;
        // groups of seven bits move together: pairs, fours, eights
        let groups = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = (groups & 0x007f_007f_007f_007f) | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        self.rest = &self.rest[bits as usize / 8..];
        Ok((fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4)
    }

    /// Of any length, and at the end of the bytes.
    fn varint_by_byte(&mut self) -> Result<u64, Damaged> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Damaged(self.what));
            }
        }
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Damaged> {
        self.varint().map(unzigzag)
    }

    /// A varint that must fit and stay below a limit (counts and lengths read from disk).
    pub(crate) fn count(&mut self, limit: usize) -> Result<usize, Damaged> {
        let value = self.varint()?;
        usize::try_from(value).ok().filter(|v| *v <= limit).ok_or(Damaged(self.what))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damaged> {
        u32::try_from(self.varint()?).map_err(|_| Damaged(self.what))
    }

    pub(crate) fn fixed_u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Damaged> {
        self.array().map(f64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = self.count(self.rest.len())?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged(self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn integers_read_back(a: u64, b: i64) {
            let mut out = Vec::new();
            put(&mut out, a);
            put_signed(&mut out, b);
            let mut reader = Reader::new(&out, "test");
            proptest::prop_assert_eq!((reader.varint(), reader.signed(), reader.is_empty()), (Ok(a), Ok(b), true));
        }

        /// The way by words and that by bytes read the same, with anything behind.
        #[test]
        fn words_are_read_as_bytes_are(a: u64, bits in 0u32..64, overlong in 0usize..3, behind: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, a >> bits);
            if overlong > 0 {
                *out.last_mut().unwrap() |= 0x80;
                out.resize(out.len() + overlong - 1, 0x80);
                out.push(0);
            }
            out.extend(&behind);
            let (mut word, mut byte) = (Reader::new(&out, "test"), Reader::new(&out, "test"));
            proptest::prop_assert_eq!(word.varint(), byte.varint_by_byte());
            proptest::prop_assert_eq!(word.rest, byte.rest);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes, "test");
            while reader.varint().is_ok() {}
            let mut reader = Reader::new(&bytes, "test");
            while reader.text().is_ok() && !reader.is_empty() {}
        }
    }
}
