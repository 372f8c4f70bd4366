//! Brings the queue up to date with the jobs that this relay has: after a restart, and after a relay has ended whose jobs it
//! has taken over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;
use tokio::time::{Instant, sleep, timeout};

use crate::comfy::Submitted;
use crate::job::{self, Event, ImageSizes, JobError, JobId, Outcome, Plan, PromptGraph};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::registry::Entry;
use crate::relay::requests::post_prompt::{Work, has_prompt};
use crate::relay::tracker::{FoundPrompt, Tracker};
use crate::store::StoredSubmission;

/// How often it is looked whether another relay has taken a job.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How many jobs are read at a time.
pub(super) const BATCH: usize = 500;

impl Relay {
    /// Takes the jobs into the queue that wait and are not in it.
    pub(super) async fn sync_queue(&self) {
        let tracker = &self.0.tracker;
        let mut missing = tracker.missing();
        if !missing.is_empty() && !tracker.peers.is_alone(Instant::now()) {
            // Another relay may have taken some.
            if let Err(error) = tracker.read_rows(&missing).await {
                return tracing::debug!(%error, "cannot read the jobs that wait, retrying");
            }
            missing = tracker.missing();
        }
        for ids in missing.chunks(BATCH) {
            let stored = match tracker.recorder.store().submissions(ids).await {
                Ok(stored) => stored,
                Err(error) => {
                    return tracing::debug!(%error, "cannot read the jobs that wait, retrying");
                }
            };
            let mut stored: HashMap<JobId, StoredSubmission> = stored
                .into_iter()
                .map(|it| (it.job_id.clone(), it))
                .collect();
            for id in ids {
                match stored.remove(id) {
                    Some(stored) => self.take_stored(stored),
                    None => self.end_without_submission(id),
                }
            }
        }
    }

    fn take_stored(&self, stored: StoredSubmission) {
        let (tracker, id) = (&self.0.tracker, &stored.job_id);
        let Ok(request) = QueuedRequest::unpack(&stored.request) else {
            return self.end_without_submission(id);
        };
        {
            let mut registry = tracker.registry();
            if let Some(entry) = registry.get_mut(id) {
                entry.job.set_attempt(stored.attempt);
            }
        }
        if stored.is_withdrawn {
            // The relay has ended while it cancelled the job.
            let cancelled = Event::Closed(Outcome::Cancelled);
            return tracker.ingest(id, cancelled);
        }
        if let Some(name) = stored.backend.clone() {
            return self.settle_claimed(stored, request, &name);
        }
        let allowed = request.allowed();
        let plan = self.plan_of(&request);
        tracker.queue.add(&stored, plan, allowed, None, Map::new());
        tracker.queue.wake();
    }

    /// The relay has ended while this job was handed in: its backend is asked whether it has it.
    fn settle_claimed(&self, stored: StoredSubmission, request: QueuedRequest, name: &str) {
        let tracker = &self.0.tracker;
        let id = stored.job_id.clone();
        let backend = self.backend_named(name).ok().cloned();
        tracker.queue.state().settling.insert(id.clone());
        let (relay, name) = (self.clone(), name.to_owned());
        self.0.tasks.spawn(async move {
            let settling = async {
                match backend {
                    Some(backend) => relay.find_claimed(&stored, request, backend).await,
                    // It is not configured here. Another relay may follow it, or it may run the prompt unseen.
                    None => {
                        let lost_after = relay.0.config.lost_after;
                        if lost_after.is_zero() {
                            // Never.
                            relay.until_taken(&id).await;
                        } else if timeout(lost_after, relay.until_taken(&id)).await.is_err() {
                            relay.release_claim(&id, &name).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = relay.0.stop.cancelled() => {}
                () = settling => {}
            }
            relay.0.tracker.queue.state().settling.remove(&id);
        });
    }

    async fn find_claimed(
        &self,
        stored: &StoredSubmission,
        request: QueuedRequest,
        backend: Arc<Backend>,
    ) {
        let tracker = &self.0.tracker;
        let mut looks = 0;
        loop {
            let mut connected = backend.connected.subscribe();
            let opened = async {
                let _ = connected.wait_for(|&connected| connected).await;
            };
            tokio::select! {
                () = opened => {}
                () = self.until_taken(&stored.job_id) => return,
                () = self.until_lost(&backend) => {
                    tracker.abandon(&backend, stored.prompt_id.clone());
                    return self.release_as_new(&stored.job_id, backend.name()).await;
                }
            }
            let disconnects = backend.state().socket.disconnects;
            match has_prompt(backend.comfy.rest(), &stored.prompt_id).await {
                Ok(true) => {
                    let Some(tags) = tracker
                        .registry()
                        .get(&stored.job_id)
                        .map(|entry| entry.job.tags().clone())
                    else {
                        return;
                    };
                    let prompt = FoundPrompt {
                        backend,
                        prompt_id: stored.prompt_id.clone(),
                        disconnects,
                        history: None,
                        tags: tags.clone(),
                    };
                    let work = Work {
                        job_id: stored.job_id.clone(),
                        options: request.prompt_options(),
                        graph: request.graph,
                        tags,
                    };
                    let submitted = Submitted::unanswered(stored.prompt_id.clone());
                    self.settle(prompt, &work, submitted).await;
                    return self.forget_keys(&stored.job_id, &stored.secrets).await;
                }
                // A request that was on its way may still arrive.
                Ok(false) if looks > 0 => {
                    return self.release_claim(&stored.job_id, backend.name()).await;
                }
                Ok(false) => looks += 1,
                Err(_) => {}
            }
            sleep(self.0.comfy.poll_interval).await;
        }
    }

    /// Returns when another relay has taken a job: the one that follows its backend now.
    async fn until_taken(&self, id: &JobId) {
        let tracker = &self.0.tracker;
        let is_owned = || tracker.registry().get(id).is_some_and(Entry::is_owned);
        while is_owned() {
            sleep(LOOK_PAUSE).await;
            self.read_row(id).await;
        }
    }

    fn end_without_submission(&self, id: &JobId) {
        tracing::warn!(job_id = %id, "the database has no graph for a job that waits");
        let lost = Outcome::Failed(JobError::lost());
        self.0.tracker.ingest(id, Event::Closed(lost));
    }

    /// What will run of a graph, on any backend.
    pub(in crate::relay) fn plan_of(&self, request: &QueuedRequest) -> Plan {
        let mut backends = self.0.tracker.backends.iter();
        let classes = backends.find_map(|backend| backend.node_classes());
        let classes = classes.as_ref().map(|classes| classes.outputs());
        let options = request.prompt_options();
        let outputs = job::outputs(&request.graph, classes, &[], options.targets());
        let graph = PromptGraph::new(request.graph.clone(), outputs);
        graph.map_or_else(Plan::default, |graph| graph.plan(&ImageSizes::default()))
    }
}

impl Tracker {
    /// Our jobs that wait and are not in the queue.
    fn missing(&self) -> Vec<JobId> {
        let registry = self.registry();
        let state = self.queue.state();
        let waiting = registry.open_without_backend();
        let waiting = waiting.filter(|entry| entry.job.wait().is_some() && entry.is_owned());
        let ids = waiting.map(|entry| entry.job.id());
        let ids = ids.filter(|id| !state.jobs.contains_key(*id) && !state.settling.contains(*id));
        ids.cloned().collect()
    }
}
