//! Submissions that ComfyUI does not answer in time: the job waits, and the prompt is handed in again only if ComfyUI
//! certainly does not have it.

use std::pin::Pin;
use std::sync::Arc;

use tokio::time::sleep;

use crate::comfy::Submitted;
use crate::job::{Event, JobError, JobId, Status};
use crate::relay::backend::select::InFlight;
use crate::relay::requests::post_prompt::{NotPlaced, Work, has_prompt, post_prompt};
use crate::relay::tracker::{FoundPrompt, SubmittedGraph};
use crate::relay::{Relay, RelayError};

/// So many looks in a row at queue and history that do not show a prompt are no accident.
const MAX_LOOKS: u32 = 2;

/// The call that is under way.
pub(in crate::relay) type Posting =
    Pin<Box<dyn Future<Output = Result<Submitted, NotPlaced>> + Send>>;

/// A submission without an answer.
pub(in crate::relay) struct Unanswered {
    pub(in crate::relay) job_id: JobId,
    pub(in crate::relay) prompt: FoundPrompt,
    pub(in crate::relay) work: Arc<Work>,
    pub(in crate::relay) posting: Posting,
    pub(in crate::relay) in_flight: InFlight,
}

impl Relay {
    /// Registers the job of a submission that ComfyUI has not answered, and waits for the answer in a task of its
    /// own.
    pub(in crate::relay) fn wait_for_answer(
        &self,
        unanswered: Unanswered,
        plan: Option<SubmittedGraph>,
    ) {
        let (tracker, id) = (&self.0.tracker, &unanswered.job_id);
        {
            let mut registry = tracker.registry();
            tracker.register(&mut registry, id, &unanswered.prompt, plan);
            let entry = registry.get_mut(id);
            // Its events may have come before the answer.
            if let Some(entry) = entry.filter(|entry| entry.job.status() == Status::Queued) {
                entry.comparison.is_unanswered = true;
                let waits = Event::Reachable(false);
                tracker.ingest_locked(&mut registry, id, waits);
            }
        }
        tracing::warn!(job_id = %id, "ComfyUI does not answer a submission; the job waits for it");
        let relay = self.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = relay.0.stop.cancelled() => {}
                () = relay.follow_answer(unanswered) => {}
            }
        });
    }

    async fn follow_answer(&self, mut unanswered: Unanswered) {
        let (backend, prompt_id) = (
            unanswered.prompt.backend.clone(),
            unanswered.prompt.prompt_id.clone(),
        );
        loop {
            match unanswered.posting.as_mut().await {
                Ok(submitted) => return self.on_answer(unanswered, &submitted.prompt_id),
                Err(NotPlaced::Sent(RelayError::Rejected(rejection))) => {
                    let refused = JobError::rejected(&rejection.to_string());
                    let refused = Event::Refused(refused);
                    return self.0.tracker.ingest(&unanswered.job_id, refused);
                }
                Err(_) => {}
            }
            if !self
                .is_certainly_missing(&unanswered.job_id, &unanswered.prompt)
                .await
            {
                return self.on_answer(unanswered, &prompt_id);
            }
            if backend.state().api.keeps_prompt_ids == Some(false) {
                // It may have the prompt under an id of its own.
                let lost = Event::Refused(JobError::lost());
                return self.0.tracker.ingest(&unanswered.job_id, lost);
            }
            tracing::warn!(job_id = %unanswered.job_id, "ComfyUI has not got a submission; it is handed in again");
            unanswered.posting = Box::pin(post_prompt(
                self.0.tracker.clone(),
                backend.clone(),
                unanswered.work.clone(),
                prompt_id.clone(),
            ));
        }
    }

    /// Looks for the prompt until ComfyUI has answered that it has it, or several times that it does not.
    async fn is_certainly_missing(&self, job_id: &JobId, prompt: &FoundPrompt) -> bool {
        let mut looks = 0;
        while looks < MAX_LOOKS {
            sleep(self.0.comfy.poll_interval).await;
            if !self.is_unanswered(job_id) {
                return false;
            }
            match has_prompt(prompt.backend.comfy.rest(), &prompt.prompt_id).await {
                Ok(true) => return false,
                Ok(false) => looks += 1,
                Err(_) => looks = 0,
            }
        }
        true
    }

    /// Whether nothing has shown yet that ComfyUI has the prompt of a job.
    fn is_unanswered(&self, job_id: &JobId) -> bool {
        let registry = self.0.tracker.registry();
        let entry = registry.get(job_id);
        entry.is_some_and(|entry| {
            entry.comparison.is_unanswered && entry.job.status() == Status::Queued
        })
    }

    /// ComfyUI has the prompt, under this id.
    fn on_answer(&self, unanswered: Unanswered, prompt_id: &str) {
        let tracker = &self.0.tracker;
        let backend = unanswered.prompt.backend.clone();
        let mut registry = tracker.registry();
        if prompt_id != unanswered.prompt.prompt_id {
            registry.rename_prompt(&unanswered.job_id, prompt_id);
        }
        if let Some(entry) = registry.get_mut(&unanswered.job_id) {
            entry.comparison.is_unanswered = false;
        }
        let answers = Event::Reachable(true);
        tracker.ingest_locked(&mut registry, &unanswered.job_id, answers);
        drop(registry);
        unanswered.in_flight.arrived();
        backend.reconcile_soon.notify_one();
    }
}
