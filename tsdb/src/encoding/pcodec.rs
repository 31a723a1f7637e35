//! A column as Pcodec (the `pco` crate) writes it: wrapped format, header, one chunk, one page; the number of values lies
//! elsewhere.

use std::io::Write;

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};

use crate::error::Damaged;

/// Appends a column; `false` (and perhaps some bytes) if Pcodec refuses the values.
pub(crate) fn encode<T: Number>(values: &[T], out: &mut Vec<u8>) -> bool {
    let write = |out: &mut Vec<u8>| -> pco::errors::PcoResult<()> {
        let file = FileCompressor::default();
        file.write_header(&mut *out as &mut dyn Write)?;
        let mut chunk = file.chunk_compressor(values, &ChunkConfig::default())?;
        chunk.write_meta(&mut *out as &mut dyn Write)?;
        chunk.write_page(0, &mut *out as &mut dyn Write)?;
        Ok(())
    };
    write(out).is_ok()
}

/// Reads a column of `count` values and hands them over.
pub(crate) fn decode<T: Number>(bytes: &[u8], count: usize, take: impl FnOnce(&[T])) -> Result<(), Damaged> {
    let read = || -> pco::errors::PcoResult<Vec<T>> {
        let (file, rest) = FileDecompressor::new(bytes)?;
        let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        let mut values = vec![T::default(); count];
        chunk.page_decompressor(rest, count)?.read(&mut values)?;
        Ok(values)
    };
    take(&read().map_err(|_| Damaged("Pcodec column"))?);
    Ok(())
}
