//! Deletes prompts that wait, and interrupts those that run, wherever they are.

use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};

use super::known_prompt::{KnownPrompt, is_prompt};
use crate::comfy::{Cancellation, QueuePosition};
use crate::job::{JobId, Status};
use crate::relay::backend::Backend;
use crate::relay::{Relay, RelayError};

/// So many jobs are cancelled at the same time. One on a server that does not answer holds up none on another one.
const AT_ONCE: usize = 32;

impl Relay {
    /// Deletes prompts that wait. Ids of others are ignored, as ComfyUI does.
    ///
    /// # Errors
    ///
    /// The first one, once all that can be deleted are deleted. This holds for everything that is stopped here.
    pub async fn delete_waiting(&self, prompt_ids: &[String]) -> Result<(), RelayError> {
        let mut jobs = Vec::new();
        let mut foreign = Vec::new();
        for id in prompt_ids {
            match self.stored_prompt(id).await {
                Some(known) if known.status == Status::Queued => jobs.push(known.job),
                Some(_) => {}
                None => foreign.push(id.clone()),
            }
        }
        let cancelling = self.cancel_all(jobs);
        if foreign.is_empty() {
            return cancelling.await;
        }
        let backends = self.answering_backends();
        let deleting = backends.iter().map(|backend| async {
            let deleted = backend.comfy.rest().delete_waiting(&foreign).await;
            deleted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        let (cancelled, deleted) = join(cancelling, join_all(deleting)).await;
        cancelled.and(deleted.into_iter().collect())
    }

    /// Deletes all prompts that wait, here and on all servers, whoever has submitted them.
    pub async fn clear_waiting(&self) -> Result<(), RelayError> {
        // Before the queues are cleared: a job whose prompt has vanished from a queue counts as lost.
        let cancelled = self.cancel_all(self.open_jobs(Status::Queued)).await;
        let backends = self.answering_backends();
        let clearing = backends.iter().map(|backend| async {
            let cleared = backend.comfy.rest().clear_waiting().await;
            backend.reconcile_now.notify_one();
            cleared.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        cancelled.and(join_all(clearing).await.into_iter().collect())
    }

    /// Interrupts a prompt that runs; all that run, if none is named.
    pub async fn interrupt(&self, prompt_id: Option<&str>) -> Result<(), RelayError> {
        let Some(prompt_id) = prompt_id else {
            return self.interrupt_all().await;
        };
        match self.stored_prompt(prompt_id).await {
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
        match self.stored_prompt(prompt_id).await {
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

    /// The same, of several. Returns whether there was at least one.
    pub async fn cancel_by_prompt_ids(&self, prompt_ids: Vec<String>) -> Result<bool, RelayError> {
        let cancelling = prompt_ids
            .into_iter()
            .map(|id| async move { self.cancel_by_prompt_id(&id).await });
        let cancelling = stream::iter(cancelling).buffer_unordered(AT_ONCE);
        let cancelled: Vec<Result<bool, RelayError>> = cancelling.collect().await;
        let mut is_any = false;
        for one in cancelled {
            is_any |= one?;
        }
        Ok(is_any)
    }

    async fn interrupt_all(&self) -> Result<(), RelayError> {
        let running = self.open_jobs(Status::Processing);
        let mut others = self.answering_backends();
        others.retain(|backend| !self.runs_job(backend));
        // By their ids: what begins on their servers meanwhile goes on.
        let cancelling = self.cancel_all(running);
        let interrupting = others.iter().map(|backend| async {
            // What has begun since is not what was to be interrupted.
            if self.runs_job(backend) {
                return Ok(());
            }
            let interrupted = backend.comfy.rest().interrupt_running().await;
            interrupted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        let (cancelled, interrupted) = join(cancelling, join_all(interrupting)).await;
        cancelled.and(interrupted.into_iter().collect())
    }

    /// Whether a job of this relay runs on a server.
    fn runs_job(&self, backend: &Backend) -> bool {
        let registry = self.0.tracker.registry();
        registry.processing().any(|entry| entry.is_on(backend))
    }

    /// Cancels jobs. Those that have ended meanwhile are no failure.
    async fn cancel_all(&self, jobs: Vec<JobId>) -> Result<(), RelayError> {
        let cancelling = jobs.into_iter().map(|job| async move {
            match self.cancel(&job).await {
                Ok(_) | Err(RelayError::NotCancellable(..) | RelayError::JobNotFound(_)) => Ok(()),
                Err(error) => Err(error),
            }
        });
        let cancelling = stream::iter(cancelling).buffer_unordered(AT_ONCE);
        let cancelled: Vec<Result<(), RelayError>> = cancelling.collect().await;
        cancelled.into_iter().collect()
    }

    /// Cancels a prompt that no job follows, if its place in the queue of a server is a wanted one. Returns whether there was one.
    async fn cancel_foreign(
        &self,
        prompt_id: &str,
        is_wanted: impl Fn(Option<QueuePosition>) -> bool,
    ) -> Result<bool, RelayError> {
        let backends = self.answering_backends();
        let is_wanted = &is_wanted;
        let cancelling = backends.iter().map(|backend| async move {
            let rest = backend.comfy.rest();
            let failed = |error| RelayError::request_failed(backend.name(), error);
            let queue = rest.positions(None).await.map_err(failed)?;
            if !is_wanted(queue.position(prompt_id)) {
                return Ok(false);
            }
            let cancelled = rest.cancel(prompt_id).await.map_err(failed)?;
            Ok(cancelled == Cancellation::Requested)
        });
        let mut failure = None;
        for cancelled in join_all(cancelling).await {
            match cancelled {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// The jobs of a status that this relay remembers.
    fn open_jobs(&self, status: Status) -> Vec<JobId> {
        let registry = self.0.tracker.registry();
        let open = registry.all_open().map(|entry| &entry.job);
        let open = open.filter(|job| job.status() == status && is_prompt(job));
        open.map(|job| job.id().clone()).collect()
    }
}
