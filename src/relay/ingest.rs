//! The first half of the path of one event: an event changes a job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::backend::Backend;
use super::backend::device_faults::{DeviceEvidence, ran_out_of_memory};
use super::registry::{Entry, Registry};
use super::tracker::Tracker;
use crate::job::{Event, JobId, Status};

/// How long the newest preview of a job is kept after its end. Its outputs show more then.
const PREVIEW_TIME: Duration = Duration::from_secs(10);

impl Tracker {
    /// Applies an event to a job, and publishes the new state: a change of status at once, any other
    /// change throttled. Never waits.
    pub(super) fn ingest(self: &Arc<Self>, id: &JobId, event: Event) {
        self.ingest_locked(&mut self.registry(), id, event);
    }

    /// The same, for a caller that has locked the jobs.
    ///
    /// States are numbered and published under that lock: subscribers get them in order.
    pub(super) fn ingest_locked(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: &JobId,
        event: Event,
    ) {
        self.ingest_received(registry, id, event, None);
    }

    /// The same, with the moment in which ComfyUI's socket brought the event, if it did: the time from there to the
    /// subscribers is measured.
    pub(super) fn ingest_received(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: &JobId,
        event: Event,
        received_at: Option<Instant>,
    ) {
        let Some(entry) = registry.get(id) else {
            return;
        };
        // A place in the queue is nothing to keep: after a restart the queue is read again.
        let is_recorded = !matches!(event, Event::Queued { .. });
        let status_before = entry.job.status();
        let outputs_before = entry.job.outputs().len();
        if !registry.apply(id, event, self.now()) {
            return;
        }
        let Some(entry) = registry.get_mut(id) else {
            return;
        };
        entry.publishing.is_changed |= is_recorded;
        entry.publishing.event_at = entry.publishing.event_at.or(received_at);
        if entry.job.outputs().len() > outputs_before {
            self.check_saved_images(entry, outputs_before);
        }
        let status = entry.job.status();
        if status != status_before {
            log_status(entry);
            self.queue.on_begun(entry);
        }
        if status.is_final() {
            self.learn_from(registry, id);
            self.watch_device(registry, id);
        }
        let Some(entry) = registry.get_mut(id) else {
            return;
        };
        if status.is_final() {
            if status != status_before {
                self.send_end(entry);
            }
            entry.pending_plan.end();
            if self.queue.remove(id) {
                let (tracker, id) = (self.clone(), id.clone());
                self.tasks
                    .spawn(async move { tracker.forget_keys(&id).await });
            }
            self.queue.on_ended(&entry.job);
            // It may be of the relay that had the job before.
            if self.hub.preview(id).is_some() {
                let forget = self.clone().forget_preview(id.clone());
                self.tasks.spawn(forget);
            }
        }
        if status == status_before {
            self.publish_throttled(entry);
        } else {
            self.publish(entry);
        }
    }

    /// Applies where a prompt is in its backend's queue, which thus answers for it. A place that changes for a job that nobody
    /// follows is published when somebody does.
    pub(super) fn ingest_place(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: &JobId,
        event: Event,
    ) {
        let Some(entry) = registry.get(id) else {
            return;
        };
        if entry.job.is_as(&event) {
            return;
        }
        let stays_queued =
            entry.job.status() == Status::Queued && matches!(event, Event::Queued { .. });
        if stays_queued && entry.job.is_reachable() && !self.hub.is_followed(id) {
            registry.apply(id, event, self.now());
            if let Some(entry) = registry.get_mut(id) {
                entry.publishing.is_stale = true;
            }
            return;
        }
        self.ingest_locked(registry, id, Event::Reachable(true));
        self.ingest_locked(registry, id, event);
    }

    /// Brings the place of a job that waits up to date with its backend's queue, which is not followed for a job that nobody
    /// follows. To be called before its state is read.
    pub(super) fn update_place(&self, entry: &mut Entry) {
        let is_placed = entry.job.status() == Status::Queued
            && entry.job.wait().is_none()
            && entry.job.is_reachable()
            && entry.is_owned();
        if is_placed
            && let Some(ahead) = self.estimator.prompts_ahead(entry)
            && (entry.job).apply(Event::Queued { ahead: Some(ahead) }, self.now())
        {
            entry.publishing.is_stale = true;
        }
    }

    /// Forgets the preview of a job that has ended, when subscribers have had the time to read it.
    pub(super) async fn forget_preview(self: Arc<Self>, id: JobId) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(PREVIEW_TIME) => self.hub.forget_preview(&id),
        }
    }

    /// Applies an event to every open job of a backend.
    pub(super) fn ingest_all(self: &Arc<Self>, backend: &Backend, event: &Event) {
        self.ingest_all_locked(&mut self.registry(), backend, event);
    }

    /// The same, for a caller that has locked the jobs.
    pub(super) fn ingest_all_locked(
        self: &Arc<Self>,
        registry: &mut Registry,
        backend: &Backend,
        event: &Event,
    ) {
        let open: Vec<JobId> = registry
            .open(backend)
            .map(|entry| entry.job.id().clone())
            .collect();
        for id in open {
            self.ingest_locked(registry, &id, event.clone());
        }
    }

    /// Scores the estimates of a job that has ended, and learns what its nodes have cost: once for a
    /// prompt, however many jobs follow it.
    fn learn_from(&self, registry: &mut Registry, id: &JobId) {
        if let Some(entry) = registry.get_mut(id) {
            let estimate_log = entry.publishing.estimate_log.as_deref_mut();
            self.metrics.count(&entry.job, estimate_log.as_deref());
            #[cfg(feature = "otel")]
            self.traces.on_ended(&entry.job);
            if let Some(estimate_log) = estimate_log {
                estimate_log.forget_estimates();
            }
        }
        if let Some(entry) = registry.unlearned(id) {
            entry.costs = Some(self.estimator.learning.learn(&entry.job));
        }
    }
}

impl Tracker {
    /// Records what the end of a job shows of the graphics card of its backend.
    fn watch_device(&self, registry: &Registry, id: &JobId) {
        let Some(entry) = registry.get(id) else {
            return;
        };
        if ran_out_of_memory(&entry.job)
            && let Some(backend) = &entry.backend
        {
            backend.state().device.is_out_of_memory = true;
        }
        let (Some(backend), Some(evidence)) = (&entry.backend, DeviceEvidence::of(&entry.job))
        else {
            return;
        };
        let (is_changed, is_sick) = {
            let mut state = backend.state();
            let disconnects = state.socket.disconnects;
            let is_changed = state.device.record(evidence, disconnects);
            (is_changed, state.device.is_sick())
        };
        if is_changed && is_sick {
            tracing::warn!(
                backend = backend.name(),
                "prompts of different graphs fail with a fault of the graphics card, one after another: restart ComfyUI; \
                 submissions go to other servers"
            );
        } else if is_changed {
            tracing::info!(backend = backend.name(), "a prompt has completed again");
        }
    }
}

fn log_status(entry: &Entry) {
    let job = &entry.job;
    let (job_id, prompt_id, status) = (job.id(), job.prompt_id(), job.status().as_str());
    let learned_from = job.end_source().map(|source| source.as_str());
    match job.error() {
        Some(error) => tracing::info!(
            %job_id, prompt_id, status, learned_from,
            code = error.code.as_str(), error = error.message, "job changed",
        ),
        None => tracing::info!(%job_id, prompt_id, status, learned_from, "job changed"),
    }
}
