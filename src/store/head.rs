//! A tenant's traces that are in no block: one segment that is filled, and at most one that is being written.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::columns::Bitmap;
use crate::model::TenantId;
use crate::segment::{Copier, Segment};

use super::block::Block;
use super::state::TenantState;

/// A segment that queries read while it is filled.
pub type Shared = Arc<RwLock<Segment>>;

/// Live traces that a query sees: the slots that count, where others have moved on to a newer segment.
#[derive(Clone)]
pub struct Live {
    pub segment: Shared,
    pub only: Option<Arc<Bitmap>>,
}

/// Everything of one tenant.
pub struct Tenant {
    pub id: TenantId,
    pub parts: RwLock<Parts>,
}

/// What a tenant has; replaced part by part, each under a short lock.
pub struct Parts {
    pub active: Shared,
    /// When the first span of `active` came.
    pub opened_nanos: Option<u64>,
    pub sealed: Option<Sealed>,
    pub blocks: Arc<Vec<Arc<Block>>>,
}

/// A segment that is complete: its slots wait to become a block.
#[derive(Clone)]
pub struct Sealed {
    pub tenant: TenantId,
    pub live: Live,
    /// Slots to write, in the order of their ids.
    pub slots: Arc<Vec<usize>>,
    /// What holds once they are in a block.
    pub state: TenantState,
}

/// Which traces a seal leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Those that are neither idle nor too old.
    Idle { idle: Duration, max_age: Duration },
    /// None.
    All,
}

impl Tenant {
    pub fn new(id: TenantId, blocks: Vec<Arc<Block>>) -> Tenant {
        let active = Shared::default();
        let parts = Parts { active, opened_nanos: None, sealed: None, blocks: Arc::new(blocks) };
        Tenant { id, parts: RwLock::new(parts) }
    }

    pub fn read<T>(&self, of: impl FnOnce(&Parts) -> T) -> T {
        of(&self.parts.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn change<T>(&self, of: impl FnOnce(&mut Parts) -> T) -> T {
        of(&mut self.parts.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes the active segment: traces that stay open are copied to a new one. Only the thread that appends may call it,
    /// with the number of the next record.
    pub fn seal(&self, cut: Cut, now_nanos: u64, next_seq: u64) -> Option<Sealed> {
        let active = self.read(|parts| Arc::clone(&parts.active));
        let segment = active.read().unwrap_or_else(PoisonError::into_inner);
        if segment.is_empty() {
            return None;
        }
        let open = open_slots(&segment, cut, now_nanos);
        let mut done = open.clone();
        done.invert();
        if done.is_empty() {
            return None;
        }
        let mut next = Segment::default();
        let mut carried = HashMap::new();
        let mut copier = Copier::new(&segment, &mut next);
        for slot in open.rows() {
            copier.trace(slot);
            carried.insert(segment.traces[slot].id, segment.traces[slot].oldest_seq);
        }
        let mut slots: Vec<usize> = done.rows().collect();
        slots.sort_unstable_by_key(|slot| segment.traces[*slot].id);
        let opened = open.rows().map(|slot| segment.traces[slot].opened_nanos).min();
        drop(segment);
        let sealed = Sealed {
            tenant: self.id.clone(),
            live: Live { segment: active, only: (!carried.is_empty()).then(|| Arc::new(done)) },
            slots: Arc::new(slots),
            state: TenantState { watermark: next_seq, carried },
        };
        self.change(|parts| {
            parts.active = Arc::new(RwLock::new(next));
            parts.opened_nanos = opened;
            parts.sealed = Some(sealed.clone());
        });
        Some(sealed)
    }
}

fn open_slots(segment: &Segment, cut: Cut, now_nanos: u64) -> Bitmap {
    let Cut::Idle { idle, max_age } = cut else { return Bitmap::none(segment.traces.len()) };
    let since = |nanos: u64| Duration::from_nanos(now_nanos.saturating_sub(nanos));
    Bitmap::from_fn(segment.traces.len(), |slot| {
        let trace = &segment.traces[slot];
        since(trace.touched_nanos) < idle && since(trace.opened_nanos) < max_age
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Arrival, sample};

    #[test]
    fn a_seal_splits_the_traces_and_loses_none() {
        let tenant = Tenant::new(TenantId::single(), Vec::new());
        let second = 1_000_000_000;
        let mut dice = sample::Dice(3);
        let active = tenant.read(|parts| Arc::clone(&parts.active));
        for seq in 0..20 {
            let request = sample::request(&mut dice, 60);
            let arrival = Arrival { seq, nanos: seq * second };
            active.write().unwrap().append(&request, arrival, |_| true);
        }
        let before = active.read().unwrap().span_count();
        let cut = Cut::Idle { idle: Duration::from_secs(6), max_age: Duration::from_secs(60) };
        let sealed = tenant.seal(cut, 20 * second, 20).unwrap();
        let old = sealed.live.segment.read().unwrap();
        let next = tenant.read(|parts| Arc::clone(&parts.active));
        let next = next.read().unwrap();
        assert!(!sealed.state.carried.is_empty() && !sealed.slots.is_empty());
        let written: u32 = sealed.slots.iter().map(|slot| old.traces[*slot].spans).sum();
        assert_eq!(written as usize + next.span_count(), before);
        for (slot, trace) in next.traces.iter().enumerate() {
            let from = &old.traces[old.find(&trace.id).unwrap()];
            assert_eq!(sealed.state.carried[&trace.id], from.oldest_seq);
            assert_eq!(
                (trace.oldest_seq, trace.touched_nanos),
                (from.oldest_seq, from.touched_nanos)
            );
            assert_eq!(next.find(&trace.id), Some(slot));
            assert_eq!(next.trace(&trace.id), old.trace(&trace.id));
        }
    }
}
