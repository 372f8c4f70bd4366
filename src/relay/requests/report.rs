//! Accepts reports of producers that are not ComfyUI.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::broker::Hint;
use crate::job::{Event, Job, JobId, Report, Tags};
use crate::relay::registry::Entry;
use crate::relay::restore::Known;
use crate::relay::tracker::Durability;
use crate::relay::{Relay, RelayError};
use crate::store::StoreError;

/// How long a report of a known job waits for its row. Without an answer, memory decides.
const ROW_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a report is applied that other relays' reports of the same job overtake.
const ATTEMPTS: usize = 3;

impl Relay {
    /// Applies a report to its job. The first report registers the job. A job that another relay has is ours from now on.
    ///
    /// The first report and the last one are on the disk when this returns.
    /// A job that is registered already keeps its tags.
    pub async fn report(
        &self,
        job_id: &JobId,
        report: Report,
        tags: Tags,
    ) -> Result<(), RelayError> {
        let tags = Arc::new(tags);
        let mut durability = Durability::Late;
        for _ in 0..ATTEMPTS {
            self.take_reported(job_id).await?;
            if !self.apply_report(job_id, report.clone(), &tags)? {
                return Ok(());
            }
            durability = self.await_report_written(job_id).await;
            if durability != Durability::Moved {
                break;
            }
            self.read_moved_row(job_id).await?;
        }
        durability.check(job_id)
    }

    /// Waits until the end of a job without a prompt, which was published, is in its row, also where other relays take the job
    /// meanwhile.
    pub(super) async fn await_end_written(&self, job_id: &JobId) -> Result<(), RelayError> {
        let mut durability = self.await_report_written(job_id).await;
        for _ in 1..ATTEMPTS {
            if durability != Durability::Moved {
                break;
            }
            self.read_moved_row(job_id).await?;
            self.take_reported(job_id).await?;
            durability = self.await_report_written(job_id).await;
        }
        durability.check(job_id)
    }

    /// Waits until the newest state of a job without a prompt is in its row. The row of a job that another relay was faster to
    /// take may have been read before the caller asks: then nothing of the job waits to be written, and its end is here alone.
    async fn await_report_written(&self, job_id: &JobId) -> Durability {
        let tracker = &self.0.tracker;
        let durability = tracker.await_written(job_id).await;
        let registry = tracker.registry();
        match registry.get(job_id) {
            Some(entry) if durability == Durability::Written && is_end_lost(entry) => {
                Durability::Moved
            }
            _ => durability,
        }
    }

    /// Another relay was faster than what was to be written here. Its row is the newer one.
    async fn read_moved_row(&self, job_id: &JobId) -> Result<(), RelayError> {
        let tracker = &self.0.tracker;
        let moved = std::slice::from_ref(job_id);
        tracker.read_rows(moved).await?;
        tracker.recorder.forget_moved(moved);
        Ok(())
    }

    /// Makes this relay the owner of a job that is reported to it, if there is such a job. One whose end is here and in no row
    /// is written then.
    pub(super) async fn take_reported(&self, job_id: &JobId) -> Result<(), RelayError> {
        let tracker = &self.0.tracker;
        let held = {
            let registry = tracker.registry();
            let entry = registry.get(job_id);
            entry.map(|entry| (entry.is_owned(), entry.epoch, is_at_its_end(entry)))
        };
        let (is_owned, epoch) = match held {
            Some((_, _, true)) => return Ok(()),
            Some((is_owned, epoch, false)) => (is_owned, epoch),
            None => match tracker.restore_from_store(job_id).await {
                Known::Yes | Known::Unread => (false, 0),
                Known::No => return Ok(()),
                Known::Unreachable(error) => return Err(error.into()),
            },
        };
        let store = tracker.recorder.store();
        if is_owned {
            if tracker.peers.is_alone(Instant::now()) || !tracker.recorder.health().is_connected {
                return Ok(());
            }
            match timeout(ROW_TIMEOUT, store.job(job_id)).await {
                Ok(Ok(Some(row)))
                    if row.owner.as_deref() != Some(tracker.owner.as_str())
                        || row.epoch != epoch => {}
                _ => return Ok(()),
            }
        }
        let has_ended = {
            let registry = tracker.registry();
            let entry = registry.get(job_id);
            entry.is_some_and(is_at_its_end)
        };
        if has_ended {
            return Ok(());
        }
        if !tracker.peers.noticed().await {
            return Err(StoreError::Slow.into());
        }
        if let Some(row) = store.take_reported_job(&tracker.owner, job_id).await? {
            tracker.apply_row(row);
            tracker.broker.hint(Hint::Owner(job_id.clone()));
        }
        Ok(())
    }

    /// Applies a report, and returns whether its caller waits until it is on the disk.
    fn apply_report(
        &self,
        job_id: &JobId,
        report: Report,
        tags: &Arc<Tags>,
    ) -> Result<bool, RelayError> {
        let tracker = &self.0.tracker;
        let mut registry = tracker.registry();
        let known = registry.get(job_id);
        let is_new = known.map(|entry| is_new(&entry.job, &report)).transpose()?;
        if is_new.is_none() {
            if !registry.reserve(job_id) {
                return Err(RelayError::JobExists(job_id.clone()));
            }
            let job = Job::new(job_id.clone(), tracker.now()).tagged(tags.clone());
            registry.insert(job, None, 0);
            tracing::info!(%job_id, "job registered by its producer");
        }
        let is_last = report.status.is_final();
        if is_new != Some(false) {
            tracker.ingest_locked(&mut registry, job_id, Event::Reported(report));
        }
        let entry = registry.get_mut(job_id);
        let is_acknowledged = entry.is_some_and(|entry| {
            entry.reported_at = Instant::now();
            entry.publishing.is_acknowledged
        });
        Ok(is_last || !is_acknowledged)
    }
}

/// Whether a job has ended here alone.
fn is_end_lost(entry: &Entry) -> bool {
    let has_ended = entry.job.status().is_final();
    has_ended && !entry.is_owned() && entry.is_ahead_of_row
}

/// Whether there is nothing to take over: one of which this relay is not the owner may have ended here alone.
fn is_at_its_end(entry: &Entry) -> bool {
    entry.has_ended_in_row() || (entry.is_owned() && entry.job.status().is_final())
}

/// Whether a report is to be applied: `false` for the last one of a job, which its producer repeats because it has not
/// received the answer.
fn is_new(job: &Job, report: &Report) -> Result<bool, RelayError> {
    if job.prompt_id().is_some() {
        return Err(RelayError::NotReportable(job.id().clone()));
    }
    let status = job.status();
    if !status.is_final() {
        return Ok(true);
    }
    if status == report.status {
        return Ok(false);
    }
    Err(RelayError::JobEnded(job.id().clone(), status.as_str()))
}
