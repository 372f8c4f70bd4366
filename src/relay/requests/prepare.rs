//! Prepares a submission: reads its graph, fills its parameters in, and finds out which backends can run it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::job::Tags;
use crate::relay::backend::Backend;
use crate::relay::backend_choice::{BackendChoice, is_chosen};
use crate::relay::queue::admission::NewQueuedJob;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::requests::post_prompt::Work;
use crate::relay::requests::submit::{Submission, SubmitOptions};
use crate::relay::requests::suitability::placeable;
use crate::relay::{Relay, RelayError};
use crate::workflow::{self, GivenParameters, NamedWorkflow};

impl Relay {
    /// The workflow of a submission, and the tags of its job with the name of its workflow.
    pub(super) async fn workflow_of(
        &self,
        submission: Submission,
        mut tags: Tags,
    ) -> Result<(NamedWorkflow, Tags), RelayError> {
        let workflow = match submission {
            Submission::Prompt(prompt_id) => return Err(RelayError::PromptNotFound(prompt_id)),
            Submission::Graph(graph) => {
                NamedWorkflow::plain(workflow::check(Value::Object(graph))?)
            }
            Submission::Named(name) => {
                let workflow = self.0.workflows.read(&name).await?;
                let short = name.strip_suffix(".json").unwrap_or(&name);
                tags.workflow = Some(short.to_owned());
                workflow
            }
        };
        Ok((workflow, tags))
    }

    /// The graph of a workflow with its parameters filled in, as the node classes of the backends take them.
    pub(super) fn filled(
        &self,
        workflow: &NamedWorkflow,
        params: &GivenParameters,
    ) -> Result<Map<String, Value>, RelayError> {
        let backends = self.0.tracker.backends.iter();
        let classes: Vec<_> = backends.filter_map(|it| it.node_classes()).collect();
        let filled = workflow::fill(workflow, params, |class, input, value| {
            let kind = classes.iter().find_map(|it| it.input(class, input))?;
            (!kind.accepts(value)).then(|| kind.to_string())
        });
        Ok(filled?)
    }

    /// What is to be handed in, on the backends that can run it. Fails if none can.
    pub(super) async fn request(
        &self,
        work: &Work,
        choices: &[BackendChoice],
    ) -> Result<QueuedRequest, RelayError> {
        let backends = self.0.tracker.backends.iter();
        let stays = |it: &Backend| !it.state().operation.is_removal();
        let chosen = backends.filter(|it| is_chosen(choices, it) && stays(it));
        let chosen: Vec<Arc<Backend>> = chosen.cloned().collect();
        let judged = self
            .suitability_of(&chosen, &work.graph, &work.options)
            .await;
        let able = placeable(&judged)?;
        let unable = chosen.iter().filter(|it| !able.contains(&it.index));
        let (options, keys) = work.options.to_stored();
        Ok(QueuedRequest {
            graph: work.graph.clone(),
            options,
            backends: choices.to_vec(),
            unsuitable: unable.map(|it| it.name().to_owned()).collect(),
            has_keys: !keys.is_empty(),
        })
    }

    /// A job for the queue.
    pub(super) fn queued_job(
        &self,
        request: QueuedRequest,
        work: &Work,
        options: &SubmitOptions,
    ) -> NewQueuedJob {
        let (_, keys) = work.options.to_stored();
        NewQueuedJob {
            plan: self.plan_of(&request),
            allowed: request.allowed(),
            request,
            keys,
            tags: work.tags.clone(),
            priority: options.priority,
            retries: options.retries,
            share: options.share.clone(),
            digest: options.request.digest.clone(),
            retry_of: options.retry_of.clone(),
            is_first: work.options.goes_to_front(),
        }
    }
}
