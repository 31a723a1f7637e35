//! Columns as bytes. Every encoding is bit-exact, for NaN payloads too.

pub(crate) mod bitpack;
pub(crate) mod floats;
pub(crate) mod frame_of_reference;
pub(crate) mod histogram;
pub(crate) mod integers;
pub(crate) mod pcodec;
pub(crate) mod segments;
pub(crate) mod timestamps;
pub(crate) mod varint;
