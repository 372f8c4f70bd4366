//! Reads the graph of a job: as it was submitted here, or from the ComfyUI server that runs it or has run it.

use serde_json::{Map, Value};

use crate::job::{JobId, PromptGraph};
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::{Relay, RelayError};

impl Relay {
    /// The graph of a known job in API format: as it was submitted, or as its server has it in its queue or its history.
    pub async fn workflow(&self, id: &JobId) -> Result<Map<String, Value>, RelayError> {
        let stored = self.0.tracker.recorder.store().submission(id).await;
        let submitted = stored.ok().flatten();
        if let Some(Ok(request)) = submitted.map(|it| QueuedRequest::unpack(&it.request)) {
            return Ok(request.graph);
        }
        self.workflow_at_server(id).await
    }

    async fn workflow_at_server(&self, id: &JobId) -> Result<Map<String, Value>, RelayError> {
        let gone = || RelayError::WorkflowUnavailable(id.clone());
        let (backend, prompt) = {
            let registry = self.0.tracker.registry();
            let entry = registry.get(id);
            let entry = entry.ok_or_else(|| RelayError::JobNotFound(id.clone()))?;
            let prompt = entry.job.prompt_id().ok_or_else(gone)?.to_owned();
            (entry.backend.clone().ok_or_else(gone)?, prompt)
        };
        let rest = backend.comfy.rest();
        let failed = |error| RelayError::request_failed(backend.name(), error);
        let shown = rest.queued_prompt(&prompt).await.map_err(failed)?;
        let queued = match shown {
            Some(entry) => entry.graph(),
            None => {
                let queue = rest.queue().await.map_err(failed)?;
                queue.entry(&prompt).and_then(|entry| entry.graph())
            }
        };
        let graph = match queued {
            Some(graph) => graph,
            None => {
                let entry = rest.history(&prompt).await.map_err(failed)?;
                entry.and_then(|entry| entry.graph).ok_or_else(gone)?
            }
        };
        Ok(PromptGraph::into_nodes(graph))
    }
}
