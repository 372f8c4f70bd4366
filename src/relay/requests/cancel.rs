//! Cancels a job.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::broker::Hint;
use crate::comfy::Cancellation;
use crate::job::{Event, JobId, Outcome};
use crate::relay::backend::Backend;
use crate::relay::registry::Entry;
use crate::relay::{Relay, RelayError};
use crate::store::{StoreError, TakenFor};

/// What a request to cancel a job has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// ComfyUI was asked to; the job ends when ComfyUI reports it.
    Requested,
    /// The job has ended.
    Ended,
}

/// How often a job is looked at that is taken back from its server while it is cancelled.
const ATTEMPTS: usize = 3;

/// What ComfyUI's answer to a cancellation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordedAnswer {
    /// The job ends.
    Cancels,
    /// The job goes on.
    Refused,
    /// Nothing: the job has another prompt by now.
    OtherPrompt,
}

/// What runs a job.
enum Runner {
    /// A backend that this relay follows, as this prompt.
    Backend(Arc<Backend>, String),
    /// A backend that another relay follows.
    Peer,
    /// No configured backend.
    None,
}

impl Relay {
    /// Asks ComfyUI to interrupt a job that runs, or to delete one that waits: the job ends when ComfyUI reports it. Where
    /// another relay follows the server, that one does. A job of another producer, or of a ComfyUI server that no relay
    /// follows, ends at once, and is on the disk when this returns.
    pub async fn cancel(&self, job_id: &JobId) -> Result<Cancelled, RelayError> {
        for _ in 0..ATTEMPTS {
            let cancelled = match self.runner(job_id)? {
                Runner::Backend(backend, prompt_id) => {
                    self.cancel_prompt(job_id, &backend, &prompt_id).await?
                }
                Runner::Peer => Some(self.request_cancel(job_id).await?),
                Runner::None => self.close_cancelled(job_id).await?,
            };
            if let Some(cancelled) = cancelled {
                return Ok(cancelled);
            }
        }
        Err(is_unknown(job_id))
    }

    /// Cancels what other relays were asked to cancel, and this one has. Each server is asked by a task of its own: one that
    /// does not answer holds up no other, nor the caller.
    pub(in crate::relay) async fn follow_cancel_requests(&self) -> Result<(), StoreError> {
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        let mut by_backend: HashMap<Option<String>, Vec<JobId>> = HashMap::new();
        let mut cancelling = tracker.looks.cancelling.lock().await;
        let requested = store.cancel_requests().await?;
        {
            let registry = tracker.registry();
            for job_id in requested {
                let ours = registry.get(&job_id).filter(|entry| entry.is_owned());
                if let Some(entry) = ours
                    && cancelling.insert(job_id.clone())
                {
                    let backend = entry.job.backend().map(str::to_owned);
                    by_backend.entry(backend).or_default().push(job_id);
                }
            }
        }
        drop(cancelling);
        for jobs in by_backend.into_values() {
            self.0.tasks.spawn(self.clone().cancel_requested(jobs));
        }
        Ok(())
    }

    /// Cancels jobs of one server, one after another.
    async fn cancel_requested(self, jobs: Vec<JobId>) {
        for job_id in jobs {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.follow_cancel_request(&job_id) => {}
            }
            let mut cancelling = self.0.tracker.looks.cancelling.lock().await;
            cancelling.remove(&job_id);
        }
    }

    async fn follow_cancel_request(&self, job_id: &JobId) {
        let tracker = &self.0.tracker;
        let is_ours = {
            let registry = tracker.registry();
            let ours = registry.get(job_id).filter(|entry| entry.is_owned());
            ours.map(|entry| entry.job.status().is_final())
        };
        let cancelled = match is_ours {
            None => return,
            Some(true) => Ok(Cancelled::Ended),
            Some(false) => self.cancel(job_id).await,
        };
        let followed = match cancelled {
            Ok(_) | Err(RelayError::NotCancellable(..)) => {
                let store = tracker.recorder.store();
                store
                    .remove_cancel_request(job_id)
                    .await
                    .map_err(Into::into)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            tracing::debug!(%job_id, %error, "cannot cancel a job that another relay was asked to cancel, retrying");
        }
    }

    /// Asks the relay that has a job to cancel it.
    async fn request_cancel(&self, job_id: &JobId) -> Result<Cancelled, RelayError> {
        let store = self.0.tracker.recorder.store();
        store.request_cancel(job_id).await?;
        self.0.tracker.broker.hint(Hint::Cancel(job_id.clone()));
        Ok(Cancelled::Requested)
    }

    /// What runs a job that has not ended.
    fn runner(&self, job_id: &JobId) -> Result<Runner, RelayError> {
        let registry = self.0.tracker.registry();
        if registry.ended(job_id).is_some() {
            return Err(has_ended(job_id));
        }
        let entry = registry
            .get(job_id)
            .ok_or_else(|| RelayError::JobNotFound(job_id.clone()))?;
        if entry.job.status().is_final() {
            return Err(has_ended(job_id));
        }
        if !entry.is_owned()
            && let Some(name) = entry.job.backend()
            && let Ok(backend) = self.backend_named(name)
        {
            let elsewhere = || RelayError::HeldByPeer(name.to_owned());
            return match backend.refusal().unwrap_or_else(elsewhere) {
                // One that has just ended follows no requests.
                RelayError::HeldByPeer(_) if self.0.tracker.peers.has_others() => Ok(Runner::Peer),
                refusal => Err(refusal),
            };
        }
        let prompt_id = entry.job.prompt_id().map(str::to_owned);
        Ok(match entry.backend.clone().zip(prompt_id) {
            Some((backend, prompt_id)) => Runner::Backend(backend, prompt_id),
            None => Runner::None,
        })
    }

    /// Asks ComfyUI to cancel a prompt. One that it does not know any more was lost with its server: its job ends when the next
    /// comparison finds that, and does not run again. `None` if it was taken back meanwhile.
    async fn cancel_prompt(
        &self,
        job_id: &JobId,
        backend: &Backend,
        prompt_id: &str,
    ) -> Result<Option<Cancelled>, RelayError> {
        let cancelled = backend.comfy.rest().cancel(prompt_id).await;
        let cancelled =
            cancelled.map_err(|source| RelayError::request_failed(backend.name(), source))?;
        let recorded = self.record_answer(job_id, prompt_id, cancelled);
        backend.reconcile_now.notify_one();
        match (cancelled, recorded) {
            (Cancellation::Ended, _) => Err(has_ended(job_id)),
            (_, RecordedAnswer::Cancels) => Ok(Some(Cancelled::Requested)),
            (_, RecordedAnswer::OtherPrompt) => Ok(None),
            (_, RecordedAnswer::Refused) => Err(is_unknown(job_id)),
        }
    }

    /// Records ComfyUI's answer to the cancellation of a job. A job that is to stop says so until it has ended.
    fn record_answer(
        &self,
        job_id: &JobId,
        prompt_id: &str,
        cancelled: Cancellation,
    ) -> RecordedAnswer {
        let tracker = &self.0.tracker;
        let mut registry = tracker.registry();
        let entry = registry.get_mut(job_id);
        let Some(entry) = entry.filter(|entry| entry.job.prompt_id() == Some(prompt_id)) else {
            return RecordedAnswer::OtherPrompt;
        };
        let is_requested = match cancelled {
            Cancellation::Requested => true,
            Cancellation::Ended => false,
            // One whose submission ComfyUI has not answered may come yet, and would run.
            Cancellation::Unknown => !entry.comparison.is_unanswered,
        };
        entry.comparison.cancel_requested = is_requested;
        if !is_requested {
            return RecordedAnswer::Refused;
        }
        tracker.ingest_locked(&mut registry, job_id, Event::CancelRequested);
        RecordedAnswer::Cancels
    }

    /// Ends a job that no backend ends. `None` if one has it by now, and loses it again.
    async fn close_cancelled(&self, job_id: &JobId) -> Result<Option<Cancelled>, RelayError> {
        let tracker = &self.0.tracker;
        self.take_reported(job_id).await?;
        let is_owned = tracker
            .registry()
            .get(job_id)
            .is_some_and(|it| it.is_owned());
        let store = tracker.recorder.store();
        if !is_owned && let Some(row) = store.take_unfollowed_job(&tracker.owner, job_id).await? {
            tracker.apply_row(row);
            tracker.broker.hint(Hint::Owner(job_id.clone()));
        }
        self.withdraw(job_id).await?;
        match self.end_cancelled(job_id)? {
            Runner::Peer => return Ok(Some(self.request_cancel(job_id).await?)),
            Runner::Backend(backend, prompt_id) => {
                return self.cancel_prompt(job_id, &backend, &prompt_id).await;
            }
            Runner::None => {}
        }
        self.await_end_written(job_id).await?;
        Ok(Some(Cancelled::Ended))
    }

    /// Ends a job, unless another relay has it, or it was handed in meanwhile: then returns what runs it.
    fn end_cancelled(&self, job_id: &JobId) -> Result<Runner, RelayError> {
        let tracker = &self.0.tracker;
        let mut registry = tracker.registry();
        let entry = registry
            .get(job_id)
            .ok_or_else(|| RelayError::JobNotFound(job_id.clone()))?;
        if entry.job.status().is_final() {
            return Err(has_ended(job_id));
        }
        if !entry.is_owned() {
            return Ok(Runner::Peer);
        }
        let prompt_id = entry.job.prompt_id().map(str::to_owned);
        if let Some((backend, prompt_id)) = entry.backend.clone().zip(prompt_id) {
            return Ok(Runner::Backend(backend, prompt_id));
        }
        let cancelled = Event::Closed(Outcome::Cancelled);
        tracker.ingest_locked(&mut registry, job_id, cancelled);
        Ok(Runner::None)
    }

    /// Takes a job that waits out of the queue, where another relay may be about to hand it in.
    async fn withdraw(&self, job_id: &JobId) -> Result<(), RelayError> {
        let tracker = &self.0.tracker;
        let waiting = {
            let registry = tracker.registry();
            let entry = registry.get(job_id);
            let entry = entry.filter(|entry| entry.job.wait().is_some());
            entry.map(Entry::is_owned)
        };
        let Some(is_owned) = waiting else {
            return Ok(());
        };
        if is_owned {
            if tracker.peers.is_alone(Instant::now()) {
                return Ok(());
            }
            // The row must show that it waits.
            tracker.await_written(job_id).await.check(job_id)?;
        }
        // One that does not wait any more is being handed in, here if it is still ours.
        self.take_shared(job_id, TakenFor::Cancelling).await?;
        Ok(())
    }
}

fn is_unknown(job_id: &JobId) -> RelayError {
    RelayError::NotCancellable(job_id.clone(), "ComfyUI does not know it any more")
}

fn has_ended(job_id: &JobId) -> RelayError {
    RelayError::NotCancellable(job_id.clone(), "it has ended")
}
