//! What becomes of a job that was handed in.

use crate::comfy::Submitted;
use crate::job::{Event, JobError, JobId};
use crate::relay::backend::Backend;
use crate::relay::queue::job_queue::{Fresh, JobQueue, QueueVerdict, QueuedJob};
use crate::relay::queue::loads::UnseenPrompt;
use crate::relay::registry::Entry;
use crate::relay::requests::post_prompt::Work;
use crate::relay::requests::submit::plan;
use crate::relay::tracker::{FoundPrompt, Tracker};
use crate::relay::{Relay, RelayError};

impl Relay {
    /// A backend has the prompt of a job: it is followed there.
    pub(super) async fn settle(&self, mut prompt: FoundPrompt, work: &Work, submitted: Submitted) {
        let (tracker, id) = (&self.0.tracker, &work.job_id);
        let backend = prompt.backend.clone();
        let ignored = submitted.ignored();
        let submitted_graph = plan(&backend, work, &submitted.node_errors);
        let plan = submitted_graph.as_ref().map(|submitted| &submitted.plan);
        let loads_images = plan.is_some_and(|plan| !plan.files().is_empty());
        prompt.prompt_id = submitted.prompt_id;
        let is_open = {
            let mut registry = tracker.registry();
            let fresh = tracker.queue.hand_over(id, &backend, &prompt);
            let has_ended = || {
                let entry = registry.get(id);
                entry.is_none_or(|entry| entry.job.status().is_final())
            };
            if fresh.is_none() && has_ended() {
                false
            } else {
                tracker.register(&mut registry, id, &prompt, submitted_graph);
                if let Some(fresh) = fresh {
                    let verdict = QueueVerdict::HandedIn {
                        backend: backend.name().to_owned(),
                        prompt_id: prompt.prompt_id.clone(),
                        ignored,
                    };
                    // It may have given up.
                    let _ = fresh.caller.send(verdict);
                }
                true
            }
        };
        if !is_open {
            tracing::info!(job_id = %id, "a job was cancelled while it was handed in");
            if let Err(error) = backend.comfy.rest().cancel(&prompt.prompt_id).await {
                tracing::warn!(job_id = %id, backend = backend.name(), %error, "cannot cancel a prompt yet; it is cancelled when the server answers again");
                tracker.abandon(&backend, prompt.prompt_id);
            }
            return;
        }
        if loads_images {
            // Fetches their sizes.
            tracker.read_plan(id);
        }
    }

    /// Ends a job that was refused. One whose caller waits leaves nothing.
    pub(super) async fn refuse(&self, id: &JobId, error: RelayError) {
        let tracker = &self.0.tracker;
        let Some(queued) = tracker.queue.take(id) else {
            return;
        };
        match queued.fresh {
            Some(fresh) => {
                let store = tracker.recorder.store();
                if let Err(error) = store.remove_submission(id).await {
                    tracing::debug!(job_id = %id, %error, "cannot remove a job that was refused");
                }
                let _ = fresh.caller.send(QueueVerdict::Refused(error));
            }
            None => {
                let refused = match error {
                    RelayError::Rejected(rejection) => JobError::rejected(&rejection.to_string()),
                    error => JobError::not_taken(&error.to_string()),
                };
                tracker.ingest(id, Event::Refused(refused));
                if queued.has_secrets {
                    tracker.forget_keys(id).await;
                }
            }
        }
    }

    /// Forgets keys that were handed in.
    pub(super) async fn forget_keys(&self, id: &JobId, sealed: &Option<Vec<u8>>) {
        if sealed.is_some() {
            self.0.tracker.forget_keys(id).await;
        }
    }
}

impl Tracker {
    /// Forgets the sealed keys of a job that is handed in no more.
    pub(in crate::relay) async fn forget_keys(&self, id: &JobId) {
        if let Err(error) = self.recorder.store().forget_secrets(id).await {
            tracing::warn!(job_id = %id, %error, "cannot remove the sealed keys of a job from the database");
        }
    }
}

impl JobQueue {
    /// Takes a job out of the queue, because a backend has its prompt. Returns what is kept for its caller, if one waits.
    fn hand_over(&self, id: &JobId, backend: &Backend, prompt: &FoundPrompt) -> Option<Fresh> {
        let mut state = self.state();
        let job = state.remove(id)?;
        state.handed_in += 1;
        let (turn, model) = (state.handed_in, state.kinds.model(job.kind));
        let record = &state.backends[backend.index];
        let loaded = record.loaded_model(prompt.disconnects);
        let estimate = state.kinds.estimate(job.kind, backend.index, loaded);
        let seconds = estimate.remaining.unwrap_or(f64::NAN);
        state.fair_share.record_start(job.share, seconds);
        let record = &mut state.backends[backend.index];
        record.turn = turn;
        if let Some(model) = model {
            record.model = Some((model, prompt.disconnects));
        }
        record.unseen.push(UnseenPrompt {
            prompt_id: prompt.prompt_id.clone(),
            estimate,
        });
        job.fresh
    }

    /// A prompt that was handed in has begun, has ended, or is taken back: it waits there no longer, whether or not the queue of
    /// its server has shown it.
    pub(in crate::relay) fn on_begun(&self, entry: &Entry) {
        let (Some(backend), Some(prompt)) = (&entry.backend, entry.job.prompt_id()) else {
            return;
        };
        let unseen = &mut self.state().backends[backend.index].unseen;
        unseen.retain(|it| it.prompt_id != prompt);
    }

    /// What was handed in to a backend concerns the relay that follows it from now on.
    pub(in crate::relay) fn forget_handed_in(&self, backend: &Backend) {
        self.state().backends[backend.index].unseen.clear();
    }

    /// Takes a job out of the queue.
    pub(super) fn take(&self, id: &JobId) -> Option<QueuedJob> {
        self.state().remove(id)
    }
}
