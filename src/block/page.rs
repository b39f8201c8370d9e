//! Pages and column chunks of a row group that is being written.
//!
//! A page holds levels and values in one compressed run (data page version 1): levels of deeply nested columns take more
//! room than their values, and version 2 leaves levels uncompressed.

use std::io;

use super::encode;
use super::schema::{Encoding, Leaf, Physical};
use super::thrift::Writer;

/// Numbers of Parquet's enums.
const DATA_PAGE: i32 = 0;
const DICTIONARY_PAGE: i32 = 2;
pub const PLAIN: i32 = 0;
pub const RLE: i32 = 3;
pub const DELTA: i32 = 5;
pub const DELTA_LENGTH: i32 = 6;
pub const DICTIONARY: i32 = 8;

/// Compression of all pages. 1 costs a third of 3 and gains almost as much: see `benches/block.rs`.
const ZSTD_LEVEL: i32 = 1;

/// The values of one page. Nulls are not among them.
pub enum PageValues<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
    F64(&'a [f64]),
    Bool(&'a [bool]),
    /// Codes of the chunk's dictionary.
    Codes(&'a [u32]),
    Bytes(&'a [&'a [u8]]),
}

/// The levels of one page, encoded with their lengths; empty where the column has none.
#[derive(Clone, Copy)]
pub struct PageLevels<'a> {
    pub entries: usize,
    pub rep: &'a [u8],
    pub def: &'a [u8],
}

/// Where a page lies in its chunk.
#[derive(Clone, Copy, Debug)]
pub struct PageAt {
    pub offset: u64,
    pub bytes: u32,
    pub first_row: u64,
}

/// One column of an open row group.
pub struct Chunk {
    pub data: Vec<u8>,
    pub pages: Vec<PageAt>,
    pub entries: u64,
    pub values: u64,
    pub uncompressed: u64,
    /// Smallest and largest value of an integer column.
    pub range: Option<(i64, i64)>,
    pub encoding: i32,
}

/// Compresses pages, one at a time.
pub struct Pages {
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl Chunk {
    pub fn new(leaf: &Leaf) -> Chunk {
        Chunk {
            data: Vec::new(),
            pages: Vec::new(),
            entries: 0,
            values: 0,
            uncompressed: 0,
            range: None,
            encoding: match leaf.encoding {
                Encoding::Plain => PLAIN,
                Encoding::Dictionary => DICTIONARY,
                Encoding::Delta => DELTA,
                Encoding::DeltaLength => DELTA_LENGTH,
            },
        }
    }
}

impl Pages {
    pub fn new() -> io::Result<Pages> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        Ok(Pages { compressor, plain: Vec::new(), packed: Vec::new() })
    }

    /// Appends a data page to a chunk.
    pub fn data(
        &mut self,
        chunk: &mut Chunk,
        first_row: u64,
        levels: PageLevels<'_>,
        values: PageValues<'_>,
    ) -> io::Result<()> {
        self.plain.clear();
        self.plain.extend_from_slice(levels.rep);
        self.plain.extend_from_slice(levels.def);
        chunk.values += put_values(&mut self.plain, chunk, values);
        chunk.entries += levels.entries as u64;
        let encoding = chunk.encoding;
        let offset = chunk.data.len();
        self.put(chunk, DATA_PAGE, |writer| {
            writer.inner(5, |header| {
                header.i32(1, levels.entries as i32);
                header.i32(2, encoding);
                header.i32(3, RLE);
                header.i32(4, RLE);
            });
        })?;
        let bytes = (chunk.data.len() - offset) as u32;
        chunk.pages.push(PageAt { offset: offset as u64, bytes, first_row });
        Ok(())
    }

    /// The dictionary page of a chunk: `plain` are its values in PLAIN encoding. It stands in front of the chunk's data.
    pub fn dictionary(&mut self, chunk: &mut Chunk, plain: &[u8], count: usize) -> io::Result<()> {
        let data = std::mem::take(&mut chunk.data);
        self.plain.clear();
        self.plain.extend_from_slice(plain);
        self.put(chunk, DICTIONARY_PAGE, |writer| {
            writer.inner(7, |header| {
                header.i32(1, count as i32);
                header.i32(2, PLAIN);
            });
        })?;
        let shift = chunk.data.len() as u64;
        chunk.pages.iter_mut().for_each(|page| page.offset += shift);
        chunk.data.extend_from_slice(&data);
        Ok(())
    }

    fn put(
        &mut self,
        chunk: &mut Chunk,
        kind: i32,
        header: impl FnOnce(&mut Writer<'_>),
    ) -> io::Result<()> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        self.compressor.compress_to_buffer(&self.plain, &mut self.packed)?;
        let start = chunk.data.len();
        let mut writer = Writer::new(&mut chunk.data);
        writer.i32(1, kind);
        writer.i32(2, self.plain.len() as i32);
        writer.i32(3, self.packed.len() as i32);
        header(&mut writer);
        writer.end();
        chunk.uncompressed += (chunk.data.len() - start + self.plain.len()) as u64;
        chunk.data.extend_from_slice(&self.packed);
        Ok(())
    }
}

/// Appends encoded values and returns how many.
fn put_values(out: &mut Vec<u8>, chunk: &mut Chunk, values: PageValues<'_>) -> u64 {
    match values {
        PageValues::I32(values) => {
            widen(chunk, values.iter().map(|value| i64::from(*value)));
            match chunk.encoding {
                DELTA => encode::delta_i32(out, values),
                _ => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
            }
            values.len() as u64
        }
        PageValues::I64(values) => {
            widen(chunk, values.iter().copied());
            match chunk.encoding {
                DELTA => encode::delta_i64(out, values),
                _ => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
            }
            values.len() as u64
        }
        PageValues::F64(values) => {
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            values.len() as u64
        }
        PageValues::Bool(values) => {
            encode::bools(out, values);
            values.len() as u64
        }
        PageValues::Codes(codes) => {
            encode::codes(out, codes);
            codes.len() as u64
        }
        PageValues::Bytes(values) => {
            match chunk.encoding {
                DELTA_LENGTH => encode::delta_length(out, values.iter().copied()),
                _ => values.iter().for_each(|value| encode::plain_bytes(out, value)),
            }
            values.len() as u64
        }
    }
}

fn widen(chunk: &mut Chunk, values: impl Iterator<Item = i64>) {
    for value in values {
        let (min, max) = chunk.range.unwrap_or((value, value));
        chunk.range = Some((min.min(value), max.max(value)));
    }
}

impl Physical {
    /// A bound as chunk statistics hold it.
    pub fn bound(self, value: i64) -> Vec<u8> {
        match self {
            Physical::I32 => (value as i32).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        }
    }
}
