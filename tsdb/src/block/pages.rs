//! Files in pages of 8 KiB that each end with a checksum, so that any part of a file is checked when it is read and a
//! damaged byte costs its page only. The last page is as long as it needs to be.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Damaged, FileError, ReadError};
use crate::files::{Files, StoreFile};

const PAGE: usize = 8192;
const CHECKSUM: usize = 4;
const PAYLOAD: usize = PAGE - CHECKSUM;

/// How much is read ahead of who goes through a file from front to back: little at first, twice as much each time, and no more than this. Memory
/// that is not needed in the end takes time, too.
const FIRST_AHEAD: u64 = 16 * 1024;
const AHEAD: u64 = 64 * 1024;

/// What the system is told to read at a time for who wants all of it: more than it dares to by itself, for a request to the disk takes as
/// long as half a megabyte.
const ANNOUNCED: u64 = 128 * PAYLOAD as u64;

/// A part of a file that has been read.
#[derive(Default)]
pub(crate) struct PageBuffer {
    offset: u64,
    /// How many of the bytes are of the file; what is behind them was once.
    len: usize,
    bytes: Vec<u8>,
    /// How much was read ahead the last time.
    ahead: u64,
    /// Behind this nothing will be wanted.
    limit: Option<u64>,
    /// Up to where the system has been told to read, for who wants all that there is.
    announced: Option<u64>,
}

impl PageBuffer {
    /// For who reads nothing behind this place.
    pub(crate) fn upto(limit: u64) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// For who reads nearly all of a part.
    pub(crate) fn through(part: Range<u64>) -> Self {
        let first_page = part.start / PAYLOAD as u64 * PAYLOAD as u64;
        Self { limit: Some(part.end), announced: Some(first_page), ..Self::default() }
    }

    fn end(&self) -> u64 {
        self.offset + self.len as u64
    }

    /// Makes room for so many bytes, in new memory if need be: nothing of what is there is kept. Who goes on reading gets as much as it will
    /// want: it is used only as far as something is read into it.
    fn make_room(&mut self, len: usize) {
        if self.bytes.capacity() < len {
            self.bytes = Vec::new();
            self.bytes.reserve_exact(if self.ahead > 0 { len.max(MOST_AHEAD) } else { len });
        }
    }
}

/// What is read ahead and the pages around it.
const MOST_AHEAD: usize = AHEAD as usize + 2 * PAGE;

/// CRC-32 of the page's number (u64, little endian) and its payload: a page in another's place is noticed.
fn checksum(page: u64, payload: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page.to_le_bytes());
    hasher.update(payload);
    hasher.finalize().to_le_bytes()
}

/// Writes a file from front to back.
pub(crate) struct PageWriter {
    path: PathBuf,
    file: StoreFile,
    /// Whole pages that have not been written yet, then the payload of the current page.
    buffer: Vec<u8>,
    /// Where the current page's payload begins in `buffer`.
    current: usize,
    page: u64,
}

impl PageWriter {
    pub(crate) fn create(files: &Files, path: &Path) -> Result<Self, FileError> {
        let file = files.create(path, false)?;
        Ok(Self { path: path.to_owned(), file, buffer: Vec::new(), current: 0, page: 0 })
    }

    /// Bytes of payload so far: the offset the next byte will have.
    pub(crate) fn offset(&self) -> u64 {
        self.page * PAYLOAD as u64 + (self.buffer.len() - self.current) as u64
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        while !bytes.is_empty() {
            let room = PAYLOAD - (self.buffer.len() - self.current);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() - self.current == PAYLOAD {
                self.close_page();
                if self.buffer.len() >= 32 * PAGE {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    fn close_page(&mut self) {
        let sum = checksum(self.page, &self.buffer[self.current..]);
        self.buffer.extend_from_slice(&sum);
        self.current = self.buffer.len();
        self.page += 1;
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.file.write_all(&self.buffer).map_err(FileError::at("write", &self.path))?;
        self.buffer.clear();
        self.current = 0;
        Ok(())
    }

    /// Writes what is left and makes the file durable.
    pub(crate) fn finish(mut self) -> Result<(), FileError> {
        if self.buffer.len() > self.current {
            self.close_page();
        }
        self.flush()?;
        self.file.sync_all().map_err(FileError::at("sync", &self.path))
    }
}

/// Reads any part of a file; every page that is touched is checked.
pub(crate) struct PageReader {
    path: PathBuf,
    file: StoreFile,
    len: u64,
}

impl PageReader {
    pub(crate) fn open(files: &Files, path: &Path) -> Result<Self, FileError> {
        let file = files.open(path, false)?;
        let physical = file.len().map_err(FileError::at("read", path))?;
        let rest = (physical % PAGE as u64).saturating_sub(CHECKSUM as u64);
        Ok(Self { path: path.to_owned(), file, len: physical / PAGE as u64 * PAYLOAD as u64 + rest })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of payload.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Has the system begin to read a part of the file, in bytes of payload, as far as there is one.
    pub(crate) fn read_ahead(&self, part: Range<u64>) {
        let (start, end) = (part.start.min(self.len), part.end.min(self.len));
        self.file.read_ahead(start / PAYLOAD as u64 * PAGE as u64..end.div_ceil(PAYLOAD as u64) * PAGE as u64);
    }

    /// Reads `len` bytes at `offset`, out of what has been read before if they are there. Who goes through a file gets more than
    /// was asked for into the buffer; damage there does not matter yet.
    pub(crate) fn read_on<'b>(
        &self,
        buffer: &'b mut PageBuffer,
        offset: u64,
        len: usize,
        what: &'static str,
    ) -> Result<&'b [u8], ReadError> {
        let end = offset.saturating_add(len as u64);
        if offset < buffer.offset || end > buffer.end() {
            let onwards = buffer.len > 0 && (buffer.offset..=buffer.end() + AHEAD).contains(&offset);
            // whole pages are read in any case
            let from = offset / PAYLOAD as u64 * PAYLOAD as u64;
            let upto = |end: u64| end.next_multiple_of(PAYLOAD as u64).min(self.len).max(end);
            self.announce(buffer, from..end);
            // of what cannot be read nothing is there afterwards
            (buffer.offset, buffer.len) = (from, 0);
            if onwards {
                buffer.ahead = (buffer.ahead * 2).clamp(FIRST_AHEAD, AHEAD);
            }
            let limit = buffer.limit.map_or(u64::MAX, |limit| limit.max(end));
            let more = upto(end.saturating_add(buffer.ahead).min(limit)) - from;
            let is_read = onwards && self.read_more(buffer, more as usize, what).is_ok();
            if !is_read {
                self.read_more(buffer, (upto(end) - from) as usize, what)?;
            }
        }
        let start = (offset - buffer.offset) as usize;
        Ok(&buffer.bytes[start..start + len])
    }

    /// Has the system begin to read what will be wanted after a part, if all will be.
    fn announce(&self, buffer: &mut PageBuffer, part: Range<u64>) {
        if let (Some(announced), Some(limit)) = (&mut buffer.announced, buffer.limit)
            && part.end.saturating_add(ANNOUNCED / 2) > *announced
            && *announced < limit
        {
            let from = part.start.max(*announced);
            *announced = from.saturating_add(ANNOUNCED);
            self.read_ahead(from..limit.min(*announced));
        }
    }

    /// Reads `len` bytes at `offset`; `what` names them in errors.
    pub(crate) fn read(&self, offset: u64, len: usize, what: &'static str) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let skip = self.read_pages(offset, len, what, &mut bytes)?;
        bytes.truncate(skip + len);
        bytes.drain(..skip);
        Ok(bytes)
    }

    /// Reads `len` bytes from where the buffer begins, which is the beginning of a page.
    fn read_more(&self, buffer: &mut PageBuffer, len: usize, what: &'static str) -> Result<(), ReadError> {
        buffer.make_room(len.div_ceil(PAYLOAD) * PAGE);
        self.read_pages(buffer.offset, len, what, &mut buffer.bytes)?;
        buffer.len = len;
        Ok(())
    }

    /// Reads the pages that `len` bytes at `offset` are in over what is in `bytes`, and gives where in these they begin.
    fn read_pages(&self, offset: u64, len: usize, what: &'static str, bytes: &mut Vec<u8>) -> Result<usize, ReadError> {
        let damaged = || Damaged(what).in_file(&self.path);
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len).ok_or_else(damaged)?;
        if len == 0 {
            return Ok(0);
        }
        let (first, last) = (offset / PAYLOAD as u64, (end - 1) / PAYLOAD as u64);
        let in_last = (self.len - last * PAYLOAD as u64).min(PAYLOAD as u64) as usize;
        let size = (last - first) as usize * PAGE + in_last + CHECKSUM;
        if bytes.len() < size {
            bytes.resize(size, 0);
        }
        let bytes = &mut bytes[..size];
        self.file.read_exact_at(bytes, first * PAGE as u64).map_err(FileError::at("read", &self.path))?;
        let mut to = 0;
        for (at, page) in (first..=last).enumerate() {
            let from = at * PAGE;
            let page_len = if page == last { in_last } else { PAYLOAD };
            let (payload, sum) = bytes[from..from + page_len + CHECKSUM].split_at(page_len);
            if sum != checksum(page, payload) {
                return Err(damaged());
            }
            // payloads move together
            if to < from {
                bytes.copy_within(from..from + page_len, to);
            }
            to += page_len;
        }
        Ok((offset - first * PAYLOAD as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn parts_read_back_and_a_flipped_byte_costs_its_page() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..3 * PAYLOAD + 100).map(|i| (i * i / 7) as u8).collect();
        let mut writer = PageWriter::create(&Files::default(), &path).unwrap();
        for part in bytes.chunks(1000) {
            writer.write(part).unwrap();
        }
        assert_eq!(writer.offset(), bytes.len() as u64);
        writer.finish().unwrap();
        let reader = PageReader::open(&Files::default(), &path).unwrap();
        assert_eq!(reader.len(), bytes.len() as u64);
        for (offset, len) in [(0, 10), (PAYLOAD - 1, 2), (5, 3 * PAYLOAD), (3 * PAYLOAD, 100), (bytes.len(), 0)] {
            assert_eq!(reader.read(offset as u64, len, "x").unwrap(), bytes[offset..offset + len], "{offset} {len}");
        }
        assert!(reader.read(bytes.len() as u64, 1, "x").is_err());
        let mut buffer = PageBuffer::default();
        for (offset, len) in [(0, 10), (10, PAYLOAD), (PAYLOAD + 10, 50), (2, 3), (2 * PAYLOAD, PAYLOAD + 100)] {
            let read = reader.read_on(&mut buffer, offset as u64, len, "x").unwrap();
            assert_eq!(read, &bytes[offset..offset + len], "{offset} {len}");
        }
        assert!(reader.read_on(&mut buffer, bytes.len() as u64 - 1, 2, "x").is_err());
        // what nobody wants is not read ahead
        for (limit, end) in [(PAYLOAD, 1), (PAYLOAD + 1, 2), (3 * PAYLOAD, 3)] {
            let mut buffer = PageBuffer::upto(limit as u64);
            for offset in [0, 10, PAYLOAD - 1] {
                assert_eq!(reader.read_on(&mut buffer, offset as u64, 1, "x").unwrap(), &bytes[offset..=offset]);
                if offset == 10 {
                    buffer.len = 10;
                }
            }
            assert_eq!(buffer.end(), (end * PAYLOAD) as u64);
        }
        let mut buffer = PageBuffer::through(5..bytes.len() as u64);
        for offset in (5..bytes.len() - 7).step_by(1000) {
            assert_eq!(reader.read_on(&mut buffer, offset as u64, 7, "x").unwrap(), &bytes[offset..offset + 7]);
        }
        assert_eq!(buffer.announced, Some(ANNOUNCED), "once, as there is no more");
        // what a damaged index says may be anywhere
        for part in [u64::MAX - 5..u64::MAX, 0..u64::MAX, 7..7] {
            let mut buffer = PageBuffer::through(part);
            assert_eq!(reader.read_on(&mut buffer, 3, 7, "x").unwrap(), &bytes[3..10]);
            assert!(reader.read_on(&mut buffer, u64::MAX - 7, 7, "x").is_err());
        }
        for part in [0..10, PAYLOAD as u64..2 * PAYLOAD as u64 + 5, 7..u64::MAX, u64::MAX - 5..u64::MAX] {
            reader.read_ahead(part);
        }
        let mut stored = fs::read(&path).unwrap();
        stored[PAGE + 17] ^= 1;
        fs::write(&path, &stored).unwrap();
        let reader = PageReader::open(&Files::default(), &path).unwrap();
        assert!(reader.read(PAYLOAD as u64, 1, "x").is_err());
        assert!(reader.read(0, PAYLOAD, "x").is_ok() && reader.read(2 * PAYLOAD as u64, PAYLOAD, "x").is_ok());
        // reading ahead does not meet the damage before it is asked for
        let mut buffer = PageBuffer::default();
        assert!(reader.read_on(&mut buffer, 0, 10, "x").is_ok());
        buffer.len = 10;
        assert!(reader.read_on(&mut buffer, 10, 10, "x").is_ok());
        assert!(reader.read_on(&mut buffer, PAYLOAD as u64, 1, "x").is_err());
    }
}
