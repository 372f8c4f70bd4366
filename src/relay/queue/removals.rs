//! Removes servers that operators have added, once they have none of our jobs any more.

use crate::broker::Hint;
use crate::job::{Event, JobId, Reason};
use crate::relay::Relay;
use crate::relay::backend::operation::Operation;
use crate::relay::backend::{Backend, Lease};
use crate::relay::queue::lost::TakenBack;
use crate::relay::tracker::Tracker;
use crate::store::StoreError;

/// How an operator's word for a server begins in the database.
pub(in crate::relay) const BACKEND: &str = "backend:";

impl Relay {
    /// Removes the servers that are to be removed and have none of our jobs any more. What one still has that is removed at
    /// once counts as lost, and runs again elsewhere. The relay that follows a server does that; the others read it.
    pub(super) async fn finish_removals(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        for backend in tracker.backends.iter().filter(|backend| backend.is_added) {
            let operation = backend.state().operation;
            if !operation.is_removal() || *backend.lease.borrow() != Lease::Held {
                continue;
            }
            if operation == Operation::Discard {
                self.discard_jobs(backend).await?;
            }
            if !tracker.has_work(backend) {
                self.finish_removal(backend).await?;
            }
        }
        Ok(())
    }

    async fn finish_removal(&self, backend: &Backend) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let _changing = tracker.queue.operations.changing.lock().await;
        // An operator may have thought better of it.
        if !backend.state().operation.is_removal() {
            return Ok(());
        }
        let store = tracker.recorder.store();
        store.remove_backend(backend.name()).await?;
        let subject = format!("{BACKEND}{}", backend.name());
        if let Err(error) = store.set_operation(&subject, None).await {
            // It is removed before another server gets this name.
            tracing::debug!(backend = backend.name(), %error, "cannot forget that a server was stopped");
        }
        tracker.broker.hint(Hint::Operations);
        self.0.followers[backend.index].cancel_abandoned();
        self.unfollow(backend);
        Ok(())
    }

    /// Takes back what a backend has. What may not run again has ended.
    async fn discard_jobs(&self, backend: &Backend) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let open: Vec<(JobId, String, bool)> = {
            let registry = tracker.registry();
            let open = registry.open(backend).filter(|entry| entry.is_owned());
            let open = open.map(|entry| &entry.job);
            let open = open.filter_map(|job| {
                let is_discovered = job.tags().are_discovered();
                Some((job.id().clone(), job.prompt_id()?.to_owned(), is_discovered))
            });
            open.collect()
        };
        if open.is_empty() {
            return Ok(());
        }
        for (id, prompt_id, is_discovered) in open {
            let is_back = tracker.take_back(&id).await? == TakenBack::RunsAgain;
            // Another task may have taken it back meanwhile.
            let is_here = || {
                let registry = tracker.registry();
                let mut entry = registry.get(&id).into_iter();
                entry.any(|it| it.is_on(backend) && it.job.prompt_id() == Some(&prompt_id))
            };
            if !is_back && is_here() {
                tracker.ingest(&id, Event::Vanished(Reason::Forgotten));
            }
            // One that another client has handed in goes on there.
            if !is_discovered {
                tracker.abandon(backend, prompt_id);
            }
        }
        self.0.followers[backend.index].cancel_abandoned();
        Ok(())
    }
}

impl Tracker {
    /// Whether a backend has jobs of ours, or one is on its way to it.
    pub(in crate::relay) fn has_work(&self, backend: &Backend) -> bool {
        // In this order: what is on its way is followed before it has arrived.
        self.has_work_under_way(backend) || self.registry().count_open(backend) > 0
    }

    /// Whether a job is on its way to a backend.
    pub(in crate::relay) fn has_work_under_way(&self, backend: &Backend) -> bool {
        let is_awaited = {
            let state = self.queue.state();
            let mut jobs = state.jobs.values();
            state.backends[backend.index].is_busy
                || !state.settling.is_empty()
                || jobs.any(|job| job.claimed_for == Some(backend.index))
        };
        is_awaited || backend.state().queue.in_flight() > 0
    }
}
