//! What runs and waits on all servers and in the relay's own queue, as one queue of ComfyUI.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::caller::client_of;
use super::known_prompt::rename_listed;
use super::unlisted::UnlistedJob;
use crate::comfy::PromptOptions;
use crate::job::{self, JobId};
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::{Relay, RelayError};
use crate::store::StoredSubmission;

/// ComfyUI's queue: lists of `[number, prompt_id, graph, extra_data, outputs]`.
#[derive(Debug, Default, Serialize)]
pub struct ComfyQueue {
    queue_running: Vec<Value>,
    queue_pending: Vec<Value>,
}

impl Relay {
    /// What runs and waits, on all servers and here, with the ids that callers know.
    ///
    /// # Errors
    ///
    /// If no server answers, or the database does not.
    pub async fn comfy_queue(&self) -> Result<ComfyQueue, RelayError> {
        let mut unlisted = self.unlisted_jobs();
        let mut queue = ComfyQueue::default();
        for answer in self.ask_all("/queue", None).await? {
            let mut json = answer.json;
            let mut take = |name: &str| match json.get_mut(name).map(Value::take) {
                Some(Value::Array(prompts)) => prompts,
                _ => Vec::new(),
            };
            queue.queue_running.append(&mut take("queue_running"));
            queue.queue_pending.append(&mut take("queue_pending"));
        }
        let listed = queue
            .queue_running
            .iter_mut()
            .chain(&mut queue.queue_pending);
        let listed: HashSet<String> = listed.filter_map(rename_listed).collect();
        unlisted.retain(|job| !listed.contains(job.id.as_str()));
        let ids: Vec<JobId> = unlisted.iter().map(|job| job.id.clone()).collect();
        let store = self.0.tracker.recorder.store();
        let stored = store.submissions(&ids).await?.into_iter();
        let mut stored: HashMap<String, StoredSubmission> = stored
            .map(|stored| (stored.job_id.to_string(), stored))
            .collect();
        for job in unlisted {
            let stored = stored.remove(job.id.as_str());
            let has_begun = job.has_begun;
            let prompt = self.as_listed(&job, stored);
            if has_begun {
                queue.queue_running.push(prompt);
            } else {
                queue.queue_pending.push(prompt);
            }
        }
        Ok(queue)
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
