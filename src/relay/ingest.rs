//! The way of one event through the relay.

use tokio::time::Instant;

use super::Relay;
use super::registry::{Entry, Registry};
use super::restore;
use crate::hub::Publication;
use crate::job::{Event, JobId, Progress, Status};

impl Relay {
    /// Folds an event into a job and publishes what came of it: changes of status at once, others in
    /// time. Never waits.
    ///
    /// States are numbered and published under the lock of the jobs: subscribers get them in order.
    pub(super) fn ingest(&self, id: &JobId, event: Event) {
        self.ingest_in(&mut self.jobs(), id, event);
    }

    pub(super) fn ingest_in(&self, jobs: &mut Registry, id: &JobId, event: Event) {
        let Some(entry) = jobs.get_mut(id) else {
            return;
        };
        let before = entry.job.status();
        if !entry.job.apply(event, self.now()) {
            return;
        }
        log_change(before, entry);
        if entry.job.status().is_final() {
            self.metrics()
                .count(&entry.job, entry.estimate_log.take().as_deref());
            // A prompt runs once, however many jobs follow it.
            if let Some(first) = jobs.unlearned(id) {
                first.costs = Some(self.learn(&first.job));
            }
        }
        let Some(entry) = jobs.get_mut(id) else {
            return;
        };
        match entry.job.status() == before {
            true => self.publish_throttled(entry),
            false => self.publish(entry),
        }
    }

    /// Publishes the state of a job as it is now, estimated anew, and has it written.
    pub(super) fn publish(&self, entry: &mut Entry) {
        let progress = self.show(entry);
        if self.is_held_by_peer(entry.backend) {
            return;
        }
        entry.recorded =
            self.recorder()
                .record(restore::record(&entry.job, entry.costs.as_ref(), progress));
    }

    /// Shows the state of a job as it is now to its subscribers.
    pub(super) fn show(&self, entry: &mut Entry) -> Progress {
        let now = self.now();
        let estimate = self.estimate(entry, &self.model(), now);
        self.update_forecast(entry, estimate, now);
        let progress = entry
            .job
            .publish(estimate.fraction, estimate.remaining_time(), now);
        entry.published_at = Instant::now();
        entry.flush_at = None;
        entry.published_remaining = progress.estimated_remaining;
        self.log_estimate(entry, estimate, progress.progress, now);
        match Publication::encode(&progress, entry.job.outcome()) {
            Ok(publication) => self.hub().publish(publication),
            Err(error) => {
                tracing::error!(job_id = %entry.job.id(), %error, "a state cannot be encoded");
            }
        }
        self.changed();
        progress
    }
}

fn log_change(before: Status, entry: &Entry) {
    let job = &entry.job;
    let status = job.status();
    if status == before {
        return;
    }
    let (job_id, prompt_id) = (job.id(), job.prompt_id());
    let learned_from = job.end_source().map(|source| source.as_str());
    match job.error() {
        Some(error) => tracing::info!(
            %job_id, prompt_id, status = status.as_str(), learned_from,
            code = error.code.as_str(), error = error.message, "job changed",
        ),
        None => tracing::info!(
            %job_id, prompt_id, status = status.as_str(), learned_from, "job changed",
        ),
    }
}
