//! Versions of the file formats. A newer minor version only adds what a reader can pass over; a newer major version is refused, with
//! the file left as it is. The rules stand in `docs/format.md`.

use std::io;
use std::path::Path;

use crate::error::FileError;

/// Parts of a record whose tag is not below this are followed by their length, so that a reader that does not know them passes
/// over them.
pub(crate) const LENGTH_FOLLOWS: u8 = 0x40;

/// What the first bytes of a log segment or an image of the head say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Of the version of the magic, an older one, or a newer minor one; how long it is.
    Known(usize),
    /// Of a newer major version.
    Newer(NewerFormat),
    /// Of no version: damaged.
    Damaged,
}

/// A file of a newer major version than is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the file has format {major}, which a newer version of Firewatch has written; this one reads format {known}: go on with the newer one"
)]
pub(crate) struct NewerFormat {
    pub(crate) major: u32,
    pub(crate) known: u32,
}

impl NewerFormat {
    pub(crate) fn in_file(self, path: &Path) -> FileError {
        FileError::at("read", path)(io::Error::new(io::ErrorKind::Unsupported, self))
    }
}

/// Magic (its last two bytes are the minor and the major version) and number.
pub(crate) const HEADER: usize = 16;
/// From the second major version on a checksum of the header follows it: a damaged byte must not pass for a newer version.
pub(crate) const HEADER_WITH_CHECKSUM: usize = HEADER + 4;

/// Looks at the first bytes of a file, [`HEADER_WITH_CHECKSUM`] of them if there are so many.
pub(crate) fn read_header(start: &[u8], magic: [u8; 8]) -> Header {
    let (Some(header), known) = (start.first_chunk::<HEADER>(), magic[7]) else { return Header::Damaged };
    if header[..6] != magic[..6] {
        return Header::Damaged;
    }
    let major = header[7];
    if major == 1 {
        return Header::Known(HEADER);
    }
    let sum = crc32fast::hash(header).to_le_bytes();
    if major == 0 || start.get(HEADER..HEADER_WITH_CHECKSUM) != Some(&sum) {
        return Header::Damaged;
    }
    if major > known {
        return Header::Newer(NewerFormat { major: major.into(), known: known.into() });
    }
    Header::Known(HEADER_WITH_CHECKSUM)
}

/// The first bytes of a file of the version of the magic, which is 2 or later.
pub(crate) fn header(magic: [u8; 8], number: u64) -> Vec<u8> {
    let mut header = [magic, number.to_le_bytes()].concat();
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let magic = *b"FWTEST\x00\x02";
        let header = |minor: u8, major: u8, sum: bool| {
            let mut bytes = [&magic[..6], &[minor, major], &7u64.to_le_bytes()].concat();
            if sum {
                bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            }
            read_header(&bytes, magic)
        };
        assert_eq!(header(0, 1, false), Header::Known(HEADER));
        assert_eq!(header(9, 1, false), Header::Known(HEADER));
        assert_eq!(header(0, 2, true), Header::Known(HEADER_WITH_CHECKSUM));
        assert_eq!(header(9, 2, true), Header::Known(HEADER_WITH_CHECKSUM));
        assert_eq!(read_header(&super::header(magic, 7), magic), Header::Known(HEADER_WITH_CHECKSUM));
        assert_eq!(header(0, 3, true), Header::Newer(NewerFormat { major: 3, known: 2 }));
        assert_eq!(header(0, 3, false), Header::Damaged);
        assert_eq!(header(0, 2, false), Header::Damaged);
        assert_eq!(header(0, 0, true), Header::Damaged);
        assert_eq!(read_header(b"FWTEST\x00\x02", magic), Header::Damaged);
        assert_eq!(read_header(&[0; 20], magic), Header::Damaged);
    }
}
