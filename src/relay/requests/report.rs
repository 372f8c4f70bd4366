//! Accepts reports of producers that are not ComfyUI.

use crate::job::{Event, Job, JobId, Report};
use crate::relay::{Relay, RelayError};

impl Relay {
    /// Applies a report to its job. The first report registers the job.
    pub async fn report(&self, job_id: &JobId, report: Report) -> Result<(), RelayError> {
        let tracker = &self.0.tracker;
        let exists = tracker.restore_from_store(job_id).await;
        let is_first_or_last = {
            let mut registry = tracker.registry();
            let known = registry.get(job_id);
            let is_new = known.map(|entry| is_new(&entry.job, &report)).transpose()?;
            // One that exists may be forgotten again already.
            if is_new.is_none() {
                if exists || !registry.reserve(job_id) {
                    return Err(RelayError::JobExists(job_id.clone()));
                }
                registry.insert(Job::new(job_id.clone(), tracker.now()), None, 0);
                tracing::info!(%job_id, "job registered by its producer");
            }
            let is_last = report.status.is_final();
            if is_new != Some(false) {
                tracker.ingest_locked(&mut registry, job_id, Event::Reported(report));
            }
            is_new.is_none() || is_last
        };
        if is_first_or_last {
            tracker.await_written(job_id).await;
        }
        Ok(())
    }
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
