//! Posts a graph to ComfyUI, and finds out whether it has arrived where the answer is lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use crate::comfy::{PreviewMethod, PromptOptions, Rest, RestError, SubmitError, Submitted};
use crate::job::{Job, JobId, Tags};
use crate::relay::RelayError;
use crate::relay::backend::Backend;
use crate::relay::proxy::caller::PromptCaller;
use crate::relay::tracker::Tracker;

/// How long a prompt is looked for if the answer to its submission was lost: the server may be away for a
/// moment.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two attempts to find it.
const CONFIRM_PAUSE: Duration = Duration::from_millis(250);

/// What is handed in to ComfyUI for a job. It is dropped when ComfyUI has it: it can hold keys.
#[derive(Debug)]
pub(in crate::relay) struct Work {
    pub(in crate::relay) job_id: JobId,
    pub(in crate::relay) graph: Map<String, Value>,
    pub(in crate::relay) options: PromptOptions,
    pub(in crate::relay) tags: Arc<Tags>,
}

/// Why a backend has not taken a graph.
#[derive(Debug)]
pub(in crate::relay) enum NotPlaced {
    /// It cannot be reached: nothing was sent to it.
    NotSent(RelayError),
    /// It has not taken a picture that the graph loads, which was not sent therefore.
    InputNotTaken(RelayError),
    /// It has refused the graph, or may have got it.
    Sent(RelayError),
}

/// Posts a graph under a prompt id. If the answer is lost, the prompt is looked for.
pub(in crate::relay) async fn post_prompt(
    tracker: Arc<Tracker>,
    backend: Arc<Backend>,
    work: Arc<Work>,
    prompt_id: String,
) -> Result<Submitted, NotPlaced> {
    let comfy = &backend.comfy;
    let rest = comfy.rest();
    let options = tracker.options(&backend, &work);
    tracker.send_inputs(&backend, &work.graph).await?;
    let (tap, index) = (&tracker.tap, backend.index);
    // Its first events can come before the answer.
    tap.open_route(index, &prompt_id, &work.job_id, &work.tags);
    let submitted = comfy.submit(&work.graph, &prompt_id, options).await;
    match submitted {
        Ok(submitted) => {
            let is_kept = submitted.prompt_id == prompt_id;
            tap.add_route(index, &submitted.prompt_id, &work.job_id, &work.tags);
            {
                let api = &mut backend.state().api;
                api.keeps_prompt_ids = Some(is_kept);
                api.set_answered();
            }
            Ok(submitted)
        }
        Err(SubmitError::Rest(error))
            if error.may_be_done() && was_accepted(rest, &prompt_id).await =>
        {
            tracing::warn!(prompt_id, %error, "ComfyUI has accepted a prompt without an answer of its own");
            Ok(Submitted::unanswered(prompt_id))
        }
        Err(SubmitError::Rest(source)) => {
            let was_sent = !source.is_unreachable() || source.may_be_done();
            let error = RelayError::request_failed(backend.name(), source);
            Err(if was_sent {
                NotPlaced::Sent(error)
            } else {
                NotPlaced::NotSent(error)
            })
        }
        Err(SubmitError::Rejected(rejection)) => {
            Err(NotPlaced::Sent(RelayError::Rejected(rejection)))
        }
    }
}

impl Tracker {
    /// The options of a prompt that is handed in now: with previews, if a client waits for them and the submission says
    /// nothing of them. Without, the server does as it was started, which is to make none by default.
    fn options(&self, backend: &Backend, work: &Work) -> PromptOptions {
        let mut options = work.options.clone();
        if let Some(caller) = PromptCaller::of(&work.job_id, &work.tags) {
            options = options.with_extra(caller.to_extra());
        }
        if options.has_preview_method() {
            return options;
        }
        let job = Job::new(work.job_id.clone(), self.now()).tagged(work.tags.clone());
        let job = job.on_backend(backend.name(), "");
        let is_wanted = self.hub.wants_previews(job.id()) || self.preview_feeds.show(&job);
        if is_wanted || self.previews.are_wanted(job.id()) {
            return options.with_previews(PreviewMethod::Auto);
        }
        options
    }
}

/// Whether ComfyUI has a prompt of which the answer was lost. Servers that choose prompt ids themselves
/// cannot be asked.
async fn was_accepted(rest: &Rest, prompt_id: &str) -> bool {
    let deadline = Instant::now() + CONFIRM_TIMEOUT;
    loop {
        match has_prompt(rest, prompt_id).await {
            Ok(true) => return true,
            // A server that is slow may take it yet.
            _ if Instant::now() >= deadline => return false,
            _ => sleep(CONFIRM_PAUSE).await,
        }
    }
}

/// Whether ComfyUI has a prompt in its queue or its history.
pub(in crate::relay) async fn has_prompt(rest: &Rest, prompt_id: &str) -> Result<bool, RestError> {
    let queue = rest.positions(None).await?;
    Ok(queue.entry(prompt_id).is_some() || rest.history(prompt_id).await?.is_some())
}
