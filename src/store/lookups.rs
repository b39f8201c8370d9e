//! What lookups by id leave for the next ones: page positions and dictionaries of row groups, within a share of memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::block::GroupIndex;
use crate::model::BlockId;

/// A cache of row group indexes: the one that was not used for longest goes first.
pub struct Lookups {
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    indexes: HashMap<(BlockId, usize), Entry>,
    bytes: usize,
    /// Counts uses: the higher an entry's number, the later it was used.
    clock: u64,
}

struct Entry {
    index: Arc<GroupIndex>,
    bytes: usize,
    used: u64,
}

impl Lookups {
    pub fn new(most_bytes: usize) -> Lookups {
        Lookups { most_bytes, kept: Mutex::default() }
    }

    pub fn get(&self, block: BlockId, group: usize) -> Option<Arc<GroupIndex>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        let entry = kept.indexes.get_mut(&(block, group))?;
        entry.used = now;
        Some(Arc::clone(&entry.index))
    }

    /// Keeps an index, unless it is too large; others make room.
    pub fn put(&self, block: BlockId, group: usize, index: Arc<GroupIndex>) {
        let bytes = index.memory();
        if bytes > self.most_bytes {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let entry = Entry { index, bytes, used: kept.clock };
        kept.bytes += bytes;
        if let Some(before) = kept.indexes.insert((block, group), entry) {
            kept.bytes -= before.bytes;
        }
        while kept.bytes > self.most_bytes {
            let oldest =
                kept.indexes.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            let Some(gone) = oldest.and_then(|key| kept.indexes.remove(&key)) else { break };
            kept.bytes -= gone.bytes;
        }
    }
}
