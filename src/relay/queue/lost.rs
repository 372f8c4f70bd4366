//! Takes back what was lost with its server: it runs again, elsewhere if possible.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Map;
use tokio::time::sleep;
use uuid::Uuid;

use crate::job::{JobId, Status};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::backend::operation::Operation;
use crate::relay::queue::job_queue::JobQueue;
use crate::relay::queue::loads::refusal;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::tracker::Tracker;
use crate::store::StoreError;

/// How often it is looked whether a server is lost.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// An attempt that was lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::relay) struct LostAttempt {
    /// The backend with which it was lost.
    pub(in crate::relay) backend: String,
    /// ComfyUI's id for it.
    pub(in crate::relay) prompt_id: String,
    /// Whether it had begun.
    pub(in crate::relay) had_begun: bool,
    /// When that was learned.
    pub(in crate::relay) at: jiff::Timestamp,
}

/// What is known of a job whose prompt is gone.
struct LostJob {
    backend: String,
    prompt_id: String,
    has_begun: bool,
}

impl Tracker {
    /// Takes a job back whose prompt is gone, to run it again, if it may. Returns whether it does; if not, it has ended.
    ///
    /// Fails if the database does not answer: then nothing has changed.
    pub(in crate::relay) async fn take_back(&self, id: &JobId) -> Result<bool, StoreError> {
        let Some(lost) = self.lost_job(id) else {
            return Ok(false);
        };
        let store = self.recorder.store();
        let Some(stored) = store.submission(id).await? else {
            return Ok(false);
        };
        let Ok(request) = QueuedRequest::unpack(&stored.request) else {
            return Ok(false);
        };
        let is_back = stored.backend.is_none();
        let mut attempts: Vec<LostAttempt> = serde_json::from_str(&stored.lost).unwrap_or_default();
        if !is_back && !may_run_again(&lost, &attempts, stored.retries, &request) {
            return Ok(false);
        }
        let mut after = stored.clone();
        if !is_back {
            attempts.push(LostAttempt {
                backend: lost.backend.clone(),
                prompt_id: lost.prompt_id.clone(),
                had_begun: lost.has_begun,
                at: self.now(),
            });
            after.backend = None;
            after.prompt_id = Uuid::new_v4().to_string();
            after.attempt += u32::from(lost.has_begun);
            after.lost = serde_json::to_string(&attempts)?;
            if !store.take_back(&after, &stored.prompt_id).await? {
                return Ok(false);
            }
        }
        let plan = {
            let mut registry = self.registry();
            let Some(entry) = registry.take_back(id, &after.prompt_id) else {
                return Ok(true);
            };
            entry.job.set_attempt(after.attempt);
            let plan = entry.job.plan().clone();
            self.publish(entry);
            plan
        };
        tracing::warn!(
            job_id = %id, backend = lost.backend, attempt = after.attempt,
            "a prompt was lost with its server; the job runs again"
        );
        let allowed = request.allowed();
        self.queue.add(&after, plan, allowed, None, Map::new());
        self.queue.wake();
        Ok(true)
    }

    fn lost_job(&self, id: &JobId) -> Option<LostJob> {
        let registry = self.registry();
        let entry = registry.get(id)?;
        let job = &entry.job;
        if !entry.is_owned() || job.status().is_final() || entry.comparison.cancel_requested {
            return None;
        }
        Some(LostJob {
            backend: job.backend()?.to_owned(),
            prompt_id: job.prompt_id()?.to_owned(),
            has_begun: job.status() == Status::Processing,
        })
    }
}

/// Whether a job may be handed in again. One that was lost on two servers in a row while it ran is the cause itself, and one
/// that had not begun may wait again as often as it has to, unless it is to be handed in once.
fn may_run_again(
    lost: &LostJob,
    attempts: &[LostAttempt],
    retries: u32,
    request: &QueuedRequest,
) -> bool {
    if request.has_keys || retries == 0 {
        return false;
    }
    if !lost.has_begun {
        return true;
    }
    let mut begun = attempts.iter().filter(|attempt| attempt.had_begun);
    let count = begun.clone().count();
    let is_the_cause = begun
        .next_back()
        .is_some_and(|before| before.backend != lost.backend);
    count < retries as usize && !is_the_cause
}

impl Relay {
    /// Takes back the jobs of servers that do not answer for too long, where another one can run them.
    pub(super) async fn take_back_unreachable(&self) {
        let tracker = &self.0.tracker;
        let backends = tracker.backends.iter();
        let is_up = |backend: &&Arc<Backend>| refusal(backend).is_none();
        if !backends.clone().any(|backend| is_up(&backend)) {
            return;
        }
        for backend in backends.filter(|backend| self.is_lost(backend)) {
            let open: Vec<JobId> = {
                let registry = tracker.registry();
                let open = registry.open(backend).filter(|entry| entry.is_owned());
                open.map(|entry| entry.job.id().clone()).collect()
            };
            if let Err(error) = tracker.take_back_elsewhere(&open, backend).await {
                return tracing::debug!(%error, "cannot take back lost jobs, retrying");
            }
        }
    }

    /// Whether a server has not answered for so long that its prompts count as lost.
    pub(super) fn is_lost(&self, backend: &Backend) -> bool {
        let now = self.0.tracker.now();
        let state = backend.state();
        let limit = self.0.config.lost_after;
        !state.api.reachable
            && !limit.is_zero()
            && !backend.stands_by()
            && state
                .outage
                .since()
                .is_some_and(|since| now.duration_since(since).unsigned_abs() >= limit)
    }

    /// Returns when a server has not answered for so long, or is removed at once.
    pub(super) async fn until_lost(&self, backend: &Backend) {
        while !self.is_lost(backend) && !is_discarded(backend) {
            sleep(LOOK_PAUSE).await;
        }
    }
}

/// Whether a server is removed without being waited for.
fn is_discarded(backend: &Backend) -> bool {
    backend.is_removed() || backend.state().operation == Operation::Discard
}

impl Tracker {
    /// Takes jobs back from a server that does not answer, where they may run on another one.
    async fn take_back_elsewhere(&self, ids: &[JobId], lost: &Backend) -> Result<(), StoreError> {
        for stored in self.recorder.store().submissions(ids).await? {
            let Ok(request) = QueuedRequest::unpack(&stored.request) else {
                continue;
            };
            let mut others = self.backends.iter().filter(|it| it.index != lost.index);
            let allowed = request.allowed();
            let is_able =
                |other: &Arc<Backend>| allowed.contains(other) && refusal(other).is_none();
            if others.any(is_able) && self.take_back(&stored.job_id).await? {
                self.queue.abandon(lost, stored.prompt_id);
            }
        }
        Ok(())
    }
}

impl JobQueue {
    /// Records a prompt that a server may still have when it answers again: it is to be cancelled then.
    pub(super) fn abandon(&self, backend: &Backend, prompt_id: String) {
        self.state().backends[backend.index]
            .abandoned
            .push(prompt_id);
    }

    /// Takes the prompts that a server may still have although their jobs run elsewhere.
    pub(in crate::relay) fn take_abandoned(&self, backend: &Backend) -> Vec<String> {
        std::mem::take(&mut self.state().backends[backend.index].abandoned)
    }
}
