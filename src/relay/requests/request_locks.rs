//! [`RequestLocks`]: requests that make the same jobs are done one after another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// What is being done, by its name. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(in crate::relay) struct RequestLocks(Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>);

/// Nobody else does what has this name, until it is dropped.
#[derive(Debug)]
pub(in crate::relay) struct RequestLock {
    locks: RequestLocks,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl RequestLocks {
    /// Waits until nobody else does what has this name.
    pub(super) async fn lock(&self, name: String) -> RequestLock {
        let lock = self.lock_all().entry(name.clone()).or_default().clone();
        // Made before it waits: a caller that gives up leaves nothing behind.
        let mut held = RequestLock {
            locks: self.clone(),
            name,
            guard: None,
        };
        held.guard = Some(lock.lock_owned().await);
        held
    }

    fn lock_all(&self) -> MutexGuard<'_, HashMap<String, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestLock {
    fn drop(&mut self) {
        let mut locks = self.locks.lock_all();
        self.guard = None;
        let is_unused = |lock: &Arc<AsyncMutex<()>>| Arc::strong_count(lock) == 1;
        if locks.get(&self.name).is_some_and(is_unused) {
            locks.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_waits_for_another_of_the_same_name_and_nothing_is_left() {
        let locks = RequestLocks::default();
        let first = locks.lock("a".to_owned()).await;
        let other = locks.lock("b".to_owned()).await;
        let mut second = Box::pin(locks.lock("a".to_owned()));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(locks.lock("a".to_owned()));
        assert!((&mut third).now_or_never().is_none());
        drop(third);
        drop(first);
        drop(second.await);
        drop(other);
        assert!(locks.lock_all().is_empty());
    }
}
