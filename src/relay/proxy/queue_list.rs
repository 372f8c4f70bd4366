//! What runs and waits on all servers and in the relay's own queue, as one queue of ComfyUI.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value, json};

use super::caller::client_of;
use super::known_prompt::rename_listed;
use super::unlisted::UnlistedJob;
use crate::comfy::PromptOptions;
use crate::job::{self, JobId};
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::{Relay, RelayError};
use crate::store::StoredSubmission;

/// So many prompts that wait are read at the same time: each has a graph, of up to 16 MiB.
const READ_AT_ONCE: usize = 16;

/// ComfyUI's queue: lists of `[number, prompt_id, graph, extra_data, outputs]`.
#[derive(Debug, Default)]
pub struct ComfyQueue {
    /// What runs, on all servers.
    pub running: Vec<Value>,
    /// What waits on servers.
    pub pending: Vec<Value>,
    /// What waits here: its graphs are read from the database.
    unread: VecDeque<UnlistedJob>,
}

impl Relay {
    /// What runs and waits, on all servers and here, with the ids that callers know.
    ///
    /// # Errors
    ///
    /// If no server answers, or the database does not.
    pub async fn comfy_queue(&self) -> Result<ComfyQueue, RelayError> {
        let mut unlisted = self.unlisted_jobs();
        let (mut queue, mut listed) = (ComfyQueue::default(), HashSet::new());
        for answer in self.ask_all("/queue", None).await? {
            let mut json = answer.json;
            let mut take = |name: &str| {
                let mut prompts = match json.get_mut(name).map(Value::take) {
                    Some(Value::Array(prompts)) => prompts,
                    _ => Vec::new(),
                };
                prompts.retain_mut(|prompt| {
                    let server_id = prompt[1].as_str().map(str::to_owned);
                    let known = rename_listed(prompt, answer.backend.comfy.client_id());
                    let Some((server_id, known)) = server_id.zip(known) else {
                        return true;
                    };
                    let is_given_up = self.is_given_up(&known, &answer.backend, &server_id);
                    if !is_given_up {
                        listed.insert(known);
                    }
                    !is_given_up
                });
                prompts
            };
            queue.running.append(&mut take("queue_running"));
            queue.pending.append(&mut take("queue_pending"));
        }
        unlisted.retain(|job| !listed.contains(job.id.as_str()));
        let (begun, waiting): (Vec<_>, Vec<_>) =
            unlisted.into_iter().partition(|job| job.has_begun);
        queue.running.extend(self.listed(begun).await?);
        queue.unread = VecDeque::from(waiting);
        Ok(queue)
    }

    /// The next of the prompts that wait here; none if there are no more.
    ///
    /// # Errors
    ///
    /// If the database does not answer.
    pub async fn next_waiting(&self, queue: &mut ComfyQueue) -> Result<Vec<Value>, RelayError> {
        let next = queue.unread.len().min(READ_AT_ONCE);
        self.listed(queue.unread.drain(..next).collect()).await
    }

    async fn listed(&self, jobs: Vec<UnlistedJob>) -> Result<Vec<Value>, RelayError> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
        let store = self.0.tracker.recorder.store();
        let stored = store.submissions(&ids).await?.into_iter();
        let mut stored: HashMap<String, StoredSubmission> = stored
            .map(|stored| (stored.job_id.to_string(), stored))
            .collect();
        let listed = jobs.iter().map(|job| {
            let stored = stored.remove(job.id.as_str());
            self.as_listed(job, stored)
        });
        Ok(listed.collect())
    }

    /// A job as ComfyUI would list it. One that was not submitted through the queue has no graph here.
    fn as_listed(&self, job: &UnlistedJob, stored: Option<StoredSubmission>) -> Value {
        let place = stored.as_ref().map_or(0, |stored| stored.place);
        let request = stored.and_then(|stored| QueuedRequest::unpack(&stored.request).ok());
        let (graph, options) = request.map_or_else(
            || (Map::new(), PromptOptions::default()),
            |request| (request.graph.clone(), request.prompt_options()),
        );
        let mut extra_data = options.extra_data().clone();
        let tags = {
            let registry = self.0.tracker.registry();
            registry.get(&job.id).map(|entry| entry.job.tags().clone())
        };
        if let Some(client_id) = tags.as_deref().and_then(client_of) {
            extra_data.insert("client_id".to_owned(), client_id.into());
        }
        let mut classes = self
            .0
            .tracker
            .backends
            .iter()
            .filter_map(|it| it.node_classes());
        let classes = classes.next();
        let classes = classes.as_ref().map(|classes| classes.outputs());
        let outputs = job::outputs(&graph, classes, &[], options.targets());
        json!([place, job.id, graph, extra_data, outputs])
    }
}
