//! Takes a job into the queue on behalf of a caller, and waits for what becomes of it.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::broker::Hint;
use crate::job::{Event, Job, JobId, Plan, Tags};
use crate::relay::proxy::prompt_name::first_prompt_id;
use crate::relay::queue::allowed_backends::AllowedBackends;
use crate::relay::queue::job_queue::{Fresh, JobQueue, QueueVerdict, QueuedJob};
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::registry::Registry;
use crate::relay::requests::register::{Accepted, Reservation};
use crate::relay::tracker::Tracker;
use crate::relay::{Relay, RelayError};
use crate::store::{StoreError, StoredSubmission};

/// When to try again if too many jobs wait and nothing is known of when they begin, in seconds.
const RETRY_AFTER: f64 = 5.0;

/// The longest such time, in seconds.
const MAX_RETRY_AFTER: f64 = 600.0;

/// A job that is to be taken into the queue.
#[derive(Debug)]
pub(in crate::relay) struct NewQueuedJob {
    pub(in crate::relay) request: QueuedRequest,
    /// Keys of partner nodes, which are handed in once, and stored nowhere.
    pub(in crate::relay) keys: Map<String, Value>,
    pub(in crate::relay) tags: Arc<Tags>,
    /// Higher ones come first.
    pub(in crate::relay) priority: i64,
    /// How often it may be handed in again after it is lost.
    pub(in crate::relay) retries: u32,
    /// For whom it is.
    pub(in crate::relay) share: Option<String>,
    /// Of the body of the request: one that is repeated has the same.
    pub(in crate::relay) digest: Option<String>,
    /// The job that it repeats.
    pub(in crate::relay) retry_of: Option<JobId>,
    /// Before all that wait already.
    pub(in crate::relay) is_first: bool,
    /// What of its graph will run.
    pub(in crate::relay) plan: Plan,
    pub(in crate::relay) allowed: AllowedBackends,
}

/// Jobs that are being stored: they count for the limits.
#[derive(Debug)]
pub(super) struct Admitting {
    tracker: Arc<Tracker>,
    share: Option<u32>,
    count: usize,
}

impl Drop for Admitting {
    fn drop(&mut self) {
        let mut state = self.tracker.queue.state();
        if let Some(count) = state.admitting.get_mut(&self.share) {
            *count -= self.count;
            if *count == 0 {
                state.admitting.remove(&self.share);
            }
        }
    }
}

/// Why a job was not taken into the queue.
#[derive(Debug)]
pub(in crate::relay) enum NotAdmitted {
    /// It cannot be stored.
    Unstored(StoreError),
    /// It was refused.
    Refused(RelayError),
}

impl Relay {
    /// Takes a job into the queue: it is on the disk before it is handed in, and when this returns.
    ///
    /// If a backend has room, this waits for its answer, so that a graph that ComfyUI refuses is refused at once.
    pub(in crate::relay) async fn admit(
        &self,
        reservation: &Reservation,
        admission: NewQueuedJob,
    ) -> Result<Accepted, NotAdmitted> {
        let (tracker, id) = (&self.0.tracker, &reservation.id);
        let queue = &tracker.queue;
        let admitting = self.check_limits(admission.share.as_deref(), 1);
        let admitting = admitting.map_err(NotAdmitted::Refused)?;
        let stored = self.store_new(id, &admission).await;
        let stored = stored.map_err(NotAdmitted::Unstored)?;
        let (caller, mut verdict) = oneshot::channel();
        queue.add(
            &stored,
            admission.plan,
            admission.allowed,
            Some(Fresh {
                caller,
                tags: admission.tags,
                prompt_id: stored.prompt_id.clone(),
            }),
            admission.keys,
        );
        drop(admitting);
        queue.wake();
        let mut accepted = Accepted {
            job_id: id.clone(),
            prompt_id: stored.prompt_id,
            backend: String::new(),
            is_unanswered: false,
            ignored: Vec::new(),
            is_written: false,
            is_replayed: false,
        };
        match timeout(self.0.comfy.submit_wait, &mut verdict).await {
            Ok(Ok(QueueVerdict::HandedIn {
                backend,
                prompt_id,
                ignored,
            })) => {
                (accepted.backend, accepted.prompt_id) = (backend, prompt_id);
                accepted.ignored = ignored;
            }
            Ok(Ok(QueueVerdict::Waits)) => accepted.backend = self.planned_backend(id),
            Ok(Ok(QueueVerdict::Refused(error))) => return Err(NotAdmitted::Refused(error)),
            Ok(Err(_)) => return Err(NotAdmitted::Refused(RelayError::Stopping)),
            Err(_) => {
                tracker.register_waiting(&mut tracker.registry(), id);
                tracker.ingest(id, Event::Reachable(false));
                tracing::warn!(job_id = %id, "ComfyUI does not answer a submission; the job waits for it");
                accepted.is_unanswered = true;
                accepted.backend = self.planned_backend(id);
            }
        }
        let written = self.is_written(id).await;
        accepted.is_written = written.map_err(NotAdmitted::Refused)?;
        if queue.has(id) {
            tracker.broker.hint(Hint::Queue);
        }
        Ok(accepted)
    }

    /// Refuses so many jobs if too many would wait. They count from now on, until what is returned is dropped.
    pub(super) fn check_limits(
        &self,
        share: Option<&str>,
        added: usize,
    ) -> Result<Admitting, RelayError> {
        let config = &self.0.config;
        let mut state = self.0.tracker.queue.state();
        let waiting = state.jobs.len() + state.admitting.values().sum::<usize>();
        let number = state.share(share);
        let of_share = || {
            let jobs = state.jobs.values();
            let admitting = state.admitting.get(&number).copied();
            jobs.filter(|job| job.share == number).count() + admitting.unwrap_or_default()
        };
        let counts = [
            (config.queue_limit, waiting),
            match config.queue_limit_per_sub {
                0 => (0, 0),
                limit => (limit, of_share()),
            },
        ];
        for (limit, waiting) in counts {
            if limit > 0 && waiting + added > limit {
                let retry_after = state
                    .next_start
                    .unwrap_or(RETRY_AFTER)
                    .clamp(1.0, MAX_RETRY_AFTER);
                return Err(RelayError::QueueFull {
                    waiting,
                    limit,
                    retry_after: retry_after.ceil() as u64,
                });
            }
        }
        *state.admitting.entry(number).or_default() += added;
        Ok(Admitting {
            tracker: self.0.tracker.clone(),
            share: number,
            count: added,
        })
    }

    /// Stores what is to be handed in.
    async fn store_new(
        &self,
        id: &JobId,
        new: &NewQueuedJob,
    ) -> Result<StoredSubmission, StoreError> {
        let stored = self.stored(id, new)?;
        let store = self.0.tracker.recorder.store();
        store.add_submissions(std::slice::from_ref(&stored)).await?;
        Ok(stored)
    }

    /// What is stored of a job that waits.
    pub(super) fn stored(
        &self,
        id: &JobId,
        new: &NewQueuedJob,
    ) -> Result<StoredSubmission, StoreError> {
        let place = self.0.tracker.queue.next_place();
        Ok(StoredSubmission {
            job_id: id.clone(),
            // As ComfyUI numbers prompts that go to the front.
            place: if new.is_first { -place } else { place },
            priority: new.priority,
            share: new.share.clone(),
            backend: None,
            is_withdrawn: false,
            prompt_id: first_prompt_id(id, &new.tags),
            attempt: 1,
            retries: new.retries,
            lost: "[]".to_owned(),
            digest: new.digest.clone(),
            retry_of: new.retry_of.as_ref().map(JobId::to_string),
            request: new.request.pack().map_err(serde_json::Error::io)?,
            secrets: self.0.tracker.queue.seal.seal(id, &new.keys),
        })
    }

    /// The name of the backend that has a job, or for which it is planned.
    pub(super) fn planned_backend(&self, id: &JobId) -> String {
        let registry = self.0.tracker.registry();
        let job = registry.get(id).map(|entry| &entry.job);
        let planned = job.and_then(|job| job.wait()?.backend.as_deref());
        let backend = job.and_then(Job::backend).or(planned);
        backend.unwrap_or_default().to_owned()
    }
}

impl Tracker {
    /// Registers a job of the queue whose caller waited, and publishes that it waits.
    pub(super) fn register_waiting(&self, registry: &mut Registry, id: &JobId) {
        let Some(fresh) = self.queue.take_fresh(id) else {
            return;
        };
        let job = Job::new(id.clone(), self.now())
            .tagged(fresh.tags)
            .waiting(&fresh.prompt_id);
        let entry = registry.insert(job, None, 0);
        tracing::info!(job_id = %id, "job waits for a server");
        self.publish(entry);
        // It may have given up.
        let _ = fresh.caller.send(QueueVerdict::Waits);
    }
}

impl JobQueue {
    /// Adds a job.
    pub(super) fn add(
        &self,
        stored: &StoredSubmission,
        plan: Plan,
        allowed: AllowedBackends,
        fresh: Option<Fresh>,
        keys: Map<String, Value>,
    ) {
        let mut state = self.state();
        let share = state.share(stored.share.as_deref());
        let job = QueuedJob {
            place: stored.place,
            priority: stored.priority,
            share,
            kind: state.kinds.add(plan, allowed),
            claimed_for: None,
            failures: 0,
            has_secrets: stored.secrets.is_some(),
            fresh,
            keys,
        };
        if let Some(before) = state.jobs.insert(stored.job_id.clone(), job) {
            state.kinds.remove(before.kind);
        }
    }

    /// A job whose caller waits is to be handed in as another prompt.
    pub(super) fn rename_fresh(&self, id: &JobId, prompt_id: &str) {
        let mut state = self.state();
        if let Some(fresh) = state.jobs.get_mut(id).and_then(|job| job.fresh.as_mut()) {
            prompt_id.clone_into(&mut fresh.prompt_id);
        }
    }

    /// Takes what is kept of a job for its caller; `None` if nobody waits.
    pub(super) fn take_fresh(&self, id: &JobId) -> Option<Fresh> {
        self.state().jobs.get_mut(id)?.fresh.take()
    }
}
