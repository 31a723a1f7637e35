//! The protobuf wire format.

/// Why bytes do not decode.
pub type WireError = &'static str;

/// A field's value.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// An integer, an enum or a boolean.
    Varint(u64),
    /// Eight bytes: a double.
    Fixed64(u64),
    /// A message or a string.
    Bytes(&'a [u8]),
    /// Four bytes, which nothing here has.
    Fixed32,
}

impl<'a> Field<'a> {
    /// A message, or a string that need not be UTF-8.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn bytes(self) -> Result<&'a [u8], WireError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err("a message or string is expected") }
    }

    /// A string.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a string is not UTF-8")
    }

    /// A double.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn double(self) -> Result<f64, WireError> {
        if let Self::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err("a double is expected") }
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn uint(self) -> Result<u64, WireError> {
        if let Self::Varint(value) = self { Ok(value) } else { Err("an integer is expected") }
    }

    /// A signed integer, not of the zigzag kind.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn int(self) -> Result<i64, WireError> {
        self.uint().map(|v| v as i64)
    }

    /// A `sint`.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn zigzag(self) -> Result<i64, WireError> {
        self.uint().map(unzigzag)
    }
}

/// The fields of a message, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Of the bytes of a message.
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The bytes that have not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Number and value of the next field.
    ///
    /// # Errors
    /// When the bytes are no message.
    #[expect(clippy::should_implement_trait, reason = "an iterator of results would go on behind an error")]
    pub fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "a field number is too large")?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut self.0)?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| "a double is cut off")?)),
            2 => {
                let len = usize::try_from(varint(&mut self.0)?).map_err(|_| "a length is too large")?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return Err("a wire type is not known"),
        };
        Ok(Some((number, field)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or("a field is cut off")?;
        self.0 = tail;
        Ok(head)
    }
}

/// Reads a varint off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("an integer is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("an integer is too long")
}

pub(super) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_uint(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, out);
    put_varint(value, out);
}

pub(super) fn put_sint(number: u32, value: i64, out: &mut Vec<u8>) {
    put_uint(number, zigzag(value), out);
}

/// Appends a message that `write` fills.
pub(super) fn put_message(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::with_capacity(64);
    write(&mut message);
    put_bytes(number, &message, out);
}
