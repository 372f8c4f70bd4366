//! Hands jobs in to a backend, one after another, so that they keep their order.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;
use tokio::time::sleep;

use crate::comfy::Submitted;
use crate::job::{Event, JobId, Tags};
use crate::relay::backend::select::InFlight;
use crate::relay::backend::{Backend, Lease};
use crate::relay::queue::job_queue::JobQueue;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::registry::Entry;
use crate::relay::requests::post_prompt::{NotPlaced, Work, has_prompt, post_prompt};
use crate::relay::requests::submit::STOP_PATIENCE;
use crate::relay::tracker::FoundPrompt;
use crate::relay::{Relay, RelayError};
use crate::store::{StoredSubmission, TakenFor};

/// So many looks in a row at queue and history that do not show a prompt are no accident.
const MAX_LOOKS: u32 = 2;

/// How often a job is handed in without success before it fails.
const MAX_FAILURES: u32 = 3;

/// How often the upload of a picture for a job is cut off before it is given up: a gateway before a server may be started again.
const MAX_CUT_UPLOADS: u32 = 5;

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
    /// This backend cannot run it, others may: it waits for those.
    Barred,
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
                    // The jobs may go elsewhere meanwhile.
                    queue.rest(&lot.backend);
                    queue.release(&lot);
                    queue.wake();
                    sleep(PAUSE).await;
                    break;
                }
            }
        };
        tokio::select! {
            () = stopped => {}
            () = handing_in => {}
        }
        queue.release(&lot);
        queue.set_idle(&lot.backend);
        queue.wake();
    }

    /// Hands one job in. Fails if the backend is to be left alone for a moment.
    async fn hand_in_one(&self, id: &JobId, backend: &Arc<Backend>) -> Result<(), ()> {
        let handed_in = tokio::select! {
            biased;
            handed_in = self.hand_in(id, backend) => handed_in,
            () = self.until_lost(backend) => Err(self.leave(id, backend).await),
        };
        match handed_in {
            Ok(()) => Ok(()),
            Err(Failure::Gone) => {
                self.0.tracker.queue.remove(id);
                Ok(())
            }
            Err(Failure::Barred) => Ok(()),
            Err(Failure::NotSent) => Err(()),
            Err(Failure::Refused(error)) => {
                self.refuse(id, error).await;
                Ok(())
            }
        }
    }

    /// Gives up handing a job in to a backend that does not answer any more. It may have the prompt, which is cancelled there when
    /// it is back.
    async fn leave(&self, id: &JobId, backend: &Backend) -> Failure {
        let tracker = &self.0.tracker;
        if !tracker.queue.state().jobs.contains_key(id) {
            // It was handed in, and is followed there.
            return Failure::Gone;
        }
        if let Ok(Some(stored)) = tracker.recorder.store().submission(id).await {
            tracker.abandon(backend, stored.prompt_id);
        }
        self.release_as_new(id, backend.name()).await;
        tracker.ingest(id, Event::Reachable(true));
        Failure::NotSent
    }

    async fn hand_in(&self, id: &JobId, backend: &Arc<Backend>) -> Result<(), Failure> {
        let stored = self.claim(id, backend).await?;
        let work = self.work_of(id, &stored)?;
        if !*backend.connected.borrow() {
            // It went away after it was chosen. Its events go only to an open socket.
            self.release_claim(id, backend.name()).await;
            return Err(Failure::NotSent);
        }
        self.free_memory(backend).await;
        let in_flight = InFlight::new(backend.clone());
        let prompt = FoundPrompt {
            disconnects: backend.state().socket.disconnects,
            backend: backend.clone(),
            prompt_id: stored.prompt_id,
            history: None,
            tags: work.tags.clone(),
        };
        let posting = post_prompt(
            self.0.tracker.clone(),
            backend.clone(),
            work.clone(),
            prompt.prompt_id.clone(),
        );
        let posted = tokio::select! {
            posted = posting => posted,
            () = self.until_found(&prompt) => Ok(Submitted::unanswered(prompt.prompt_id.clone())),
        };
        let error = match posted {
            Ok(submitted) => {
                in_flight.arrived();
                self.settle(prompt, &work, submitted).await;
                self.forget_keys(id, &stored.secrets).await;
                return Ok(());
            }
            Err(NotPlaced::Sent(RelayError::Rejected(_))) if self.0.tracker.bar(id, backend) => {
                self.release_claim(id, backend.name()).await;
                return Err(Failure::Barred);
            }
            Err(NotPlaced::Sent(
                error @ (RelayError::Rejected(_) | RelayError::InputNotFound(_)),
            )) => {
                return Err(Failure::Refused(error));
            }
            Err(NotPlaced::NotSent(_)) => {
                self.release_claim(id, backend.name()).await;
                return Err(Failure::NotSent);
            }
            Err(NotPlaced::InputNotTaken(error)) => {
                return Err(self.without_input(id, backend, error).await);
            }
            Err(NotPlaced::Sent(error)) => error,
        };
        backend.state().api.set_failed(is_passing(&error));
        if self.finds(&prompt, &work).await {
            in_flight.arrived();
            let submitted = Submitted::unanswered(prompt.prompt_id.clone());
            self.settle(prompt, &work, submitted).await;
            self.forget_keys(id, &stored.secrets).await;
            return Ok(());
        }
        drop(in_flight);
        if !is_passing(&error) && self.0.tracker.queue.counts_as_refused(id) {
            return Err(Failure::Refused(error));
        }
        tracing::warn!(job_id = %id, backend = backend.name(), %error, "ComfyUI has not taken a job; it waits on");
        self.release_claim(id, backend.name()).await;
        Err(Failure::NotSent)
    }

    /// A backend has not got a picture that a job loads. If it refuses the picture, or does not get it again and again, the job waits
    /// for others.
    async fn without_input(&self, id: &JobId, backend: &Backend, error: RelayError) -> Failure {
        let tracker = &self.0.tracker;
        let is_tried_again = is_passing(&error) && !tracker.queue.gives_up_upload(id);
        if !is_tried_again && !tracker.leave_to_others(id, backend) {
            return Failure::Refused(error);
        }
        tracing::warn!(job_id = %id, backend = backend.name(), %error, "ComfyUI has not taken a picture that a job loads; the job waits on");
        self.release_claim(id, backend.name()).await;
        if is_tried_again {
            Failure::NotSent
        } else {
            Failure::Barred
        }
    }

    /// What is handed in for a job.
    fn work_of(&self, id: &JobId, stored: &StoredSubmission) -> Result<Arc<Work>, Failure> {
        let Ok(request) = QueuedRequest::unpack(&stored.request) else {
            let unreadable = RelayError::WorkflowUnavailable(id.clone());
            return Err(Failure::Refused(unreadable));
        };
        let (tags, mut keys) = self.tags_and_keys(id).ok_or(Failure::Gone)?;
        if let Some(sealed) = stored.secrets.as_deref().filter(|_| keys.is_empty()) {
            let opened = self.0.tracker.queue.seal.open(id, sealed);
            if opened.is_none() {
                tracing::warn!(job_id = %id, "cannot open the sealed keys of a job: QUEUE_KEY_FILE is not the file with which they were sealed");
            }
            keys = opened.unwrap_or_default();
        }
        if request.has_keys && keys.is_empty() {
            return Err(Failure::Refused(RelayError::KeysGone(id.clone())));
        }
        let options = request.prompt_options().with_keys(keys);
        Ok(Arc::new(Work {
            job_id: id.clone(),
            graph: request.graph,
            options,
            tags,
        }))
    }

    /// Claims a job, so that nobody else hands it in.
    async fn claim(&self, id: &JobId, backend: &Backend) -> Result<StoredSubmission, Failure> {
        let tracker = &self.0.tracker;
        let store = tracker.recorder.store();
        let is_of_another = {
            let registry = tracker.registry();
            let is_fresh = tracker.queue.is_fresh(id);
            !is_fresh && !registry.get(id).is_some_and(Entry::is_owned)
        };
        let claimed = if is_of_another {
            self.take_shared(id, TakenFor::Backend(backend.name()))
                .await
        } else {
            store.claim(id, backend.name(), &tracker.owner).await
        };
        match claimed {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) if *backend.lease.borrow() != Lease::Held => Err(Failure::NotSent),
            // Another relay has it, or it has ended.
            Ok(None) if is_of_another => Err(Failure::Gone),
            Ok(None) => match store.submission(id).await {
                Ok(stored) => {
                    self.read_row(id).await;
                    let waits =
                        |stored: StoredSubmission| stored.backend.is_none() && !stored.is_withdrawn;
                    Err(if stored.is_some_and(waits) {
                        Failure::NotSent
                    } else {
                        Failure::Gone
                    })
                }
                Err(_) => Err(Failure::NotSent),
            },
            Err(error) => {
                tracing::debug!(job_id = %id, %error, "cannot claim a job, retrying");
                Err(Failure::NotSent)
            }
        }
    }

    /// Learns whether another relay has taken a job that waits.
    pub(super) async fn read_row(&self, id: &JobId) {
        if let Err(error) = self.0.tracker.read_rows(std::slice::from_ref(id)).await {
            tracing::debug!(job_id = %id, %error, "cannot read a job, retrying");
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

    /// Returns when a backend shows a prompt whose submission it has not answered in time.
    async fn until_found(&self, prompt: &FoundPrompt) {
        sleep(self.0.comfy.submit_wait).await;
        let rest = prompt.backend.comfy.rest();
        while !matches!(has_prompt(rest, &prompt.prompt_id).await, Ok(true)) {
            sleep(self.0.comfy.poll_interval).await;
        }
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
                Err(_) => looks = 0,
            }
        }
        tracker.ingest(&work.job_id, Event::Reachable(true));
        false
    }
}

/// Whether a server that does not take a job now will probably take it later.
fn is_passing(error: &RelayError) -> bool {
    match error {
        RelayError::BackendUnreachable(_) => true,
        RelayError::Backend { source, .. } => source.is_of_gateway(),
        _ => false,
    }
}

impl JobQueue {
    /// Leaves a backend alone for a moment: it has not taken a job.
    fn rest(&self, backend: &Backend) {
        self.state().backends[backend.index].is_resting = true;
    }

    /// Whether the caller of a job waits for what becomes of it.
    pub(super) fn is_fresh(&self, id: &JobId) -> bool {
        let state = self.state();
        state.jobs.get(id).is_some_and(|job| job.fresh.is_some())
    }

    /// Lets jobs wait again that were claimed for a backend, as far as they are still here.
    fn release(&self, lot: &Lot) {
        let mut state = self.state();
        for id in &lot.jobs {
            let job = state.jobs.get_mut(id);
            if let Some(job) = job.filter(|job| job.claimed_for == Some(lot.backend.index)) {
                job.claimed_for = None;
            }
        }
    }

    /// Counts that an upload for a job was cut off. Returns whether it is to be given up: it was too often, and no caller waits.
    fn gives_up_upload(&self, id: &JobId) -> bool {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(id) else {
            return true;
        };
        job.failures += 1;
        job.fresh.is_none() && job.failures >= MAX_CUT_UPLOADS
    }

    /// Counts that handing a job in has failed. Returns whether it is to be given up: it has failed too often, or its caller waits.
    fn counts_as_refused(&self, id: &JobId) -> bool {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(id) else {
            return true;
        };
        job.failures += 1;
        job.fresh.is_some() || job.failures >= MAX_FAILURES
    }
}
