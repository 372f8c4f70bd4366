//! Finds the server of a prompt that was submitted elsewhere.

use tokio::time::{Instant, sleep_until};

use crate::comfy::RestError;
use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::backend::{Backend, QueueIds};
use crate::relay::error::{RelayError, failed};

/// Where a prompt was found.
pub(in crate::relay) struct FoundPrompt {
    /// The backend's place in the list.
    pub(in crate::relay) index: usize,
    /// Its count of disconnects before it was asked.
    pub(in crate::relay) disconnects: u64,
}

impl Relay {
    /// Takes a job up that the store knows, or registers the prompt that its id names, where some server
    /// knows one: a job id may be a bare prompt id. The job is known afterwards, or the error tells why
    /// not.
    pub async fn lookup(&self, job_id: &JobId) -> Result<(), RelayError> {
        if self.jobs().get(job_id).is_some() || self.restore_from_store(job_id).await {
            return Ok(());
        }
        let found = self.locate(job_id.as_str(), None).await;
        let mut jobs = self.jobs();
        // It may have been registered while the servers were asked.
        if jobs.get(job_id).is_some() {
            return Ok(());
        }
        match found {
            // A submission under this id is on its way, and may fail yet.
            Ok(_) if !jobs.reserve(job_id) => Err(RelayError::JobNotFound(job_id.clone())),
            Ok(found) => {
                self.register_locked(&mut jobs, job_id, &found, job_id.as_str(), None);
                Ok(())
            }
            Err(RelayError::PromptNotFound(_)) => Err(RelayError::JobNotFound(job_id.clone())),
            Err(error) => Err(error),
        }
    }

    /// The backend that has a prompt in its queue or its history: `only` this one, or any. The queue
    /// is read first: a prompt goes from there to the history, never back.
    pub(in crate::relay) async fn locate(
        &self,
        prompt_id: &str,
        only: Option<usize>,
    ) -> Result<FoundPrompt, RelayError> {
        let mut unreachable = None;
        for (index, backend) in self.0.backends.iter().enumerate() {
            if only.is_some_and(|only| only != index) {
                continue;
            }
            if self.is_held_by_peer(Some(index)) {
                unreachable = Some(RelayError::HeldByPeer(backend.name().to_owned()));
                continue;
            }
            let disconnects = backend.state().disconnects;
            match self.has(backend, prompt_id).await {
                Ok(true) => return Ok(FoundPrompt { index, disconnects }),
                Ok(false) => {}
                Err(error) => unreachable = Some(failed(backend, error)),
            }
        }
        Err(unreachable.unwrap_or_else(|| RelayError::PromptNotFound(prompt_id.to_owned())))
    }

    async fn has(&self, backend: &Backend, prompt_id: &str) -> Result<bool, RestError> {
        let came_at = Instant::now();
        let rest = backend.comfy.rest();
        let mut turn = backend.lookup_lock.lock().await;
        // What was asked for before we came may be too old to hold the prompt, but not to have held it.
        let answer = turn
            .as_ref()
            .filter(|known| known.asked_at >= came_at || known.prompts.contains(prompt_id));
        let is_queued = match answer {
            Some(known) => known.prompts.contains(prompt_id),
            None => {
                if let Some(known) = &*turn {
                    sleep_until(known.asked_at + self.comfy_config().min_poll_pause).await;
                }
                let asked_at = Instant::now();
                let queue = rest.queue().await?;
                let prompts = queue.prompt_ids().map(str::to_owned).collect();
                let known = turn.insert(QueueIds { asked_at, prompts });
                known.prompts.contains(prompt_id)
            }
        };
        Ok(is_queued || rest.history(prompt_id).await?.is_some())
    }
}
