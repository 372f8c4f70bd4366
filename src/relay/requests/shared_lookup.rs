//! One look-up of a job for all who ask for it at the same time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::job::JobId;
use crate::relay::RelayError;

/// Whether a job is known now, for all who asked.
type Found = Result<(), Arc<RelayError>>;

/// A look-up that several may wait for.
type Lookup = Shared<BoxFuture<'static, Found>>;

/// The look-ups that run, by job. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub(in crate::relay) struct SharedLookups(
    Arc<Mutex<HashMap<JobId, WeakShared<BoxFuture<'static, Found>>>>>,
);

/// Removes a look-up that has ended, or whose last caller has gone.
struct Running(SharedLookups, JobId);

impl SharedLookups {
    /// The look-up of a job that runs; `start` makes a new one if there is none.
    pub(super) fn share<F>(&self, job: &JobId, start: impl FnOnce() -> F) -> Lookup
    where
        F: Future<Output = Result<(), RelayError>> + Send + 'static,
    {
        let mut lookups = self.lock();
        if let Some(lookup) = lookups.get(job).and_then(WeakShared::upgrade) {
            return lookup;
        }
        let (running, found) = (Running(self.clone(), job.clone()), start());
        let lookup = async move {
            let _running = running;
            found.await.map_err(Arc::new)
        };
        let lookup = lookup.boxed().shared();
        if let Some(weak) = lookup.downgrade() {
            lookups.insert(job.clone(), weak);
        }
        lookup
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, WeakShared<BoxFuture<'static, Found>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self(lookups, job) = self;
        lookups.lock().remove(job);
    }
}

impl fmt::Debug for SharedLookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLookups").finish_non_exhaustive()
    }
}
