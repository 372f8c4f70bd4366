//! Takes back what waits in the queue of a backend that is being drained.

use std::collections::HashMap;

use crate::job::{JobId, Status};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::tracker::Tracker;
use crate::store::StoreError;

impl Relay {
    /// Removes our prompts from the queues of the backends that are being drained. What has begun runs on. A job waits in our
    /// queue again once its prompt is found to be gone.
    pub(super) async fn drain(&self) {
        for backend in self.0.tracker.backends.iter() {
            if backend.stands_by() || !backend.state().operation.drains() {
                continue;
            }
            let prompts = match self.call_back(backend).await {
                Ok(prompts) => prompts,
                Err(error) => {
                    tracing::debug!(backend = backend.name(), %error, "cannot read what waits at a server, retrying");
                    continue;
                }
            };
            if prompts.is_empty() {
                continue;
            }
            // It may have been done all the same: each look repeats it for what still waits.
            if let Err(error) = backend.comfy.rest().delete_waiting(&prompts).await {
                tracing::debug!(backend = backend.name(), %error, "cannot drain a server, retrying");
            }
            backend.reconcile_now.notify_one();
        }
    }

    /// Marks the jobs that wait at a backend and can be handed in again, before their prompts are gone. Returns those.
    async fn call_back(&self, backend: &Backend) -> Result<Vec<String>, StoreError> {
        let tracker = &self.0.tracker;
        let waiting: HashMap<JobId, String> = {
            let registry = tracker.registry();
            let open = registry.open(backend).filter(|entry| entry.is_owned());
            let waiting = open.filter(|entry| {
                let comparison = &entry.comparison;
                entry.job.status() == Status::Queued
                    && comparison.own_client
                    && !comparison.cancel_requested
            });
            let prompts = waiting.filter_map(|entry| {
                Some((entry.job.id().clone(), entry.job.prompt_id()?.to_owned()))
            });
            prompts.collect()
        };
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<JobId> = waiting.keys().cloned().collect();
        let stored = tracker.recorder.store().submissions(&ids).await?;
        let mut registry = tracker.registry();
        let mut called_back = Vec::new();
        for stored in stored {
            let is_here = stored.backend.as_deref() == Some(backend.name());
            // Its keys are gone.
            let can_wait =
                QueuedRequest::unpack(&stored.request).is_ok_and(|request| !request.has_keys);
            let Some(entry) = registry.get_mut(&stored.job_id) else {
                continue;
            };
            let prompt = &waiting[&stored.job_id];
            let is_same = entry.job.prompt_id() == Some(prompt);
            if is_here && can_wait && is_same && entry.job.status() == Status::Queued {
                entry.comparison.is_called_back = true;
                called_back.push(prompt.clone());
            }
        }
        Ok(called_back)
    }
}

impl Tracker {
    /// Whether a job's prompt was removed from the queue of its backend by us, so that it waits in ours again.
    pub(in crate::relay) fn is_called_back(&self, id: &JobId) -> bool {
        let registry = self.registry();
        let entry = registry.get(id);
        entry.is_some_and(|entry| entry.comparison.is_called_back)
    }
}
