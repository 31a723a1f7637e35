//! Bodies of answers: counted, or kept for expressions; decompressed and limited.

use std::io::{self, Write};

use crate::config::Compression;

/// Bytes kept for expressions. A body beyond it fails the probe, unless the settings allow for less anyway.
const MAX_KEPT: u64 = 64 << 20;
/// Bytes of a body that is decompressed, however small it came.
const MAX_DECOMPRESSED: u64 = 4 << 30;

/// Where the bytes of a body go.
pub(super) struct BodyReader {
    decoder: Decoder,
}

enum Decoder {
    Plain(Sink),
    Gzip(Box<flate2::write::MultiGzDecoder<Sink>>),
    Deflate(Box<flate2::write::DeflateDecoder<Sink>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink>>),
}

/// What a body was.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Its bytes after decompression, at most the limit.
    pub(super) length: u64,
    /// Them, if they were to be kept.
    pub(super) kept: Vec<u8>,
}

struct Sink {
    body: Body,
    keep: bool,
    limit: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.limit.saturating_sub(self.body.length);
        let taken = usize::try_from(room).map_or(bytes.len(), |room| bytes.len().min(room));
        self.body.length += taken as u64;
        if self.keep {
            self.body.kept.extend_from_slice(&bytes[..taken]);
        }
        if taken < bytes.len() {
            return Err(io::Error::other("http: response body too large"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BodyReader {
    /// `limit` is in bytes after decompression, 0 for none.
    pub(super) fn new(compression: Option<Compression>, limit: u64, keep: bool) -> Self {
        let mut most = if limit == 0 { u64::MAX } else { limit };
        if keep {
            most = most.min(MAX_KEPT);
        }
        if compression.is_some() {
            most = most.min(MAX_DECOMPRESSED);
        }
        let sink = Sink { body: Body::default(), keep, limit: most };
        let decoder = match compression {
            Some(Compression::Gzip) => Decoder::Gzip(Box::new(flate2::write::MultiGzDecoder::new(sink))),
            Some(Compression::Deflate) => Decoder::Deflate(Box::new(flate2::write::DeflateDecoder::new(sink))),
            Some(Compression::Brotli) => {
                Decoder::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(sink, 4096)))
            }
            Some(Compression::Identity | Compression::Unknown) | None => Decoder::Plain(sink),
        };
        Self { decoder }
    }

    /// Takes a part.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.decoder {
            Decoder::Plain(sink) => sink.write_all(bytes),
            Decoder::Gzip(decoder) => decoder.write_all(bytes),
            Decoder::Deflate(decoder) => decoder.write_all(bytes),
            Decoder::Brotli(decoder) => decoder.write_all(bytes),
        }
    }

    /// The body, and whether it ended where it should.
    pub(super) fn finish(self) -> (Body, io::Result<()>) {
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF");
        match self.decoder {
            Decoder::Plain(sink) => (sink.body, Ok(())),
            Decoder::Gzip(mut decoder) => {
                let result = decoder.try_finish().map_err(|_| cut());
                (std::mem::take(&mut decoder.get_mut().body), result)
            }
            Decoder::Deflate(mut decoder) => {
                let result = decoder.try_finish();
                (std::mem::take(&mut decoder.get_mut().body), result)
            }
            Decoder::Brotli(mut decoder) => {
                let result = decoder.close().map_err(|_| cut());
                match decoder.into_inner() {
                    Ok(sink) | Err(sink) => (sink.body, result),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(compression: Option<Compression>, limit: u64, bytes: &[u8]) -> (u64, Vec<u8>, bool) {
        let mut reader = BodyReader::new(compression, limit, true);
        let written = bytes.chunks(7).try_for_each(|part| reader.write(part));
        let (body, finished) = reader.finish();
        (body.length, body.kept, written.is_ok() && finished.is_ok())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_decompressed() {
        let text = b"hello hello hello hello".repeat(10);
        assert_eq!(read(None, 0, &text), (230, text.clone(), true));
        assert_eq!(read(Some(Compression::Gzip), 0, &gzip(&text)), (230, text.clone(), true));
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&text).unwrap();
        assert_eq!(read(Some(Compression::Deflate), 0, &encoder.finish().unwrap()), (230, text.clone(), true));
        // "hi" as an uncompressed meta-block
        assert_eq!(read(Some(Compression::Brotli), 0, &[0x8f, 0, 0x80, b'h', b'i', 0x03]).1, b"hi");
    }

    #[test]
    fn limits_hold_after_decompression() {
        assert_eq!(read(None, 5, b"123456"), (5, b"12345".to_vec(), false));
        assert_eq!(read(None, 6, b"123456"), (6, b"123456".to_vec(), true));
        let bomb = gzip(&vec![0; 10 << 20]);
        let (length, kept, fine) = read(Some(Compression::Gzip), 1000, &bomb);
        assert_eq!((length, kept.len(), fine), (1000, 1000, false));
    }

    #[test]
    fn what_is_not_compressed_or_is_cut_fails() {
        for compression in [Compression::Gzip, Compression::Deflate, Compression::Brotli] {
            assert!(!read(Some(compression), 0, b"this is plain text, that much is sure").2, "{compression:?}");
        }
        let whole = gzip(b"hello");
        assert!(!read(Some(Compression::Gzip), 0, &whole[..whole.len() - 4]).2);
    }
}
