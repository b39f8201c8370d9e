//! The end of a `data.parquet`: offset indexes and the footer.

use super::page::{Chunk, DICTIONARY, PLAIN, PageAt, RLE};
use super::schema::{Annotation, Kind, Leaf, Logical, Node, Physical, Repetition, Schema};
use super::thrift::{I32, STRUCT, Writer};

/// Codec number of zstd.
const ZSTD: i32 = 6;

/// What is left of a chunk once it is on disk.
pub struct ChunkAt {
    pages: Vec<PageAt>,
    entries: u64,
    values: u64,
    uncompressed: u64,
    range: Option<(i64, i64)>,
    encoding: i32,
    /// Position of the first byte, and of the first data page.
    offset: u64,
    data_offset: u64,
    bytes: u64,
    offset_index: (u64, u32),
}

/// A row group that is on disk.
pub struct RowGroupAt {
    pub rows: u64,
    pub chunks: Vec<ChunkAt>,
}

impl ChunkAt {
    pub fn new(chunk: Chunk, offset: u64) -> ChunkAt {
        let in_file = |page: PageAt| PageAt { offset: page.offset + offset, ..page };
        let pages: Vec<PageAt> = chunk.pages.into_iter().map(in_file).collect();
        ChunkAt {
            data_offset: pages.first().map_or(offset, |page| page.offset),
            pages,
            entries: chunk.entries,
            values: chunk.values,
            uncompressed: chunk.uncompressed,
            range: chunk.range,
            encoding: chunk.encoding,
            offset,
            bytes: chunk.data.len() as u64,
            offset_index: (0, 0),
        }
    }
}

/// Everything behind the row groups, and the length of the footer in it.
pub fn encode(schema: &Schema, mut groups: Vec<RowGroupAt>, end: u64) -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    for chunk in groups.iter_mut().flat_map(|group| &mut group.chunks) {
        let start = out.len();
        offset_index(&mut out, &chunk.pages);
        chunk.offset_index = (end + start as u64, (out.len() - start) as u32);
    }
    let start = out.len();
    file_metadata(&mut out, schema, &groups);
    let len = (out.len() - start) as u32;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(b"PAR1");
    (out, len)
}

fn offset_index(out: &mut Vec<u8>, pages: &[PageAt]) {
    let mut writer = Writer::new(out);
    writer.list(1, STRUCT, pages, |out, page| {
        let mut writer = Writer::new(out);
        writer.i64(1, page.offset as i64);
        writer.i32(2, page.bytes as i32);
        writer.i64(3, page.first_row as i64);
        writer.end();
    });
    writer.end();
}

fn file_metadata(out: &mut Vec<u8>, schema: &Schema, groups: &[RowGroupAt]) {
    let mut nodes = Vec::new();
    collect(&schema.root, &mut nodes);
    let rows: u64 = groups.iter().map(|group| group.rows).sum();
    let mut writer = Writer::new(out);
    writer.i32(1, 2);
    writer.list(2, STRUCT, &nodes, schema_element);
    writer.i64(3, rows as i64);
    writer.list(4, STRUCT, groups, |out, group| row_group(out, schema, group));
    writer.bytes(6, concat!("metronome ", env!("CARGO_PKG_VERSION")).as_bytes());
    writer.list(7, STRUCT, &schema.leaves, |out, _| {
        let mut writer = Writer::new(out);
        writer.inner(1, |_| {});
        writer.end();
    });
    writer.end();
}

fn collect<'a>(node: &'a Node, out: &mut Vec<(&'a Node, bool)>) {
    out.push((node, out.is_empty()));
    if let Kind::Group { children, .. } = &node.kind {
        children.iter().for_each(|child| collect(child, out));
    }
}

fn schema_element(out: &mut Vec<u8>, (node, is_root): &(&Node, bool)) {
    let mut writer = Writer::new(out);
    if let Kind::Leaf { physical, .. } = &node.kind {
        writer.i32(1, *physical as i32);
    }
    if !is_root {
        let repetition = match node.repetition {
            Repetition::Required => 0,
            Repetition::Optional => 1,
            Repetition::Repeated => 2,
        };
        writer.i32(3, repetition);
    }
    writer.bytes(4, node.name.as_bytes());
    match &node.kind {
        Kind::Group { annotation, children } => {
            writer.i32(5, children.len() as i32);
            let numbers = match annotation {
                Some(Annotation::Map) => Some((1, 2)),
                Some(Annotation::List) => Some((3, 3)),
                None => None,
            };
            if let Some((converted, logical)) = numbers {
                writer.i32(6, converted);
                writer.inner(10, |union| union.inner(logical, |_| {}));
            }
        }
        Kind::Leaf { logical, .. } => logical_type(&mut writer, *logical),
    }
    writer.end();
}

fn logical_type(writer: &mut Writer<'_>, logical: Logical) {
    match logical {
        Logical::None => {}
        Logical::String => {
            writer.i32(6, 0);
            writer.inner(10, |union| union.inner(1, |_| {}));
        }
        Logical::Int { bits, signed } => {
            let converted = match (bits, signed) {
                (32, false) => 13,
                (64, false) => 14,
                (32, true) => 17,
                _ => 18,
            };
            writer.i32(6, converted);
            writer.inner(10, |union| {
                union.inner(10, |int| {
                    int.byte(1, bits);
                    int.bool(2, signed);
                });
            });
        }
    }
}

fn row_group(out: &mut Vec<u8>, schema: &Schema, group: &RowGroupAt) {
    let columns: Vec<(&Leaf, &ChunkAt)> = schema.leaves.iter().zip(&group.chunks).collect();
    let mut writer = Writer::new(out);
    writer.list(1, STRUCT, &columns, |out, (leaf, chunk)| column_chunk(out, leaf, chunk));
    writer.i64(2, group.chunks.iter().map(|chunk| chunk.uncompressed as i64).sum());
    writer.i64(3, group.rows as i64);
    writer.i64(5, group.chunks.first().map_or(0, |chunk| chunk.offset as i64));
    writer.i64(6, group.chunks.iter().map(|chunk| chunk.bytes as i64).sum());
    writer.end();
}

fn column_chunk(out: &mut Vec<u8>, leaf: &Leaf, chunk: &ChunkAt) {
    let mut writer = Writer::new(out);
    writer.i64(2, 0);
    writer.inner(3, |meta| column_metadata(meta, leaf, chunk));
    writer.i64(4, chunk.offset_index.0 as i64);
    writer.i32(5, chunk.offset_index.1 as i32);
    writer.end();
}

fn column_metadata(meta: &mut Writer<'_>, leaf: &Leaf, chunk: &ChunkAt) {
    let dictionary = chunk.encoding == DICTIONARY;
    let encodings: &[i32] =
        if dictionary { &[PLAIN, RLE, DICTIONARY] } else { &[RLE, chunk.encoding] };
    meta.i32(1, leaf.physical as i32);
    meta.list(2, I32, encodings, |out, encoding| {
        super::encode::put_zigzag(out, i64::from(*encoding));
    });
    meta.list(3, super::thrift::BINARY, &leaf.path, |out, part| {
        super::encode::put_varint(out, part.len() as u64);
        out.extend_from_slice(part.as_bytes());
    });
    meta.i32(4, ZSTD);
    meta.i64(5, chunk.entries as i64);
    meta.i64(6, chunk.uncompressed as i64);
    meta.i64(7, chunk.bytes as i64);
    meta.i64(9, chunk.data_offset as i64);
    if dictionary {
        meta.i64(11, chunk.offset as i64);
    }
    meta.inner(12, |stats| {
        stats.i64(3, (chunk.entries - chunk.values) as i64);
        // Unsigned columns order otherwise from 2^63 on: then there are no bounds.
        if let (Some((min @ 0.., max)), Physical::I32 | Physical::I64) =
            (chunk.range, leaf.physical)
        {
            stats.bytes(5, &leaf.physical.bound(max));
            stats.bytes(6, &leaf.physical.bound(min));
        }
    });
}
