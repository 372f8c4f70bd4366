//! Deletes prompts that wait, and interrupts those that run, wherever they are.

use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};

use super::all_servers::some_of;
use super::known_prompt::is_prompt;
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
        let found = self.stored_prompts(prompt_ids).await;
        let waiting = found.known.into_iter().map(|(_, known)| known);
        let waiting = waiting.filter(|known| known.status == Status::Queued);
        let jobs = waiting.map(|known| known.job).collect();
        let deleting = self.delete_foreign(&found.unknown);
        let (cancelled, deleted) = join(self.cancel_all(jobs), deleting).await;
        cancelled
            .and(deleted)
            .and(found.failure.map_or(Ok(()), Err))
    }

    /// Deletes prompts that no job follows and that wait on a server.
    async fn delete_foreign(&self, prompt_ids: &[String]) -> Result<(), RelayError> {
        if prompt_ids.is_empty() {
            return Ok(());
        }
        let backends = some_of(self.listing_backends())?;
        let deleting = backends.iter().map(|backend| async {
            let deleted = backend.comfy.rest().delete_waiting(prompt_ids).await;
            deleted.map_err(|error| RelayError::request_failed(backend.name(), error))
        });
        join_all(deleting).await.into_iter().collect()
    }

    /// Deletes all prompts that wait, here and on all servers, whoever has submitted them.
    pub async fn clear_waiting(&self) -> Result<(), RelayError> {
        // Before the queues are cleared: a job whose prompt has vanished from a queue counts as lost.
        let cancelled = self.cancel_all(self.open_jobs(Status::Queued)).await;
        let backends = some_of(self.answering_backends())?;
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
        let unread = match self.stored_prompt(prompt_id).await {
            Ok(Some(known)) if known.status == Status::Processing => {
                return self.cancel_all(vec![known.job]).await;
            }
            Ok(Some(_)) => return Ok(()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let runs = |position| position == Some(QueuePosition::Running);
        let ids = [prompt_id.to_owned()];
        let cancelled = self.cancel_foreign(&ids, runs).await.map(drop);
        cancelled.and(unread)
    }

    /// Cancels a prompt that runs or waits. Returns whether there was one.
    pub async fn cancel_by_prompt_id(&self, prompt_id: &str) -> Result<bool, RelayError> {
        self.cancel_by_prompt_ids(&[prompt_id.to_owned()]).await
    }

    /// The same, of several. Returns whether there was at least one.
    pub async fn cancel_by_prompt_ids(&self, prompt_ids: &[String]) -> Result<bool, RelayError> {
        let found = self.stored_prompts(prompt_ids).await;
        let open = found.known.into_iter().map(|(_, known)| known);
        let open = open.filter(|known| !known.status.is_final());
        let jobs: Vec<JobId> = open.map(|known| known.job).collect();
        let has_job = !jobs.is_empty();
        let foreign = self.cancel_foreign(&found.unknown, |position| position.is_some());
        let (cancelled, has_foreign) = join(self.cancel_all(jobs), foreign).await;
        cancelled?;
        let has_foreign = has_foreign?;
        found.failure.map_or(Ok(has_foreign || has_job), Err)
    }

    async fn interrupt_all(&self) -> Result<(), RelayError> {
        let running = self.open_jobs(Status::Processing);
        // By their ids: what begins on their servers meanwhile goes on.
        let cancelling = self.cancel_all(running);
        let mut others = match some_of(self.answering_backends()) {
            Ok(answering) => answering,
            Err(error) => return cancelling.await.and(Err(error)),
        };
        others.retain(|backend| !self.runs_job(backend));
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

    /// Cancels prompts that no job follows, whose places in the queue of a server are wanted ones. Returns whether there was one.
    async fn cancel_foreign(
        &self,
        prompt_ids: &[String],
        is_wanted: impl Fn(Option<QueuePosition>) -> bool,
    ) -> Result<bool, RelayError> {
        if prompt_ids.is_empty() {
            return Ok(false);
        }
        let backends = some_of(self.listing_backends())?;
        let cancelling = backends
            .iter()
            .map(|backend| cancel_on(backend, prompt_ids, &is_wanted));
        let (mut cancelled, mut failure) = (0, None);
        for (count, failed) in join_all(cancelling).await {
            cancelled += count;
            failure = failure.or(failed);
        }
        match failure {
            // The others may be on the server that has failed.
            Some(failure) if cancelled < prompt_ids.len() => Err(failure),
            _ => Ok(cancelled > 0),
        }
    }

    /// The jobs of a status that this relay remembers.
    fn open_jobs(&self, status: Status) -> Vec<JobId> {
        let registry = self.0.tracker.registry();
        let open = registry.all_open().map(|entry| &entry.job);
        let open = open.filter(|job| job.status() == status && is_prompt(job));
        open.map(|job| job.id().clone()).collect()
    }
}

/// Cancels those of these prompts that have a wanted place in the queue of a server, which is read once. Returns how many there
/// were, and what has failed.
async fn cancel_on(
    backend: &Backend,
    prompt_ids: &[String],
    is_wanted: &impl Fn(Option<QueuePosition>) -> bool,
) -> (usize, Option<RelayError>) {
    let rest = backend.comfy.rest();
    let failed = |error| Some(RelayError::request_failed(backend.name(), error));
    let queue = match rest.positions(None).await {
        Ok(queue) => queue,
        Err(error) => return (0, failed(error)),
    };
    let wanted = prompt_ids.iter().filter(|id| is_wanted(queue.position(id)));
    let cancelling: Vec<_> = wanted.map(|id| rest.cancel(id)).collect();
    let mut cancelling = stream::iter(cancelling).buffer_unordered(AT_ONCE);
    let (mut count, mut failure) = (0, None);
    while let Some(cancelled) = cancelling.next().await {
        match cancelled {
            Ok(cancelled) => count += usize::from(cancelled == Cancellation::Requested),
            Err(error) => failure = failure.or(failed(error)),
        }
    }
    (count, failure)
}
