//! Submits a workflow.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout};

use crate::comfy::{PromptOptions, refused_outputs};
use crate::config::Dispatch;
use crate::job::{self, JobId, PromptGraph, Tags};
use crate::relay::backend::Backend;
use crate::relay::backend::select::InFlight;
use crate::relay::input_files::InputLookups;
use crate::relay::proxy::prompt_name::first_prompt_id;
use crate::relay::queue::admission::NotAdmitted;
use crate::relay::queue::queued_request::QueuedRequest;
use crate::relay::requests::await_socket::await_socket;
use crate::relay::requests::job_webhook::JobWebhook;
use crate::relay::requests::once::{Begun, Claim, MadeJobs, RequestId};
use crate::relay::requests::post_prompt::{NotPlaced, Work, post_prompt};
use crate::relay::requests::register::{Accepted, Reservation, new_job_id};
use crate::relay::requests::unanswered::{Posting, Unanswered};
use crate::relay::tracker::{FoundPrompt, SubmittedGraph};
use crate::relay::{BackendChoice, Relay, RelayError};
use crate::workflow::{self, GivenParameters, NamedWorkflow};

/// How long a stop waits for the answer to a prompt that is being sent.
pub(in crate::relay) const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What a submission says beside what is to be done.
#[derive(Debug, Clone)]
pub struct SubmitOptions {
    /// The backends that may run it; none for all of them.
    pub backends: Vec<BackendChoice>,
    /// Jobs of a higher priority are handed in first.
    pub priority: i64,
    /// How often it may be handed in again after it is lost with its server.
    pub retries: u32,
    /// For whom it is, where waiting jobs are shared out fairly.
    pub share: Option<String>,
    /// What identifies the request.
    pub request: RequestId,
    /// The job that it repeats.
    pub retry_of: Option<JobId>,
    /// What goes to ComfyUI with a graph.
    pub prompt: PromptOptions,
    /// Where the events of the job are sent.
    pub webhook: Option<JobWebhook>,
}

impl Default for SubmitOptions {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            priority: 0,
            retries: 1,
            share: None,
            request: RequestId::default(),
            retry_of: None,
            prompt: PromptOptions::default(),
            webhook: None,
        }
    }
}

/// What a job is to do.
#[derive(Debug, Clone)]
pub enum Submission {
    /// Follow a prompt that another client has submitted, by its prompt id.
    Prompt(String),
    /// Submit a graph in API format.
    Graph(Map<String, Value>),
    /// Submit a workflow from the folder, by its name.
    Named(String),
}

impl Relay {
    /// Registers a job for a prompt, or submits a workflow with its parameters filled in. Without a
    /// `job_id` the job gets one. A submission that is repeated is answered like the first one.
    pub async fn submit(
        &self,
        job_id: Option<JobId>,
        submission: Submission,
        params: &GivenParameters,
        tags: Tags,
        options: SubmitOptions,
    ) -> Result<Accepted, RelayError> {
        if let Submission::Prompt(prompt_id) = submission {
            let (choices, webhook) = (&options.backends, options.webhook.as_ref());
            return self
                .register(job_id, prompt_id, choices, tags, webhook)
                .await;
        }
        let (relay, params) = (self.clone(), params.clone());
        self.complete(async move {
            let made = job_id.clone().unwrap_or_else(new_job_id);
            let made = MadeJobs::new(&[made], None);
            let begun = relay.begin(&options.request, made, job_id.is_some());
            let claim = match begun.await? {
                Begun::Done(made) => return relay.made_before(&made.first()?).await,
                Begun::New(claim) => claim,
            };
            let submitted = async {
                let workflow = relay.workflow_of(submission, tags).await?;
                relay.submit_new(&claim, workflow, &params, options).await
            };
            let submitted = submitted.await;
            if let Err(error) = &submitted {
                relay.abandon(claim, error).await;
            }
            submitted
        })
        .await
    }

    /// Does something to its end, although the caller may leave in the middle: a prompt that ComfyUI has accepted is followed
    /// all the same.
    pub(in crate::relay) async fn complete<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RelayError>> + Send + 'static,
    ) -> Result<T, RelayError> {
        let stop = self.0.stop.clone();
        let working = self.0.tasks.spawn(async move {
            // What is being sent to ComfyUI when the relay stops may run: its answer is waited for.
            let stopped = async {
                stop.cancelled().await;
                sleep(STOP_PATIENCE).await;
            };
            tokio::select! {
                () = stopped => Err(RelayError::Stopping),
                done = work => done,
            }
        });
        match working.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(RelayError::Stopping),
            },
        }
    }

    /// Submits a workflow as a job that nobody else submits.
    async fn submit_new(
        &self,
        claim: &Claim,
        (workflow, tags): (NamedWorkflow, Tags),
        params: &GivenParameters,
        options: SubmitOptions,
    ) -> Result<Accepted, RelayError> {
        workflow::check_targets(&workflow.graph, options.prompt.targets())?;
        self.0.tracker.check_choices(&options.backends)?;
        let graph = self.filled(&workflow, params)?;
        self.check_inputs(&graph, &mut InputLookups::default())
            .await?;
        let reservation = self.reserve(&claim.made.first()?)?;
        let work = Arc::new(Work {
            job_id: reservation.id.clone(),
            graph,
            options: options.prompt.clone(),
            tags: Arc::new(tags),
        });
        let (jobs, webhook) = ([reservation.id.clone()], options.webhook.clone());
        self.store_webhook(&jobs, webhook.as_ref()).await?;
        let taken = async {
            if claim.may_be_left
                && let Some(accepted) = self.adopt(&reservation, &work, &options.request).await?
            {
                return Ok(accepted);
            }
            self.take_in(reservation, options, work).await
        };
        let taken = taken.await;
        if let Err(refusal) = &taken {
            self.drop_webhook(&jobs, webhook.as_ref(), refusal).await;
        }
        taken
    }

    /// Takes a job into the queue, or submits it at once where there is none.
    async fn take_in(
        &self,
        reservation: Reservation,
        options: SubmitOptions,
        work: Arc<Work>,
    ) -> Result<Accepted, RelayError> {
        let is_direct = self.0.config.dispatch == Dispatch::Direct;
        if !is_direct {
            self.await_any_socket(&options.backends).await?;
        }
        let request = self.request(&work, &options.backends).await?;
        if is_direct {
            return self.place(reservation, &request, work).await;
        }
        let admission = self.queued_job(request.clone(), &work, &options);
        match self.admit(&reservation, admission).await {
            Ok(accepted) => Ok(accepted),
            Err(NotAdmitted::Refused(error)) => Err(error),
            Err(NotAdmitted::Unstored(error)) => {
                tracing::debug!(%error, job_id = %work.job_id, "cannot store a submission, handing it in at once");
                self.place(reservation, &request, work).await
            }
        }
    }

    /// Submits a graph to the best one of the backends that may run it. One that turns out not to be reachable before anything
    /// was sent is passed over for the next best.
    async fn place(
        &self,
        reservation: Reservation,
        request: &QueuedRequest,
        work: Arc<Work>,
    ) -> Result<Accepted, RelayError> {
        let (turns, backends) = (&self.0.turns, &self.0.tracker.backends);
        let allowed = request.allowed();
        let may_run = |index: &usize| allowed.contains(&backends[*index]);
        let indices = backends.iter().map(|backend| backend.index);
        let (able, barred): (Vec<usize>, Vec<usize>) = indices.partition(may_run);
        let (stopped, open): (Vec<usize>, Vec<usize>) = able
            .into_iter()
            .partition(|index| self.is_stopped(&backends[*index]));
        if open.is_empty() && !stopped.is_empty() {
            return Err(RelayError::Paused(self.stopped_by(&stopped)));
        }
        let mut tried = [barred, stopped].concat();
        let barred = tried.len();
        let mut failure = RelayError::BackendUnreachable("no address".to_owned());
        loop {
            let Some(in_flight) = turns.choose(backends, &tried) else {
                return Err(failure);
            };
            let index = in_flight.backend().index;
            let submitting = self.submit_work(&reservation, in_flight, &work);
            match submitting.await {
                Ok(accepted) => return Ok(accepted),
                Err(NotPlaced::Sent(error)) => return Err(error),
                Err(NotPlaced::NotSent(error) | NotPlaced::InputNotTaken(error)) => {
                    // Of several that cannot be reached, the best one is named.
                    if tried.len() == barred {
                        failure = error;
                    }
                    tried.push(index);
                }
            }
        }
    }

    async fn submit_work(
        &self,
        reservation: &Reservation,
        in_flight: InFlight,
        work: &Arc<Work>,
    ) -> Result<Accepted, NotPlaced> {
        let tracker = &self.0.tracker;
        let backend = in_flight.backend().clone();
        tokio::select! {
            () = self.0.stop.cancelled() => return Err(NotPlaced::Sent(RelayError::Stopping)),
            socket = await_socket(&backend) => socket.map_err(NotPlaced::NotSent)?,
        }
        self.free_memory(&backend).await;
        let mut prompt = FoundPrompt {
            disconnects: backend.state().socket.disconnects,
            backend: backend.clone(),
            prompt_id: first_prompt_id(&work.job_id, &work.tags),
            history: None,
            tags: work.tags.clone(),
        };
        let posting = post_prompt(
            tracker.clone(),
            backend.clone(),
            work.clone(),
            prompt.prompt_id.clone(),
        );
        let mut posting: Posting = Box::pin(posting);
        let Ok(posted) = timeout(self.0.comfy.submit_wait, posting.as_mut()).await else {
            backend.state().api.unanswered_at = Some(Instant::now());
            let unanswered = Unanswered {
                job_id: reservation.id.clone(),
                prompt,
                work: work.clone(),
                posting,
                in_flight,
            };
            return Ok(self.accept_unanswered(unanswered).await);
        };
        let submitted = posted?;
        in_flight.arrived();
        let ignored = submitted.ignored();
        let submitted_graph = plan(&backend, work, &submitted.node_errors);
        let plan = submitted_graph.as_ref().map(|submitted| &submitted.plan);
        let loads_images = plan.is_some_and(|plan| !plan.files().is_empty());
        prompt.prompt_id = submitted.prompt_id;
        tracker.register(
            &mut tracker.registry(),
            &reservation.id,
            &prompt,
            submitted_graph,
        );
        if loads_images {
            // Fetches their sizes.
            tracker.read_plan(&reservation.id);
        }
        let written = self.is_written(&reservation.id).await;
        let is_written = written.map_err(NotPlaced::Sent)?;
        Ok(Accepted {
            job_id: reservation.id.clone(),
            prompt_id: prompt.prompt_id,
            backend: prompt.backend.name().to_owned(),
            is_unanswered: false,
            ignored,
            is_written,
            is_replayed: false,
        })
    }

    /// Accepts a job for which ComfyUI has not answered in time.
    async fn accept_unanswered(&self, unanswered: Unanswered) -> Accepted {
        let prompt = &unanswered.prompt;
        let plan = plan(&prompt.backend, &unanswered.work, &Value::Null);
        let mut accepted = Accepted {
            job_id: unanswered.job_id.clone(),
            prompt_id: prompt.prompt_id.clone(),
            backend: prompt.backend.name().to_owned(),
            is_unanswered: true,
            ignored: Vec::new(),
            is_written: false,
            is_replayed: false,
        };
        self.wait_for_answer(unanswered, plan);
        // Where it is not, the prompt may run all the same: the job is followed in memory.
        accepted.is_written = self.is_written(&accepted.job_id).await.unwrap_or(false);
        accepted
    }

    /// The backend with this name.
    pub(in crate::relay) fn backend_named(&self, name: &str) -> Result<&Arc<Backend>, RelayError> {
        let tracker = &self.0.tracker;
        let found = tracker.backends.named(name);
        found.ok_or_else(|| tracker.unknown_backend(name))
    }
}

/// What will run of a graph, as far as the answer to its submission shows.
pub(in crate::relay) fn plan(
    backend: &Backend,
    work: &Work,
    node_errors: &Value,
) -> Option<SubmittedGraph> {
    let refused = refused_outputs(node_errors);
    let classes = backend.node_classes();
    let classes = classes.as_ref().map(|classes| classes.outputs());
    let targets = work.options.targets();
    let outputs = job::outputs(&work.graph, classes, &refused, targets);
    let graph = PromptGraph::new(work.graph.clone(), outputs)?;
    let plan = backend.plan(&graph);
    Some(SubmittedGraph { graph, plan })
}
