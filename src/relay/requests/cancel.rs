//! Cancels a job.

use crate::comfy::Cancellation;
use crate::job::JobId;
use crate::relay::{Relay, RelayError};

impl Relay {
    /// Asks ComfyUI to interrupt a job that runs, or to delete one that waits. The job ends when ComfyUI
    /// reports it.
    pub async fn cancel(&self, job_id: &JobId) -> Result<(), RelayError> {
        let tracker = &self.0.tracker;
        let refuse = |reason| Err(RelayError::NotCancellable(job_id.clone(), reason));
        let (backend, prompt_id) = {
            let registry = tracker.registry();
            let entry = registry
                .get(job_id)
                .ok_or_else(|| RelayError::JobNotFound(job_id.clone()))?;
            if entry.job.status().is_final() {
                return refuse("it has ended");
            }
            if !entry.is_owned()
                && let Some(name) = entry.job.backend()
            {
                let backend = self.backend_named(name);
                let refusal = backend.ok().and_then(|backend| backend.refusal());
                let elsewhere = || RelayError::HeldByPeer(name.to_owned());
                return Err(refusal.unwrap_or_else(elsewhere));
            }
            match (&entry.backend, entry.job.prompt_id()) {
                (Some(backend), Some(prompt)) => (backend.clone(), prompt.to_owned()),
                (None, Some(_)) => return refuse("its ComfyUI server is not configured"),
                (_, None) => return refuse("its producer is not ComfyUI"),
            }
        };
        let cancelled = backend.comfy.rest().cancel(&prompt_id).await;
        let cancelled =
            cancelled.map_err(|source| RelayError::request_failed(backend.name(), source))?;
        if let Some(entry) = tracker.registry().get_mut(job_id) {
            entry.comparison.cancel_requested = cancelled == Cancellation::Requested;
        }
        backend.reconcile_now.notify_one();
        match cancelled {
            Cancellation::Requested => Ok(()),
            Cancellation::NotFound => refuse("ComfyUI has it neither running nor waiting"),
        }
    }
}
