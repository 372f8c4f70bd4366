//! Hands jobs in to a backend, one after another, so that they keep their order.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;
use tokio::time::sleep;

use crate::comfy::{PromptOptions, Submitted};
use crate::job::{Event, JobError, JobId, Tags};
use crate::relay::backend::select::InFlight;
use crate::relay::backend::{Backend, Lease};
use crate::relay::queue::job_queue::{Fresh, JobQueue, QueuedJob, Verdict};
use crate::relay::queue::loads::UnseenPrompt;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::requests::post_prompt::{NotPlaced, Work, has_prompt, post_prompt};
use crate::relay::requests::submit::{STOP_PATIENCE, plan};
use crate::relay::tracker::FoundPrompt;
use crate::relay::{Relay, RelayError};
use crate::store::StoredSubmission;

/// So many looks in a row at queue and history that do not show a prompt are no accident.
const MAX_LOOKS: u32 = 2;

/// How often a job is handed in without success before it fails.
const MAX_FAILURES: u32 = 3;

/// The pause after a failure, before the backend gets the next job.
const PAUSE: Duration = Duration::from_secs(1);

/// Jobs that a backend is to get now, in their order.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) backend: Arc<Backend>,
    pub(super) jobs: Vec<JobId>,
}

/// Why a job was not handed in.
#[derive(Debug)]
enum Failure {
    /// It has ended, or somebody else has it.
    Gone,
    /// Nothing was sent: it waits on.
    NotSent,
    /// It was refused, or has failed too often.
    Refused(RelayError),
}

impl Relay {
    /// Hands in what a backend is to get now.
    pub(super) async fn hand_in_lot(self, lot: Lot) {
        let queue = &self.0.tracker.queue;
        // What is being sent to ComfyUI when the relay stops may run: its answer is waited for.
        let stopped = async {
            self.0.stop.cancelled().await;
            sleep(STOP_PATIENCE).await;
        };
        let handing_in = async {
            for id in &lot.jobs {
                if self.0.stop.is_cancelled() || self.is_stopped(&lot.backend) {
                    break;
                }
                if self.hand_in_one(id, &lot.backend).await.is_err() {
                    sleep(PAUSE).await;
                    break;
                }
            }
        };
        tokio::select! {
            () = stopped => {}
            () = handing_in => {}
        }
        queue.release(&lot.jobs);
        queue.set_idle(&lot.backend);
        queue.wake();
    }

    /// Hands one job in. Fails if the backend is to be left alone for a moment.
    async fn hand_in_one(&self, id: &JobId, backend: &Arc<Backend>) -> Result<(), ()> {
        match self.hand_in(id, backend).await {
            Ok(()) => Ok(()),
            Err(Failure::Gone) => {
                self.0.tracker.queue.remove(id);
                Ok(())
            }
            Err(Failure::NotSent) => Err(()),
            Err(Failure::Refused(error)) => {
                self.refuse(id, error).await;
                Ok(())
            }
        }
    }

    async fn hand_in(&self, id: &JobId, backend: &Arc<Backend>) -> Result<(), Failure> {
        let stored = self.claim(id, backend).await?;
        let Ok(request) = QueuedRequest::unpack(&stored.request) else {
            return Err(Failure::Refused(RelayError::WorkflowUnavailable(
                id.clone(),
            )));
        };
        let (tags, keys) = self.tags_and_keys(id).ok_or(Failure::Gone)?;
        let options: PromptOptions = request.prompt_options().with_keys(keys);
        let work = Arc::new(Work {
            job_id: id.clone(),
            graph: request.graph,
            options,
            tags: tags.clone(),
        });
        self.free_memory(backend).await;
        let in_flight = InFlight::new(backend.clone());
        let prompt = FoundPrompt {
            disconnects: backend.state().socket.disconnects,
            backend: backend.clone(),
            prompt_id: stored.prompt_id,
            history: None,
            tags,
        };
        let posting = post_prompt(
            self.0.tracker.clone(),
            backend.clone(),
            work.clone(),
            prompt.prompt_id.clone(),
        );
        let error = match posting.await {
            Ok(submitted) => {
                in_flight.arrived();
                self.settle(prompt, &work, submitted).await;
                return Ok(());
            }
            Err(NotPlaced::Sent(error @ RelayError::Rejected(_))) => {
                return Err(Failure::Refused(error));
            }
            Err(NotPlaced::NotSent(_)) => {
                self.release_claim(id, backend).await;
                return Err(Failure::NotSent);
            }
            Err(NotPlaced::Sent(error)) => error,
        };
        backend.state().api.unanswered_at = Some(tokio::time::Instant::now());
        if self.finds(&prompt, &work).await {
            in_flight.arrived();
            let submitted = Submitted::unanswered(prompt.prompt_id.clone());
            self.settle(prompt, &work, submitted).await;
            return Ok(());
        }
        drop(in_flight);
        if self.0.tracker.queue.count_failure(id) >= MAX_FAILURES {
            return Err(Failure::Refused(error));
        }
        tracing::warn!(job_id = %id, backend = backend.name(), %error, "ComfyUI has not taken a job; it waits on");
        self.release_claim(id, backend).await;
        Err(Failure::NotSent)
    }

    /// Claims a job, so that nobody else hands it in.
    async fn claim(&self, id: &JobId, backend: &Backend) -> Result<StoredSubmission, Failure> {
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        let claimed = store.claim(id, backend.name(), &tracker.owner).await;
        match claimed {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) if *backend.lease.borrow() != Lease::Held => Err(Failure::NotSent),
            Ok(None) => match store.submission(id).await {
                Ok(Some(stored)) if stored.backend.is_none() => Err(Failure::NotSent),
                Ok(_) => Err(Failure::Gone),
                Err(_) => Err(Failure::NotSent),
            },
            Err(error) => {
                tracing::debug!(job_id = %id, %error, "cannot claim a job, retrying");
                Err(Failure::NotSent)
            }
        }
    }

    async fn release_claim(&self, id: &JobId, backend: &Backend) {
        let store = self.0.tracker.recorder.store();
        if let Err(error) = store.release_claim(id, backend.name()).await {
            tracing::warn!(job_id = %id, %error, "cannot put a job back into the queue; it is found again at the next start");
        }
    }

    /// What the job says of itself; `None` if it has ended.
    fn tags_and_keys(&self, id: &JobId) -> Option<(Arc<Tags>, Map<String, serde_json::Value>)> {
        let tracker = &self.0.tracker;
        let registry = tracker.registry();
        let state = tracker.queue.state();
        let queued = state.jobs.get(id)?;
        let tags = match &queued.fresh {
            Some(fresh) => fresh.tags.clone(),
            None => {
                let entry = registry
                    .get(id)
                    .filter(|entry| entry.job.wait().is_some())?;
                entry.job.tags().clone()
            }
        };
        Some((tags, queued.keys.clone()))
    }

    /// Looks for a prompt whose submission was not answered, until ComfyUI has answered that it has it, or several times that
    /// it does not.
    async fn finds(&self, prompt: &FoundPrompt, work: &Work) -> bool {
        let tracker = &self.0.tracker;
        tracker.ingest(&work.job_id, Event::Reachable(false));
        let mut looks = 0;
        while looks < MAX_LOOKS {
            sleep(self.0.comfy.poll_interval).await;
            match has_prompt(prompt.backend.comfy.rest(), &prompt.prompt_id).await {
                Ok(true) => return true,
                Ok(false) => looks += 1,
                Err(_) if self.is_lost(&prompt.backend) => {
                    tracker
                        .queue
                        .abandon(&prompt.backend, prompt.prompt_id.clone());
                    break;
                }
                Err(_) => looks = 0,
            }
        }
        tracker.ingest(&work.job_id, Event::Reachable(true));
        false
    }

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
                    let verdict = Verdict::HandedIn {
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
            let _ = backend.comfy.rest().cancel(&prompt.prompt_id).await;
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
                let _ = fresh.caller.send(Verdict::Refused(error));
            }
            None => {
                let refused = match error {
                    RelayError::Rejected(rejection) => JobError::rejected(&rejection.to_string()),
                    error => JobError::not_taken(&error.to_string()),
                };
                tracker.ingest(id, Event::Refused(refused));
            }
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
            job_id: id.clone(),
            prompt_id: prompt.prompt_id.clone(),
            estimate,
        });
        job.fresh
    }

    /// Takes a job out of the queue.
    pub(super) fn take(&self, id: &JobId) -> Option<QueuedJob> {
        self.state().remove(id)
    }

    /// Lets jobs wait again that were claimed, as far as they are still here.
    fn release(&self, ids: &[JobId]) {
        let mut state = self.state();
        for id in ids {
            if let Some(job) = state.jobs.get_mut(id) {
                job.claimed_for = None;
            }
        }
    }

    /// Counts that handing a job in has failed. Returns how often.
    fn count_failure(&self, id: &JobId) -> u32 {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(id) else {
            return 0;
        };
        job.failures += 1;
        job.failures
    }
}
