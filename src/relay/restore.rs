//! Jobs continue after a restart, and after the relay that followed their backend is gone.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use super::tracker::Tracker;
use crate::job::{Event, Job, JobId, Status, StoredJob};

/// The disconnect counter of a job from before the start: whether its server was restarted since then is
/// unknown.
const BEFORE_THE_START: u64 = u64::MAX;

impl Tracker {
    /// Learns what nodes have cost, and restores every job that has not ended. Returns whether the
    /// database answered all that.
    pub(super) async fn restore(self: &Arc<Self>) -> bool {
        self.count_stored().await;
        let store = self.recorder.store();
        let learning = &self.estimator.learning;
        let has_learned = learning.replay_stored_runs(store, &self.backends).await;
        let open = match store.open_jobs().await {
            Ok(open) => open,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "cannot read the open jobs from the database");
                return false;
            }
        };
        if open.is_empty() {
            return has_learned;
        }
        tracing::info!(jobs = open.len(), "restoring open jobs from the database");
        let ids: Vec<JobId> = open.iter().map(|stored| stored.id.clone()).collect();
        for stored in open {
            self.restore_job(stored);
        }
        // If the relay crashed at once, the next start would count states from the same number again.
        if let Some(last) = ids.last() {
            self.await_written(last).await;
        }
        has_learned
    }

    /// Counts the ended jobs in the database that are not in memory.
    pub(super) async fn count_stored(&self) {
        let counted = match self.recorder.store().count_ended().await {
            Ok(counted) => counted,
            Err(error) => {
                let error = &error as &dyn Error;
                return tracing::debug!(error, "cannot count the jobs in the database");
            }
        };
        let mut registry = self.registry();
        let mut in_memory: HashMap<Status, usize> = HashMap::new();
        for entry in registry.iter() {
            let recorded = entry.publishing.recorded;
            if self.recorder.is_written(entry.job.id(), recorded) {
                *in_memory.entry(entry.job.status()).or_default() += 1;
            }
        }
        let others = counted.into_iter().map(|(status, count)| {
            let known = in_memory.get(&status).copied().unwrap_or_default();
            (status, count.saturating_sub(known))
        });
        registry.stored = others.collect();
        drop(registry);
        self.notify_monitors();
    }

    /// Restores a job, unless it is known. Returns whether it is known now.
    pub(super) fn restore_job(&self, stored: StoredJob) -> bool {
        let id = stored.id.clone();
        let mut registry = self.registry();
        if !registry.reserve(&id) {
            return registry.get(&id).is_some();
        }
        let mut backends = self.backends.iter();
        let backend = backends.find(|backend| Some(backend.name()) == stored.backend.as_deref());
        if let Some(name) = &stored.backend
            && backend.is_none()
            && !stored.status.is_final()
        {
            tracing::warn!(job_id = %id, backend = name, "the job's backend is not configured any more");
        }
        let is_held_by_peer = backend.is_some_and(|backend| backend.is_held_by_peer());
        if is_held_by_peer && !stored.status.is_final() {
            // The relay that follows the backend publishes it.
            registry.release(&id);
            return false;
        }
        let mut job = Job::restored(stored);
        if job.prompt_id().is_some() {
            let reachable = backend.is_some_and(|backend| backend.state().api.reachable);
            job.apply(Event::Reachable(reachable), self.now());
        }
        let has_ended = job.status().is_final();
        registry.insert(job, backend.cloned(), BEFORE_THE_START);
        if let Some(entry) = registry.get_mut(&id) {
            if has_ended {
                self.publish_unrecorded(entry);
            } else {
                // Recorded with its new number, from which the next restart continues.
                self.publish(entry);
            }
        }
        true
    }

    /// Restores a job that may be in the store. Returns whether it is known now.
    pub(super) async fn restore_from_store(&self, id: &JobId) -> bool {
        // A known job is newer than its row, and known also while the database is away.
        if self.registry().get(id).is_some() {
            return true;
        }
        match self.recorder.store().job(id).await {
            Ok(Some(stored)) => self.restore_job(stored),
            Ok(None) => false,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot read a job from the database");
                false
            }
        }
    }
}
