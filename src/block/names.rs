//! What a block can tell without a scan: its trace ids, and the names of attributes in it.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use bytes::Bytes;

use crate::model::TraceId;
use crate::segment::Owner as Of;

use super::BlockError;
use super::group::{GroupReader, dedicated_names};
use super::meta::{DedicatedScope, Meta};
use super::open::Layout;
use super::read::Column;
use super::scan::trace_id;

const OWNERS: [(Of, &str); 5] = [
    (Of::Resource, "rs.Resource"),
    (Of::Scope, "rs.ss.Scope"),
    (Of::Span, "rs.ss.Spans"),
    (Of::Event, "rs.ss.Spans.Events"),
    (Of::Link, "rs.ss.Spans.Links"),
];

/// The bytes that [`ids`] needs.
pub fn id_ranges(layout: &Layout, meta: &Meta) -> Result<Vec<Range<u64>>, BlockError> {
    let leaf = GroupReader::leaf(layout, meta, "TraceID")?;
    let chunks = layout.groups.iter().filter_map(|group| group.chunks.get(leaf));
    Ok(chunks.map(|chunk| chunk.range.clone()).collect())
}

/// All trace ids, in the order of the rows.
pub fn ids(layout: &Layout, meta: &Meta, bytes: &[Bytes]) -> Result<Vec<TraceId>, BlockError> {
    let leaf = GroupReader::leaf(layout, meta, "TraceID")?;
    let mut ids = Vec::new();
    for (at, (group, bytes)) in layout.groups.iter().zip(bytes).enumerate() {
        let Some((chunk, info)) = group.chunks.get(leaf).zip(layout.leaves.get(leaf)) else {
            continue;
        };
        let column = Column::read(chunk, info, bytes);
        let column = column.map_err(|source| BlockError::column(meta, "TraceID", at, source))?;
        ids.extend((0..column.entries).map(|row| trace_id(column.bytes(row))));
    }
    Ok(ids)
}

/// The bytes that [`names`] needs: the dictionaries of all keys, a row group after the other.
pub fn key_ranges(layout: &Layout, meta: &Meta) -> Result<Vec<Range<u64>>, BlockError> {
    let mut ranges = Vec::new();
    for group in &layout.groups {
        for (_, path) in OWNERS {
            let leaf = GroupReader::leaf(layout, meta, &format!("{path}.Attrs.Key"))?;
            if let Some(chunk) = group.chunks.get(leaf) {
                ranges.push(chunk.range.start..chunk.data);
            }
        }
    }
    Ok(ranges)
}

/// The names of attributes that occur, with those who have them; names may come more than once.
pub fn names(
    layout: &Layout,
    meta: &Meta,
    bytes: &[Bytes],
) -> Result<Vec<(Of, String)>, BlockError> {
    let mut names = vec![(Of::Resource, "service.name".to_owned())];
    let mut bytes = bytes.iter();
    for (at, group) in layout.groups.iter().enumerate() {
        for (owner, path) in OWNERS {
            let path = format!("{path}.Attrs.Key");
            let leaf = GroupReader::leaf(layout, meta, &path)?;
            let found = group.chunks.get(leaf).zip(layout.leaves.get(leaf)).zip(bytes.next());
            let Some(((chunk, info), bytes)) = found else { continue };
            let dictionary = Column::dictionary(chunk, info, bytes);
            let dictionary =
                dictionary.map_err(|source| BlockError::column(meta, &path, at, source))?;
            if let Some(keys) = dictionary {
                names.extend((0..keys.len()).map(|at| (owner, keys.str(at).to_owned())));
            }
        }
        for (owner, scope, path) in [
            (Of::Resource, DedicatedScope::Resource, "rs.Resource"),
            (Of::Span, DedicatedScope::Span, "rs.ss.Spans"),
            (Of::Event, DedicatedScope::Event, "rs.ss.Spans.Events"),
        ] {
            for (name, column) in dedicated_names(meta, scope) {
                let leaf = layout.find(&format!("{path}.{column}"));
                let used = leaf.and_then(|leaf| group.chunks.get(leaf)).is_some_and(|chunk| {
                    chunk.nulls.is_none_or(|nulls| nulls < chunk.entries as u64)
                });
                if used {
                    names.push((owner, name));
                }
            }
        }
    }
    Ok(names)
}
