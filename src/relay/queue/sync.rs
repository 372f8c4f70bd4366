//! Brings the queue up to date with the jobs that this relay has: after a restart, and after a relay has ended whose jobs it
//! has taken over.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Map;

use crate::comfy::Submitted;
use crate::job::{self, Event, ImageSizes, JobError, JobId, Outcome, Plan, PromptGraph};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::requests::post_prompt::{Work, has_prompt};
use crate::relay::tracker::FoundPrompt;
use crate::store::StoredSubmission;

/// How many jobs are read at a time.
const BATCH: usize = 500;

impl Relay {
    /// Takes the jobs into the queue that wait and are not in it.
    pub(super) async fn sync_queue(&self) {
        let tracker = &self.0.tracker;
        let missing: Vec<JobId> = {
            let registry = tracker.registry();
            let state = tracker.queue.state();
            let waiting = registry.open_without_backend();
            let waiting = waiting.filter(|entry| entry.job.wait().is_some() && entry.is_owned());
            let ids = waiting.map(|entry| entry.job.id());
            let ids =
                ids.filter(|id| !state.jobs.contains_key(*id) && !state.settling.contains(*id));
            ids.cloned().collect()
        };
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
                    // It is not configured any more.
                    None => relay.release_claim(&id, &name).await,
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
                () = self.until_lost(&backend) => {
                    tracker.queue.abandon(&backend, stored.prompt_id.clone());
                    return self.release_claim(&stored.job_id, backend.name()).await;
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
                    return self.settle(prompt, &work, submitted).await;
                }
                // A request that was on its way may still arrive.
                Ok(false) if looks > 0 => {
                    return self.release_claim(&stored.job_id, backend.name()).await;
                }
                Ok(false) => looks += 1,
                Err(_) => {}
            }
            tokio::time::sleep(self.0.comfy.poll_interval).await;
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
