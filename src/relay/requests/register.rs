//! Registers a job for a prompt that another client has submitted.

use std::sync::Arc;

use uuid::Uuid;

use crate::comfy::WrongInput;
use crate::job::JobId;
use crate::relay::tracker::Tracker;
use crate::relay::{Relay, RelayError};

/// A job that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The job.
    pub job_id: JobId,
    /// ComfyUI's id for it.
    pub prompt_id: String,
    /// The name of the backend that runs it.
    pub backend: String,
    /// ComfyUI has not answered yet: the job waits for it.
    pub is_unanswered: bool,
    /// Inputs because of which ComfyUI ignores some outputs; the other outputs of the graph are valid.
    pub ignored: Vec<WrongInput>,
}

/// A reserved job id. Frees it when dropped, unless the job was registered.
pub(in crate::relay) struct Reservation {
    tracker: Arc<Tracker>,
    pub(in crate::relay) id: JobId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.tracker.registry().release(&self.id);
    }
}

impl Relay {
    /// Registers a job for a prompt. Without the name of a backend, all are asked for the prompt. Without
    /// a `job_id`, the prompt id is the job id if it can be one.
    pub(in crate::relay) async fn register(
        &self,
        job_id: Option<JobId>,
        prompt_id: String,
        backend: Option<&str>,
    ) -> Result<Accepted, RelayError> {
        let tracker = &self.0.tracker;
        let job_id =
            job_id.unwrap_or_else(|| JobId::parse(&prompt_id).unwrap_or_else(|_| new_job_id()));
        let exists = tracker.restore_from_store(&job_id).await;
        if let Some(accepted) = self.registered(&job_id, &prompt_id) {
            return Ok(accepted);
        }
        // It may be forgotten again already.
        if exists {
            return Err(RelayError::JobExists(job_id));
        }
        let _reservation = self.reserve(&job_id)?;
        let only = match backend {
            Some(name) => Some(self.backend_named(name)?.index),
            None => None,
        };
        let prompt = self.locate(&prompt_id, only).await?;
        tracker.register(&mut tracker.registry(), &job_id, &prompt, None);
        tracker.await_written(&job_id).await;
        Ok(Accepted {
            job_id,
            prompt_id,
            backend: prompt.backend.name().to_owned(),
            is_unanswered: false,
            ignored: Vec::new(),
        })
    }

    /// The answer to a registration that is repeated: that of the first.
    fn registered(&self, job_id: &JobId, prompt_id: &str) -> Option<Accepted> {
        let registry = self.0.tracker.registry();
        let job = &registry.get(job_id)?.job;
        (job.prompt_id() == Some(prompt_id)).then(|| Accepted {
            job_id: job_id.clone(),
            prompt_id: prompt_id.to_owned(),
            backend: job.backend().unwrap_or_default().to_owned(),
            is_unanswered: false,
            ignored: Vec::new(),
        })
    }

    /// Reserves a job id.
    pub(in crate::relay) fn reserve(&self, job_id: &JobId) -> Result<Reservation, RelayError> {
        let tracker = &self.0.tracker;
        if !tracker.registry().reserve(job_id) {
            return Err(RelayError::JobExists(job_id.clone()));
        }
        Ok(Reservation {
            tracker: tracker.clone(),
            id: job_id.clone(),
        })
    }
}

/// A random job id.
pub(in crate::relay) fn new_job_id() -> JobId {
    JobId::parse(&Uuid::new_v4().to_string())
        .expect("a UUID is made of hexadecimal digits and hyphens")
}
