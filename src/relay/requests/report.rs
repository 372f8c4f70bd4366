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
            let entry = registry.get(job_id);
            let is_first = match entry.map(|entry| entry.job.prompt_id().is_some()) {
                Some(true) => return Err(RelayError::NotReportable(job_id.clone())),
                Some(false) => false,
                // One that exists may be forgotten again already.
                None if !exists && registry.reserve(job_id) => {
                    registry.insert(Job::new(job_id.clone(), tracker.now()), None, 0);
                    tracing::info!(%job_id, "job registered by its producer");
                    true
                }
                None => return Err(RelayError::JobExists(job_id.clone())),
            };
            let is_last = report.status.is_final();
            tracker.ingest_locked(&mut registry, job_id, Event::Reported(report));
            is_first || is_last
        };
        if is_first_or_last {
            tracker.await_written(job_id).await;
        }
        Ok(())
    }
}
