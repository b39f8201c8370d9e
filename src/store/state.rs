//! What the store remembers of each tenant between runs, and how it is written.
//!
//! A tenant's state says which records of the log are in blocks: all up to `watermark`, but for the spans of carried
//! traces from a certain record on. A flush is announced before its block is written, with the state that holds once the
//! block is there: whether it is, decides at the next start.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;

use crate::model::{BlockId, TenantId, TraceId};

const TENANT: &[u8] = b"tenant/";
const INTENT: &[u8] = b"intent/";
const INDEXED: &[u8] = b"indexed/";
pub const FORMAT: &[u8] = b"format";
pub const FORMAT_VERSION: &[u8] = b"1";

/// How far a tenant's log is in blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantState {
    /// Records below this number are in blocks.
    pub watermark: u64,
    /// Traces that were still open: their spans from a record on are in no block.
    pub carried: HashMap<TraceId, u64>,
}

impl TenantState {
    /// Whether a trace's span in a record still waits for its block.
    pub fn is_pending(&self, seq: u64, trace: &TraceId) -> bool {
        seq >= self.watermark || self.carried.get(trace).is_some_and(|from| seq >= *from)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.watermark.to_le_bytes().to_vec();
        for (trace, from) in &self.carried {
            out.extend_from_slice(&trace.0);
            out.extend_from_slice(&from.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<TenantState> {
        let (watermark, rest) = bytes.split_first_chunk()?;
        let (entries, []) = rest.as_chunks::<24>() else { return None };
        let entry = |entry: &[u8; 24]| {
            let (trace, from) = entry.split_first_chunk()?;
            Some((TraceId(*trace), u64::from_le_bytes(from.try_into().ok()?)))
        };
        let carried = entries.iter().map(entry).collect::<Option<_>>()?;
        Some(TenantState { watermark: u64::from_le_bytes(*watermark), carried })
    }
}

/// An entry of the state: a key and its new value, or none to remove it.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

pub fn tenant_entry(tenant: &TenantId, state: &TenantState) -> Entry {
    ([TENANT, tenant.as_str().as_bytes()].concat(), Some(state.encode()))
}

/// The announcement of a block.
pub fn intent_entry(block: BlockId, tenant: &TenantId, state: &TenantState) -> Entry {
    let value = [tenant.as_str().as_bytes(), &[0], &state.encode()].concat();
    (intent_key(block), Some(value))
}

pub fn no_intent(block: BlockId) -> Entry {
    (intent_key(block), None)
}

fn intent_key(block: BlockId) -> Vec<u8> {
    [INTENT, block.to_string().as_bytes()].concat()
}

/// The note that a block's traces are in the index.
pub fn indexed_entry(block: BlockId) -> Entry {
    ([INDEXED, block.to_string().as_bytes()].concat(), Some(Vec::new()))
}

pub fn tenants_prefix() -> &'static [u8] {
    TENANT
}

pub fn intents_prefix() -> &'static [u8] {
    INTENT
}

pub fn indexed_prefix() -> &'static [u8] {
    INDEXED
}

pub fn read_tenant(key: &[u8], value: &[u8]) -> Option<(TenantId, TenantState)> {
    let name = std::str::from_utf8(key.strip_prefix(TENANT)?).ok()?;
    Some((TenantId::parse(name).ok()?, TenantState::decode(value)?))
}

pub fn read_intent(key: &[u8], value: &[u8]) -> Option<(BlockId, TenantId, TenantState)> {
    let block = BlockId::parse(std::str::from_utf8(key.strip_prefix(INTENT)?).ok()?)?;
    let at = value.iter().position(|byte| *byte == 0)?;
    let (name, state) = value.split_at_checked(at)?;
    let tenant = TenantId::parse(std::str::from_utf8(name).ok()?).ok()?;
    Some((block, tenant, TenantState::decode(state.get(1..)?)?))
}

pub fn read_indexed(key: &[u8]) -> Option<BlockId> {
    BlockId::parse(std::str::from_utf8(key.strip_prefix(INDEXED)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TenantState {
        TenantState { watermark: 7, carried: [(TraceId([3; 16]), 5)].into() }
    }

    #[test]
    fn states_and_intents_come_back() {
        let tenant = TenantId::parse("a").unwrap();
        let (key, value) = tenant_entry(&tenant, &state());
        assert_eq!(read_tenant(&key, &value.unwrap()), Some((tenant.clone(), state())));
        let block = BlockId::random();
        let (key, value) = intent_entry(block, &tenant, &state());
        assert_eq!(read_intent(&key, &value.unwrap()), Some((block, tenant, state())));
        assert_eq!(read_indexed(&indexed_entry(block).0), Some(block));
        assert_eq!(TenantState::decode(b"short"), None);
    }

    #[test]
    fn only_what_no_block_has_is_pending() {
        let (carried, other) = (TraceId([3; 16]), TraceId([4; 16]));
        let pending = |seq, trace| state().is_pending(seq, &trace);
        assert_eq!([4, 5, 6, 7].map(|seq| pending(seq, carried)), [false, true, true, true]);
        assert_eq!([4, 5, 6, 7].map(|seq| pending(seq, other)), [false, false, false, true]);
    }
}
