//! Deletes prompts that wait, and interrupts those that run, wherever they are.

use futures_util::future::join_all;

use super::known_prompt::{KnownPrompt, is_prompt};
use crate::comfy::{Cancellation, QueuePosition};
use crate::job::{JobId, Status};
use crate::relay::{Relay, RelayError};

impl Relay {
    /// Deletes prompts that wait. Ids of others are ignored, as ComfyUI does.
    pub async fn delete_waiting(&self, prompt_ids: &[String]) -> Result<(), RelayError> {
        let mut jobs = Vec::new();
        let mut foreign = Vec::new();
        for id in prompt_ids {
            match self.known_prompt(id) {
                Some(known) if known.status == Status::Queued => jobs.push(known.job),
                Some(_) => {}
                None => foreign.push(id.clone()),
            }
        }
        self.cancel_all(jobs).await?;
        if foreign.is_empty() {
            return Ok(());
        }
        let backends = self.answering_backends();
        let deleting = backends.iter().map(|backend| async {
            let deleted = backend.comfy.rest().delete_waiting(&foreign).await;
            deleted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        join_all(deleting).await.into_iter().collect()
    }

    /// Deletes all prompts that wait, here and on all servers, whoever has submitted them.
    pub async fn clear_waiting(&self) -> Result<(), RelayError> {
        let jobs = self.open_jobs(Status::Queued);
        self.cancel_all(jobs).await?;
        let backends = self.answering_backends();
        let clearing = backends.iter().map(|backend| async {
            let cleared = backend.comfy.rest().clear_waiting().await;
            backend.reconcile_now.notify_one();
            cleared.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        join_all(clearing).await.into_iter().collect()
    }

    /// Interrupts a prompt that runs; all that run, if none is named.
    pub async fn interrupt(&self, prompt_id: Option<&str>) -> Result<(), RelayError> {
        let Some(prompt_id) = prompt_id else {
            return self.interrupt_all().await;
        };
        match self.known_prompt(prompt_id) {
            Some(known) if known.status == Status::Processing => {
                self.cancel_all(vec![known.job]).await
            }
            Some(_) => Ok(()),
            None => {
                let runs = |position| position == Some(QueuePosition::Running);
                self.cancel_foreign(prompt_id, runs).await.map(drop)
            }
        }
    }

    /// Cancels a prompt that runs or waits. Returns whether there was one.
    pub async fn cancel_by_prompt_id(&self, prompt_id: &str) -> Result<bool, RelayError> {
        match self.known_prompt(prompt_id) {
            Some(KnownPrompt { job, status, .. }) if !status.is_final() => {
                self.cancel_all(vec![job]).await.map(|()| true)
            }
            Some(_) => Ok(false),
            None => {
                self.cancel_foreign(prompt_id, |position| position.is_some())
                    .await
            }
        }
    }

    async fn interrupt_all(&self) -> Result<(), RelayError> {
        let running = self.open_jobs(Status::Processing);
        let mut others = self.answering_backends();
        {
            let registry = self.0.tracker.registry();
            others.retain(|backend| !registry.processing().any(|entry| entry.is_on(backend)));
        }
        // By their ids: what begins on their servers meanwhile goes on.
        self.cancel_all(running).await?;
        let interrupting = others.iter().map(|backend| async {
            let interrupted = backend.comfy.rest().interrupt_running().await;
            interrupted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        join_all(interrupting).await.into_iter().collect()
    }

    /// Cancels jobs. Those that have ended meanwhile are no failure.
    async fn cancel_all(&self, jobs: Vec<JobId>) -> Result<(), RelayError> {
        for job in jobs {
            match self.cancel(&job).await {
                Ok(_) | Err(RelayError::NotCancellable(..) | RelayError::JobNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cancels a prompt that no job follows, if its place in the queue of a server is a wanted one. Returns whether there was one.
    async fn cancel_foreign(
        &self,
        prompt_id: &str,
        is_wanted: impl Fn(Option<QueuePosition>) -> bool,
    ) -> Result<bool, RelayError> {
        for backend in self.answering_backends() {
            let rest = backend.comfy.rest();
            let failed = |error| RelayError::request_failed(backend.name(), error);
            let queue = rest.positions(None).await.map_err(failed)?;
            if is_wanted(queue.position(prompt_id)) {
                let cancelled = rest.cancel(prompt_id).await.map_err(failed)?;
                return Ok(cancelled == Cancellation::Requested);
            }
        }
        Ok(false)
    }

    /// The jobs of a status that this relay remembers.
    fn open_jobs(&self, status: Status) -> Vec<JobId> {
        let registry = self.0.tracker.registry();
        let open = registry.all_open().map(|entry| &entry.job);
        let open = open.filter(|job| job.status() == status && is_prompt(job));
        open.map(|job| job.id().clone()).collect()
    }
}
