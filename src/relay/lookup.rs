//! Finds the server of a prompt that was submitted elsewhere.

use super::Relay;
use super::submit::{RelayError, failed};
use crate::comfy::RestError;
use crate::job::JobId;

impl Relay {
    /// Takes a job up that the store knows, or registers the prompt that its id names, where some server
    /// knows one: a job id may be a bare prompt id. Says whether the job is known now.
    pub async fn discover(&self, job_id: &JobId) -> bool {
        if self.jobs().get(job_id).is_some() || self.take_up_from_store(job_id).await {
            return true;
        }
        let Ok(index) = self.locate(job_id.as_str()).await else {
            return false;
        };
        let known = self.jobs().get(job_id).is_some();
        if !known && self.jobs().reserve(job_id) {
            self.add(job_id, index, job_id.as_str(), None);
        }
        true
    }

    /// The place of the backend that has a prompt in its queue or its history. The queue is read first:
    /// a prompt goes from there to the history, never back.
    pub(super) async fn locate(&self, prompt_id: &str) -> Result<usize, RelayError> {
        let mut unreachable = None;
        for (index, backend) in self.0.backends.iter().enumerate() {
            let rest = backend.upstream.rest();
            // One look at a time for each backend: a queue can be many megabytes.
            let _turn = backend.turn.lock().await;
            let found = async {
                let in_queue = rest.queue().await?.place(prompt_id).is_some();
                Ok::<bool, RestError>(in_queue || rest.history(prompt_id).await?.is_some())
            };
            match found.await {
                Ok(true) => return Ok(index),
                Ok(false) => {}
                Err(error) => unreachable = Some(failed(backend, error)),
            }
        }
        Err(unreachable.unwrap_or_else(|| RelayError::PromptNotFound(prompt_id.to_owned())))
    }
}
