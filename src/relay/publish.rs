//! The second half of the path of one event: the state of a job is published.
//!
//! ```text
//! estimate · number · encode ─┬─ Hub::publish        never waits
//!                             ├─ Broker::publish     never waits
//!                             └─ Recorder::record    never waits
//! ```

use std::time::Instant;

use jiff::Timestamp;

use super::registry::{Entry, Publishing, RecordedState};
use super::stored_job;
use super::tracker::Tracker;
use crate::hub::Publication;
use crate::job::{Job, JobId, Progress, Status};

/// How many states of a job may be published that are not recorded: fewer than the numbers that a restart skips.
const MAX_UNRECORDED: u64 = 1_000;

impl Tracker {
    /// Publishes the state of a job as it is now, and records it, if this relay is its owner.
    pub(super) fn publish(&self, entry: &mut Entry) {
        if entry.is_owned() {
            // Before its state is made, which names the copy.
            self.kept.on_ended(&entry.job);
        }
        let progress = self.publish_unrecorded(entry);
        self.record(entry, progress);
    }

    /// Publishes the state of a job again, because time has passed or others before it have ended. Subscribers get it; the
    /// database has nothing new to keep, unless the job has a change that is not recorded yet.
    ///
    /// A crash must make neither the progress nor the number of a state fall: it is recorded if the percentage has changed,
    /// and before as many states are unrecorded as a restart skips numbers.
    pub(super) fn republish(&self, entry: &mut Entry) {
        let progress = self.publish_unrecorded(entry);
        let Publishing {
            is_changed,
            recorded,
            ..
        } = &entry.publishing;
        let is_due = recorded.is_none_or(|recorded| {
            progress.progress != recorded.progress
                || progress.seq.saturating_sub(recorded.seq) >= MAX_UNRECORDED
        });
        if *is_changed || is_due {
            self.record(entry, progress);
        }
    }

    fn record(&self, entry: &mut Entry, progress: Progress) {
        if !entry.is_owned() {
            return;
        }
        entry.publishing.is_changed = false;
        entry.publishing.recorded = Some(RecordedState {
            seq: progress.seq,
            progress: progress.progress,
        });
        self.write(entry, progress);
    }

    /// Records the state that was published last once more.
    pub(super) fn record_again(&self, entry: &mut Entry) {
        let mut progress = entry.job.progress(None, self.now());
        self.place_output(&entry.job, &mut progress);
        self.record(entry, progress);
    }

    fn write(&self, entry: &mut Entry, progress: Progress) {
        let announced = &mut entry.publishing.announced;
        let deliveries = self.webhooks.announce(&entry.job, announced, &progress);
        let writer = (&self.owner, entry.epoch);
        let mut record = stored_job::record(&entry.job, entry.costs.as_ref(), progress, writer);
        record.deliveries = deliveries;
        self.recorder.record(record);
    }

    /// The files of a job were copied, or cannot be: has its final state name what is there, for those who subscribe later,
    /// and in the row of the job. Its number stays: subscribers get the final state once.
    pub(super) async fn place_kept(&self, id: &JobId) {
        let path = {
            let registry = self.registry();
            registry
                .get(id)
                .and_then(|entry| self.kept.main_path(&entry.job))
        };
        let _found = match &path {
            Some(path) => self.kept.look(id, path).await,
            None => None,
        };
        self.kept.finish(id);
        let mut registry = self.registry();
        // One that is not in memory is read from its row again when a client asks for it, and names the copies then.
        if let Some(entry) = registry.get_mut(id) {
            self.replace_end(entry);
        }
    }

    /// Has the final state of a job, as it is now, be the one for those who subscribe later, for other relays, and in its row.
    /// Subscribers that have an end get no other.
    pub(super) fn replace_end(&self, entry: &mut Entry) {
        let now = self.now();
        let estimate = self.estimator.estimate(entry, now);
        let mut progress = entry.job.progress(estimate.remaining_time(), now);
        self.place_output(&entry.job, &mut progress);
        match Publication::encode(&progress, entry.job.outcome()) {
            Ok(publication) => {
                self.share(entry, &publication);
                self.hub.replace(publication);
            }
            Err(error) => {
                tracing::error!(job_id = %entry.job.id(), %error, "cannot encode a state");
            }
        }
        if entry.is_owned() {
            self.write(entry, progress);
        }
    }

    /// Makes the output path of a job one that can be opened, where there is one.
    fn place_output(&self, job: &Job, progress: &mut Progress) {
        self.output_root.place(job, progress);
        self.kept.place(job, progress);
    }

    /// Publishes the state that the row of a job has, under the row's number. `is_change` if an older one was published.
    pub(super) fn publish_row(&self, entry: &mut Entry, updated_at: Timestamp, is_change: bool) {
        let now = self.now();
        let estimate = self.estimator.estimate(entry, now);
        let mut progress = entry.job.progress(estimate.remaining_time(), now);
        progress.timestamp = updated_at;
        self.place_output(&entry.job, &mut progress);
        if is_change {
            self.kept.place_ahead(&entry.job, &mut progress);
        }
        follow_on(&mut progress, self.hub.newest(entry.job.id()).as_deref());
        entry.publishing.published(&progress);
        self.send(&progress, &entry.job, None);
    }

    /// Publishes the state of a job as it is now. Returns what was published.
    pub(super) fn publish_unrecorded(&self, entry: &mut Entry) -> Progress {
        self.update_place(entry);
        let now = self.now();
        let estimate = self.estimator.estimate(entry, now);
        let mut progress = entry
            .job
            .publish(estimate.fraction, estimate.remaining_time(), now);
        self.place_output(&entry.job, &mut progress);
        tracing::debug!(
            job_id = %progress.job_id,
            seq = progress.seq,
            status = progress.status.as_str(),
            progress = progress.progress,
            text = progress.message,
            "published"
        );
        entry.publishing.published(&progress);
        self.estimator.on_published(entry, estimate, &progress, now);
        let event_at = entry.publishing.event_at.take();
        if let Some(publication) = self.send(&progress, &entry.job, event_at) {
            self.share(entry, &publication);
        }
        progress
    }

    /// Sends a state to the subscribers of this relay. Returns what was sent.
    fn send(
        &self,
        progress: &Progress,
        job: &Job,
        event_at: Option<Instant>,
    ) -> Option<Publication> {
        let encoded = Publication::encode(progress, job.outcome());
        let publication = encoded.inspect_err(|error| {
            tracing::error!(job_id = %job.id(), %error, "cannot encode a state");
        });
        let mut publication = publication.ok()?;
        publication.event_at = event_at;
        self.metrics.count_published();
        self.hub.publish(publication.clone());
        self.notify_monitors();
        Some(publication)
    }

    /// Publishes the state of a job that waits again, if somebody follows it and would see a difference.
    pub(super) fn republish_waiting(&self, entry: &mut Entry) {
        if entry.job.status() == Status::Queued
            && self.hub.is_followed(entry.job.id())
            && self.is_outdated(entry)
        {
            self.republish(entry);
        }
    }

    /// Publishes the state of a job for a subscriber that has just come, if it has changed since nobody followed it, or was
    /// forgotten since.
    pub(super) fn refresh(&self, id: &JobId) {
        let mut registry = self.registry();
        match registry.get_mut(id) {
            Some(entry) => {
                if entry.job.status() == Status::Queued && self.is_outdated(entry) {
                    self.republish(entry);
                }
            }
            None => {
                self.reopen(&mut registry, id);
            }
        }
    }

    /// Whether a job that waits has another place or another estimate, in whole seconds, than was published.
    fn is_outdated(&self, entry: &mut Entry) -> bool {
        self.update_place(entry);
        let remaining = self.estimator.estimate(entry, self.now()).remaining_time();
        let shown = remaining.map(|remaining| remaining.whole_seconds());
        entry.publishing.is_stale || shown != entry.publishing.published_remaining
    }
}

/// Gives the end that a row shows a number above that of the `newest` state that subscribers got here: they would take it for an
/// old one. A job whose relay was lost before it wrote it, and that was registered again, counts from the beginning.
pub(super) fn follow_on(end: &mut Progress, newest: Option<&Publication>) {
    if let Some(newest) = newest.filter(|newest| end.status.is_final() && !newest.is_final()) {
        end.seq = end.seq.max(newest.seq + 1);
    }
}
