//! Memory of requests that are not yet durable: accounted before it is used, freed by dropping the
//! permit.
//!
//! Whoever waits here is a sender: for a short while, then it is told to come back.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long a request waits for memory. Shorter than any sender's timeout, longer than an append.
const WAIT: Duration = Duration::from_millis(200);

/// Bounds of the hint when to come back: SDKs give up 10 s after their first try, so it has to be
/// short.
const SHORTEST_HINT: Duration = Duration::from_millis(200);
const LONGEST_HINT: Duration = Duration::from_secs(1);

/// Part of a hint by which it varies, so that senders that were told together do not return
/// together.
const JITTER: f64 = 0.2;

/// The bytes that requests may hold together.
#[derive(Debug)]
pub struct Limit {
    free: Arc<Semaphore>,
    total: u64,
    jitter: RandomState,
    hints: AtomicU64,
}

/// Memory for one request. Dropping it gives the memory back.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<Limit>,
    held: OwnedSemaphorePermit,
}

/// There is no memory now; there may be after `retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub retry: Duration,
}

impl Limit {
    #[must_use]
    pub fn new(total: u64) -> Arc<Limit> {
        let slots = usize::try_from(total).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Limit {
            free: Arc::new(Semaphore::new(slots)),
            total: slots as u64,
            jitter: RandomState::new(),
            hints: AtomicU64::new(0),
        })
    }

    /// Bytes held by requests now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free.available_permits() as u64)
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Waits a short while for memory. Who asks for more than there is gets all: no request is too
    /// large to pass.
    ///
    /// # Errors
    /// When the memory did not become free.
    pub async fn permit(self: &Arc<Limit>, bytes: u64) -> Result<Permit, Full> {
        let held = self.take(bytes.min(self.total)).await?;
        Ok(Permit { limit: Arc::clone(self), held })
    }

    async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Full> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(held) = Arc::clone(&self.free).try_acquire_many_owned(count) {
            return Ok(held);
        }
        match timeout(WAIT, Arc::clone(&self.free).acquire_many_owned(count)).await {
            Ok(Ok(held)) => Ok(held),
            _ => Err(Full { retry: self.hint() }),
        }
    }

    /// When to come back: later the fuller it is.
    #[must_use]
    pub fn hint(&self) -> Duration {
        let count = self.hints.fetch_add(1, Ordering::Relaxed);
        let random = self.jitter.hash_one(count);
        hint(ratio(self.used(), self.total), ratio(random, u64::MAX))
    }
}

impl Permit {
    /// Asks for more, up to `bytes` in all. Keeps what it has if that is more.
    ///
    /// # Errors
    /// When the memory did not become free; the permit then holds what it held.
    pub async fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        let more = bytes.min(self.limit.total).saturating_sub(self.bytes());
        if more > 0 {
            self.held.merge(self.limit.take(more).await?);
        }
        Ok(())
    }

    /// Gives back what is over `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let over = self.bytes().saturating_sub(bytes);
        drop(self.held.split(usize::try_from(over).unwrap_or(usize::MAX)));
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.held.num_permits() as u64
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// `fill` and `random` are between 0 and 1.
fn hint(fill: f64, random: f64) -> Duration {
    let middle = SHORTEST_HINT + (LONGEST_HINT - SHORTEST_HINT).mul_f64(fill.clamp(0.0, 1.0));
    middle
        .mul_f64(1.0 + JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0))
        .clamp(SHORTEST_HINT, LONGEST_HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_held_until_the_permit_is_dropped() {
        let limit = Limit::new(100);
        let mut first = limit.permit(60).await.unwrap();
        let second = limit.permit(40).await.unwrap();
        assert_eq!(limit.used(), 100);
        drop(second);
        first.grow_to(90).await.unwrap();
        first.grow_to(10).await.unwrap();
        assert_eq!((first.bytes(), limit.used()), (90, 90));
        first.shrink_to(5);
        assert_eq!((first.bytes(), limit.used()), (5, 5));
        drop(first);
        assert_eq!(limit.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_memory_is_told_when_to_come_back() {
        let limit = Limit::new(100);
        let mut held = limit.permit(1000).await.unwrap();
        assert_eq!(held.bytes(), 100);
        held.grow_to(5000).await.unwrap();
        let Err(Full { retry }) = limit.permit(1).await else { panic!("there is no memory") };
        assert!(retry >= SHORTEST_HINT && retry <= LONGEST_HINT, "{retry:?}");
        let free = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let (waited, ()) = tokio::join!(limit.permit(1), free);
        assert!(waited.is_ok());
        drop(waited);
        assert_eq!(limit.used(), 0);
    }

    #[test]
    fn hints_grow_with_the_fill_and_vary() {
        let millis = |fill, random| hint(fill, random).as_millis();
        assert_eq!((millis(0.0, 0.5), millis(0.5, 0.5), millis(1.0, 0.5)), (200, 600, 1000));
        assert_eq!((millis(0.5, 0.0), millis(0.5, 1.0)), (480, 720));
        assert_eq!((millis(0.0, 0.0), millis(9.0, 1.0)), (200, 1000));
    }
}
