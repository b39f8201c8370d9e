//! The write-ahead log: what is in it, by whom it is written, and how it is read again.
//!
//! A record is one request as it came, compressed. Records are numbered without end and lie in epochs; an epoch is dropped
//! whole once all its spans are in durable blocks.

mod record;

use std::sync::Arc;

use thiserror::Error;

use crate::kv::{Kv, KvError};

pub use record::{Record, RecordError, decode, encode};

/// The log. One thread appends; any may read.
pub struct Wal {
    kv: Arc<Kv>,
    epoch: u64,
    next_seq: u64,
    sync: bool,
}

#[derive(Debug, Error)]
pub enum WalError {
    #[error(transparent)]
    Kv(#[from] KvError),
}

impl Wal {
    /// Opens the log behind the last record, in a fresh epoch. `least_seq` is the first number that was never used.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(kv: Arc<Kv>, least_seq: u64, sync: bool) -> Result<Wal, WalError> {
        let epochs = kv.epochs();
        let last =
            epochs.iter().filter_map(|epoch| kv.bounds(*epoch)).map(|(_, last)| last + 1).max();
        let epoch = epochs.last().map_or(1, |last| last + 1);
        kv.create_epoch(epoch)?;
        Ok(Wal { kv, epoch, next_seq: last.unwrap_or_default().max(least_seq), sync })
    }

    /// The number that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Appends encoded records as one group and returns the number of the first. They are durable then, if the log syncs.
    ///
    /// # Errors
    /// When the group was not written: none of it may be acknowledged, and its numbers are not used again.
    pub fn append(&mut self, records: Vec<Vec<u8>>) -> Result<u64, WalError> {
        let first = self.next_seq;
        let numbered: Vec<(u64, Vec<u8>)> = (first..).zip(records).collect();
        self.next_seq += numbered.len() as u64;
        self.kv.append(self.epoch, &numbered, self.sync)?;
        Ok(first)
    }

    /// Begins a new epoch: what was appended before can then be dropped apart from what comes.
    pub fn seal(&mut self) -> Result<(), WalError> {
        self.kv.create_epoch(self.epoch + 1)?;
        self.epoch += 1;
        Ok(())
    }
}

/// Drops the epochs of which every record is below a number. The newest epoch stays.
///
/// # Errors
/// When the store refuses; dropping is then tried again by the next call.
pub fn drop_below(kv: &Kv, seq: u64) -> Result<(), WalError> {
    let epochs = kv.epochs();
    for epoch in epochs.iter().rev().skip(1) {
        if kv.bounds(*epoch).is_none_or(|(_, last)| last < seq) {
            kv.drop_epoch(*epoch)?;
        }
    }
    Ok(())
}

/// Calls `each` with all records below a number, in order, until it returns false.
///
/// # Errors
/// When the store cannot be read.
pub fn replay(
    kv: &Kv,
    below: u64,
    mut each: impl FnMut(u64, Result<Record<'_>, RecordError>) -> bool,
) -> Result<(), WalError> {
    for epoch in kv.epochs() {
        let mut more = true;
        kv.records(epoch, |seq, bytes| {
            more = seq < below && each(seq, decode(bytes));
            more
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}
