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

/// What becomes of a job whose prompt is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum TakenBack {
    /// It runs again, or somebody else decides about it.
    RunsAgain,
    /// It may not run again.
    Ends,
    /// It may not run again: it, or another job of its workflow, was lost on two servers in a row.
    IsTheCause,
}

/// What is known of a job whose prompt is gone.
struct LostJob {
    backend: String,
    prompt_id: String,
    has_begun: bool,
    /// We have removed its prompt from the queue of its server.
    is_called_back: bool,
    /// Another job of its workflow was lost on another server before it began.
    is_of_lost_class: bool,
}

impl Tracker {
    /// Takes a job back whose prompt is gone, to run it again, if it may.
    ///
    /// Fails if the database does not answer: then nothing has changed.
    pub(in crate::relay) async fn take_back(&self, id: &JobId) -> Result<TakenBack, StoreError> {
        let Some(lost) = self.lost_job(id) else {
            return Ok(TakenBack::Ends);
        };
        let store = self.recorder.store();
        let Some(stored) = store.submission(id).await? else {
            return Ok(TakenBack::Ends);
        };
        if !self.has_prompt(id, &lost.prompt_id) {
            // It was taken back meanwhile, and may run elsewhere already.
            return Ok(TakenBack::RunsAgain);
        }
        let Ok(request) = QueuedRequest::unpack(&stored.request) else {
            return Ok(TakenBack::Ends);
        };
        let is_back = stored.backend.is_none();
        let mut attempts: Vec<LostAttempt> = serde_json::from_str(&stored.lost).unwrap_or_default();
        if !is_back {
            let next = after_loss(&lost, &attempts, stored.retries, &request);
            if next != TakenBack::RunsAgain {
                self.record_loss(id, &lost);
                return Ok(next);
            }
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
                // Another task, or another relay, was faster.
                return Ok(TakenBack::RunsAgain);
            }
            self.record_loss(id, &lost);
        }
        let plan = {
            let mut registry = self.registry();
            if let Some(entry) = registry.get(id) {
                self.queue.on_begun(entry);
            }
            let Some(entry) = registry.take_back(id, &after.prompt_id) else {
                return Ok(TakenBack::RunsAgain);
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
        Ok(TakenBack::RunsAgain)
    }

    /// Remembers on which server a job was lost that ran. An operator who removes a server has had his reasons.
    fn record_loss(&self, id: &JobId, lost: &LostJob) {
        let mut backends = self.backends.iter();
        let is_discarded = backends.any(|it| it.name() == lost.backend && is_discarded(it));
        if !lost.has_begun || is_discarded {
            return;
        }
        let now = self.now();
        if let Some(entry) = self.registry().get(id) {
            let mut state = self.queue.state();
            state.losses.record(&entry.job, &lost.backend, now);
        }
    }

    fn has_prompt(&self, id: &JobId, prompt_id: &str) -> bool {
        let registry = self.registry();
        let entry = registry.get(id);
        entry.is_some_and(|entry| entry.job.prompt_id() == Some(prompt_id))
    }

    fn lost_job(&self, id: &JobId) -> Option<LostJob> {
        let registry = self.registry();
        let entry = registry.get(id)?;
        let job = &entry.job;
        if !entry.is_owned() || job.status().is_final() || entry.comparison.cancel_requested {
            return None;
        }
        let backend = job.backend()?.to_owned();
        let has_begun = job.status() == Status::Processing;
        Some(LostJob {
            prompt_id: job.prompt_id()?.to_owned(),
            has_begun,
            is_called_back: entry.comparison.is_called_back,
            is_of_lost_class: has_begun && self.queue.state().losses.is_cause(job, &backend),
            backend,
        })
    }
}

/// Whether a job may be handed in again. One that was lost on two servers in a row while it ran, or whose workflow was, is the
/// cause itself, and one that had not begun may wait again as often as it has to, unless it is to be handed in once. One that we
/// have called back was not lost.
fn after_loss(
    lost: &LostJob,
    attempts: &[LostAttempt],
    retries: u32,
    request: &QueuedRequest,
) -> TakenBack {
    let is_called_back = lost.is_called_back && !lost.has_begun;
    if request.has_keys || (retries == 0 && !is_called_back) {
        return TakenBack::Ends;
    }
    if !lost.has_begun {
        return TakenBack::RunsAgain;
    }
    let mut begun = attempts.iter().filter(|attempt| attempt.had_begun);
    let count = begun.clone().count();
    let is_the_cause = begun
        .next_back()
        .is_some_and(|before| before.backend != lost.backend);
    if is_the_cause || lost.is_of_lost_class {
        TakenBack::IsTheCause
    } else if count < retries as usize {
        TakenBack::RunsAgain
    } else {
        TakenBack::Ends
    }
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
            if !others.any(is_able) {
                continue;
            }
            // One that may not run again waits for its server.
            if self.take_back(&stored.job_id).await? == TakenBack::RunsAgain {
                self.abandon(lost, stored.prompt_id);
            }
        }
        Ok(())
    }
}

impl Tracker {
    /// Records a prompt that a server may still have when it answers again: it is to be cancelled then, and its client is sent
    /// nothing more of it.
    pub(super) fn abandon(&self, backend: &Backend, prompt_id: String) {
        self.tap.close_route(backend.index, &prompt_id);
        let records = &mut self.queue.state().backends;
        records[backend.index].abandoned.push(prompt_id);
    }
}

impl JobQueue {
    /// Takes the prompts that a server may still have although their jobs run elsewhere.
    pub(in crate::relay) fn take_abandoned(&self, backend: &Backend) -> Vec<String> {
        std::mem::take(&mut self.state().backends[backend.index].abandoned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comfy::StoredOptions;
    use crate::config::{ComfyConfig, RelayConfig, StoreConfig};
    use crate::estimate::Estimate;
    use crate::job::Job;
    use crate::relay::queue::loads::UnseenPrompt;
    use crate::store::StoredSubmission;

    /// Nothing listens there.
    const UNREACHABLE: &str = "http://127.0.0.1:1";

    /// A job that was handed in to the backend.
    fn handed_in(id: &JobId, backend: &Backend) -> StoredSubmission {
        let request = QueuedRequest {
            graph: Map::new(),
            options: StoredOptions::default(),
            backends: Vec::new(),
            unsuitable: Vec::new(),
            has_keys: false,
        };
        StoredSubmission {
            job_id: id.clone(),
            place: 1,
            priority: 0,
            share: None,
            backend: Some(backend.name().to_owned()),
            is_withdrawn: false,
            prompt_id: "prompt".to_owned(),
            attempt: 1,
            retries: 1,
            lost: "[]".to_owned(),
            digest: None,
            retry_of: None,
            request: request.pack().unwrap(),
            secrets: None,
        }
    }

    #[tokio::test]
    async fn a_prompt_that_is_taken_back_counts_no_longer_at_its_server() {
        let comfy = ComfyConfig {
            urls: vec![UNREACHABLE.parse().unwrap()],
            ..ComfyConfig::default()
        };
        let store = StoreConfig::default();
        let started = Relay::start(RelayConfig::default(), comfy, &store);
        let relay = started.await.unwrap();
        let tracker = &relay.0.tracker;
        tracker.recorder.ready().await;
        let backend = tracker.backends.iter().next().unwrap().clone();
        let id = JobId::parse("job").unwrap();
        let stored = handed_in(&id, &backend);
        tracker
            .recorder
            .store()
            .add_submissions(&[stored])
            .await
            .unwrap();
        let job = Job::new(id.clone(), tracker.now()).on_backend(backend.name(), "prompt");
        tracker.registry().insert(job, Some(backend.clone()), 0);
        tracker.queue.state().backends[backend.index]
            .unseen
            .push(UnseenPrompt {
                prompt_id: "prompt".to_owned(),
                estimate: Estimate::default(),
            });
        assert_eq!(tracker.take_back(&id).await.unwrap(), TakenBack::RunsAgain);
        assert!(
            tracker.queue.state().backends[backend.index]
                .unseen
                .is_empty()
        );
    }
}
