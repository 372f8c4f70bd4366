//! Finds jobs in the store, and prompts on the backends.

use tokio::time::{Instant, sleep_until};

use crate::comfy::RestError;
use crate::job::JobId;
use crate::relay::backend::{Backend, QueueIds};
use crate::relay::tracker::FoundPrompt;
use crate::relay::{Relay, RelayError};

impl Relay {
    /// Makes a job known: restores it from the store, or registers the prompt that its id names, if a
    /// backend has one, because a job id may be a bare prompt id. Fails if neither succeeds.
    pub async fn lookup(&self, job_id: &JobId) -> Result<(), RelayError> {
        let tracker = &self.0.tracker;
        if tracker.restore_from_store(job_id).await {
            return Ok(());
        }
        let found = self.locate(job_id.as_str(), None).await;
        let mut registry = tracker.registry();
        // It may have been registered while the backends were asked.
        if registry.get(job_id).is_some() {
            return Ok(());
        }
        match found {
            // A job with this id is being submitted, which may fail yet.
            Ok(_) if !registry.reserve(job_id) => Err(RelayError::JobNotFound(job_id.clone())),
            Ok(prompt) => {
                tracker.register(&mut registry, job_id, &prompt, None);
                Ok(())
            }
            Err(RelayError::PromptNotFound(_)) => Err(RelayError::JobNotFound(job_id.clone())),
            Err(error) => Err(error),
        }
    }

    /// Finds the backend that has a prompt in its queue or its history: the one with the index `only`, or
    /// any. The queue is read first: a prompt goes from there to the history, never back.
    pub(in crate::relay) async fn locate(
        &self,
        prompt_id: &str,
        only: Option<usize>,
    ) -> Result<FoundPrompt, RelayError> {
        let mut unreachable = None;
        for backend in self.0.tracker.backends.iter() {
            if only.is_some_and(|only| only != backend.index) {
                continue;
            }
            if backend.is_held_by_peer() {
                unreachable = Some(RelayError::HeldByPeer(backend.name().to_owned()));
                continue;
            }
            let disconnects = backend.state().socket.disconnects;
            match self.has_prompt(backend, prompt_id).await {
                Ok(true) => {
                    return Ok(FoundPrompt {
                        backend: backend.clone(),
                        prompt_id: prompt_id.to_owned(),
                        disconnects,
                    });
                }
                Ok(false) => {}
                Err(error) => {
                    unreachable = Some(RelayError::request_failed(backend.name(), error));
                }
            }
        }
        Err(unreachable.unwrap_or_else(|| RelayError::PromptNotFound(prompt_id.to_owned())))
    }

    async fn has_prompt(&self, backend: &Backend, prompt_id: &str) -> Result<bool, RestError> {
        let called_at = Instant::now();
        let rest = backend.comfy.rest();
        let mut last_queue = backend.lookup_lock.lock().await;
        // A queue that was requested before this call may be too old to hold the prompt, but if it holds it,
        // the backend has it.
        let usable = last_queue
            .as_ref()
            .filter(|queue| queue.asked_at >= called_at || queue.prompts.contains(prompt_id));
        let is_queued = match usable {
            Some(queue) => queue.prompts.contains(prompt_id),
            None => {
                if let Some(queue) = &*last_queue {
                    sleep_until(queue.asked_at + self.0.comfy.min_poll_pause).await;
                }
                let asked_at = Instant::now();
                let queue = rest.queue().await?;
                let prompts = queue.prompt_ids().map(str::to_owned).collect();
                let queue = last_queue.insert(QueueIds { asked_at, prompts });
                queue.prompts.contains(prompt_id)
            }
        };
        Ok(is_queued || rest.history(prompt_id).await?.is_some())
    }
}
