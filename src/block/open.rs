//! What a block's footer says: which column lies where.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::ops::Range;

use parquet::basic::{Compression, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;

use super::BlockError;
use super::meta::Meta;
use super::schema::{Physical, plain_path};

/// Bytes at the end of a file: the footer's length and the magic.
pub const TAIL: u64 = 8;
/// A footer larger than this is not read: it would be one of more than 10,000 row groups.
const MAX_FOOTER: u64 = 256 << 20;

/// The columns of a block's file. Every range lies within the file.
#[derive(Debug)]
pub struct Layout {
    pub leaves: Vec<LeafInfo>,
    by_path: HashMap<String, usize>,
    pub groups: Vec<GroupLayout>,
}

#[derive(Debug)]
pub struct LeafInfo {
    pub physical: Physical,
    pub max_rep: u32,
    pub max_def: u32,
}

#[derive(Debug)]
pub struct GroupLayout {
    pub rows: usize,
    /// The number of the group's first row in the file.
    pub first_row: u64,
    pub chunks: Vec<ChunkLayout>,
}

#[derive(Debug)]
pub struct ChunkLayout {
    /// Dictionary and data pages.
    pub range: Range<u64>,
    /// The first data page.
    pub data: u64,
    pub codec: Codec,
    pub entries: usize,
    pub nulls: Option<u64>,
    /// Smallest and largest value of an integer column.
    pub bounds: Option<(i64, i64)>,
    pub offset_index: Option<Range<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Snappy,
    Zstd,
    Unsupported,
}

impl Layout {
    /// The bytes that hold the footer.
    pub fn footer_range(meta: &Meta, tail: Option<&[u8]>) -> Result<Range<u64>, BlockError> {
        let end = meta.size.checked_sub(TAIL).ok_or_else(|| BlockError::truncated(meta))?;
        let len = match tail {
            Some(tail) => {
                let magic = tail.get(4..8) == Some(b"PAR1");
                let len = tail.first_chunk().filter(|_| magic);
                u64::from(
                    len.map(|len| u32::from_le_bytes(*len))
                        .ok_or_else(|| BlockError::truncated(meta))?,
                )
            }
            None => u64::from(meta.footer_size),
        };
        match end.checked_sub(len) {
            Some(start) if len <= MAX_FOOTER => Ok(start..end),
            _ => Err(BlockError::truncated(meta)),
        }
    }

    /// Reads a footer.
    ///
    /// # Errors
    /// When it is damaged, or names bytes outside the file.
    pub fn parse(footer: &[u8], meta: &Meta) -> Result<Layout, BlockError> {
        let damaged = |what: &str| BlockError::footer(meta, what.to_owned());
        let parsed = ParquetMetaDataReader::decode_metadata(footer)
            .map_err(|error| BlockError::footer(meta, error.to_string()))?;
        let schema = parsed.file_metadata().schema_descr();
        let mut by_path = HashMap::new();
        let mut leaves = Vec::new();
        for (at, column) in schema.columns().iter().enumerate() {
            let physical = match column.physical_type() {
                Type::BOOLEAN => Physical::Bool,
                Type::INT32 => Physical::I32,
                Type::INT64 => Physical::I64,
                Type::DOUBLE => Physical::F64,
                Type::BYTE_ARRAY => Physical::Bytes,
                _ => return Err(damaged("a column has an unexpected type")),
            };
            let level =
                |level: i16| u32::try_from(level).map_err(|_| damaged("a level is negative"));
            by_path.insert(plain_path(column.path().parts()), at);
            leaves.push(LeafInfo {
                physical,
                max_rep: level(column.max_rep_level())?,
                max_def: level(column.max_def_level())?,
            });
        }
        let mut groups = Vec::new();
        let mut first_row = 0;
        for group in parsed.row_groups() {
            let rows = usize::try_from(group.num_rows())
                .map_err(|_| damaged("a row count is negative"))?;
            let chunks: Option<Vec<ChunkLayout>> =
                group.columns().iter().map(|column| chunk(column, meta.size)).collect();
            let chunks = chunks.ok_or_else(|| damaged("a column lies outside the file"))?;
            if chunks.len() != leaves.len() {
                return Err(damaged("a row group lacks columns"));
            }
            groups.push(GroupLayout { rows, first_row, chunks });
            first_row += rows as u64;
        }
        Ok(Layout { leaves, by_path, groups })
    }

    /// The position of a leaf, by its path without list wrappers.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let chunks: usize = self.groups.iter().map(|group| group.chunks.len()).sum();
        chunks * size_of::<ChunkLayout>() + self.leaves.len() * 100
    }
}

fn chunk(column: &ColumnChunkMetaData, size: u64) -> Option<ChunkLayout> {
    let data = u64::try_from(column.data_page_offset()).ok()?;
    let dictionary = column.dictionary_page_offset().and_then(|at| u64::try_from(at).ok());
    let start = dictionary.filter(|at| *at > 0 && *at < data).unwrap_or(data);
    let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
    let bounds = match column.statistics() {
        Some(Statistics::Int64(stats)) => stats.min_opt().copied().zip(stats.max_opt().copied()),
        Some(Statistics::Int32(stats)) => {
            stats.min_opt().map(|v| i64::from(*v)).zip(stats.max_opt().map(|v| i64::from(*v)))
        }
        _ => None,
    };
    let within = |range: &Range<u64>| range.start <= range.end && range.end <= size;
    let range = Some(start..end).filter(within)?;
    Some(ChunkLayout {
        data: data.clamp(start, end),
        range,
        codec: match column.compression() {
            Compression::UNCOMPRESSED => Codec::None,
            Compression::SNAPPY => Codec::Snappy,
            Compression::ZSTD(_) => Codec::Zstd,
            _ => Codec::Unsupported,
        },
        entries: usize::try_from(column.num_values()).ok()?,
        nulls: column.statistics().and_then(|stats| stats.null_count_opt()),
        bounds,
        offset_index: column.offset_index_range().filter(within),
    })
}
