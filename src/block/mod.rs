//! Blocks in Tempo's Parquet format: writing them from segments, reading them column by column.
//!
//! Nothing here does I/O: a writer is given a sink, a scan names the bytes it needs and is fed them.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions in a row group are u32 by construction; bytes are cut on purpose"
)]

pub mod bloom;
mod decode;
mod encode;
mod find;
mod footer;
mod group;
mod levels;
mod meta;
pub mod names;
mod open;
mod page;
mod read;
mod scan;
mod schema;
mod shred;
mod thrift;
mod time;
mod unsupported;
mod write;

pub use decode::Corrupt;
pub use find::{Find, FindStep, GroupIndex};
pub use meta::{Dedicated, DedicatedScope, DedicatedType, Meta, MetaError, Version};
pub use open::Layout;
pub use scan::{Scan, Step};
pub use write::{WriteOptions, Written, write};

use thiserror::Error;

/// Why a block cannot be read. The block is named: the others go on.
#[derive(Debug, Error)]
pub enum BlockError {
    #[error(
        "block {block}: the file of {size} bytes ends before or within its footer; it was cut short or meta.json is wrong"
    )]
    Truncated { block: String, size: u64 },
    #[error("block {block}: the footer is damaged: {what}")]
    Footer { block: String, what: String },
    #[error("block {block}: column {column} of row group {group} is damaged")]
    Column {
        block: String,
        column: String,
        group: usize,
        #[source]
        source: Corrupt,
    },
    #[error("block {block}: {what}")]
    Meta { block: String, what: String },
}

impl BlockError {
    fn truncated(meta: &Meta) -> BlockError {
        BlockError::Truncated { block: meta.block_id.clone(), size: meta.size }
    }

    fn column(meta: &Meta, column: &str, group: usize, source: Corrupt) -> BlockError {
        let block = meta.block_id.clone();
        BlockError::Column { block, column: column.to_owned(), group, source }
    }

    fn footer(meta: &Meta, what: String) -> BlockError {
        BlockError::Footer { block: meta.block_id.clone(), what }
    }
}

#[cfg(test)]
mod tests;
