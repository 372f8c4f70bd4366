//! Jobs come in, and are called off.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::comfy::{Cancellation, Rest, RestError, SubmitError, Submitted, WrongInput};
use crate::job::{Event, Job, JobId, Plan, Report};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::backend::lease::Lease;
use crate::relay::error::{RelayError, failed};
use crate::relay::registry::Registry;
use crate::relay::requests::lookup::FoundPrompt;
use crate::workflow;

/// How long a submission waits for a socket that is being dialled again. Events go only to sockets
/// that are open, so the socket comes first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a prompt is looked for whose answer was lost: the server may be away for a moment.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two looks for it.
const CONFIRM_PAUSE: Duration = Duration::from_millis(250);

/// What a job is to do.
#[derive(Debug, Clone)]
pub enum Submission {
    /// Follow a prompt that was submitted elsewhere.
    Prompt(String),
    /// Submit a graph in API format.
    Graph(Map<String, Value>),
    /// Submit a workflow from the folder, by name.
    Named(String),
}

/// A job that was taken.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The job.
    pub job_id: JobId,
    /// ComfyUI's name for it.
    pub prompt_id: String,
    /// The server that runs it.
    pub backend: String,
    /// Outputs that ComfyUI ignores, because only others of the same graph are valid.
    pub ignored: Vec<WrongInput>,
}

/// Gives a reserved job id back, unless the job was registered.
struct Reservation {
    relay: Relay,
    id: JobId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.relay.jobs().release(&self.id);
    }
}

impl Relay {
    /// Takes a job: follows a prompt, or submits a workflow with its parameters filled in.
    pub async fn submit(
        &self,
        job_id: Option<JobId>,
        work: Submission,
        params: &Map<String, Value>,
        backend: Option<&str>,
    ) -> Result<Accepted, RelayError> {
        let graph = match work {
            Submission::Prompt(prompt_id) => {
                return self.register(job_id, &prompt_id, backend).await;
            }
            Submission::Graph(graph) => graph,
            Submission::Named(name) => self.0.workflows.read(&name).await?,
        };
        let mut graph = workflow::check(Value::Object(graph))?;
        workflow::fill(&mut graph, params)?;
        let job_id = match job_id {
            Some(id) => {
                // It may be that of a job that only the store remembers.
                self.restore_from_store(&id).await;
                id
            }
            None => fresh_id(),
        };
        let reservation = self.reserve(&job_id)?;
        let index = self.choose(backend)?;
        // Whoever asks may leave in the middle; a prompt that ComfyUI has taken is followed all the same.
        let relay = self.clone();
        let taking = self.0.tasks.spawn(async move {
            tokio::select! {
                () = relay.stopping() => Err(RelayError::Stopping),
                taken = relay.submit_graph(reservation, index, &graph) => taken,
            }
        });
        match taking.await {
            Ok(taken) => taken,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(RelayError::Stopping),
            },
        }
    }

    async fn submit_graph(
        &self,
        reservation: Reservation,
        index: usize,
        graph: &Map<String, Value>,
    ) -> Result<Accepted, RelayError> {
        let backend = &self.0.backends[index];
        await_socket(backend).await?;
        let disconnects = backend.state().disconnects;
        let submitted = post_prompt(backend, graph).await?;
        let plan = Plan::from_graph(graph, None);
        let found = FoundPrompt { index, disconnects };
        self.add(&reservation.id, &found, &submitted.prompt_id, Some(plan));
        self.await_written(&reservation.id).await;
        Ok(Accepted {
            job_id: reservation.id.clone(),
            prompt_id: submitted.prompt_id.clone(),
            backend: backend.name().to_owned(),
            ignored: submitted.ignored(),
        })
    }

    /// Follows a prompt that was submitted elsewhere. Where no backend is named, all are asked.
    async fn register(
        &self,
        job_id: Option<JobId>,
        prompt_id: &str,
        backend: Option<&str>,
    ) -> Result<Accepted, RelayError> {
        let job_id =
            job_id.unwrap_or_else(|| JobId::parse(prompt_id).unwrap_or_else(|_| fresh_id()));
        self.restore_from_store(&job_id).await;
        if let Some(accepted) = self.registered(&job_id, prompt_id) {
            return Ok(accepted);
        }
        let _reservation = self.reserve(&job_id)?;
        let only = backend.map(|_| self.choose(backend)).transpose()?;
        let found = self.locate(prompt_id, only).await?;
        self.add(&job_id, &found, prompt_id, None);
        self.await_written(&job_id).await;
        Ok(Accepted {
            job_id,
            prompt_id: prompt_id.to_owned(),
            backend: self.0.backends[found.index].name().to_owned(),
            ignored: Vec::new(),
        })
    }

    /// A registration that comes a second time is answered like the first.
    fn registered(&self, job_id: &JobId, prompt_id: &str) -> Option<Accepted> {
        let jobs = self.jobs();
        let job = &jobs.get(job_id)?.job;
        (job.prompt_id() == Some(prompt_id)).then(|| Accepted {
            job_id: job_id.clone(),
            prompt_id: prompt_id.to_owned(),
            backend: job.backend().unwrap_or_default().to_owned(),
            ignored: Vec::new(),
        })
    }

    /// Puts a job on the books and applies what was heard of its prompt before.
    fn add(&self, job_id: &JobId, found: &FoundPrompt, prompt_id: &str, plan: Option<Plan>) {
        self.register_locked(&mut self.jobs(), job_id, found, prompt_id, plan);
    }

    pub(in crate::relay) fn register_locked(
        &self,
        jobs: &mut Registry,
        job_id: &JobId,
        found: &FoundPrompt,
        prompt_id: &str,
        plan: Option<Plan>,
    ) {
        let backend = &self.0.backends[found.index];
        let job = Job::new(job_id.clone(), self.now()).on_backend(backend.name(), prompt_id);
        let (reachable, early_events) = {
            let mut state = backend.state();
            // Silence counts from here: an idle server had nothing to say before.
            state.last_frame_at = Instant::now();
            (state.reachable, state.take_early_events(prompt_id))
        };
        jobs.insert(job, Some(found.index), found.disconnects);
        tracing::info!(%job_id, prompt_id, backend = backend.name(), "job registered");
        if let Some(entry) = jobs.get_mut(job_id) {
            if let Some(plan) = plan {
                entry.own_client = true;
                entry.job.apply(Event::Planned(plan), self.now());
            }
            entry.job.apply(Event::Reachable(reachable), self.now());
            self.publish(entry);
        }
        for event in early_events {
            self.ingest_in(jobs, job_id, event);
        }
        backend.reconcile_now.notify_one();
    }

    /// Calls a job off: interrupts it where it runs, removes it where it waits. Its end comes with
    /// ComfyUI's word for it.
    pub async fn cancel(&self, job_id: &JobId) -> Result<(), RelayError> {
        let (backend, prompt_id) = {
            let jobs = self.jobs();
            let entry = jobs
                .get(job_id)
                .ok_or_else(|| RelayError::JobNotFound(job_id.clone()))?;
            let refuse = |why| Err(RelayError::NotCancellable(job_id.clone(), why));
            if entry.job.status().is_final() {
                return refuse("it has ended");
            }
            match (entry.backend, entry.job.prompt_id()) {
                (Some(index), Some(prompt)) => (self.0.backends[index].clone(), prompt.to_owned()),
                (None, Some(_)) => return refuse("its ComfyUI server is not configured any more"),
                (_, None) => return refuse("its producer is not ComfyUI"),
            }
        };
        let cancelled = backend.comfy.rest().cancel(&prompt_id).await;
        let cancelled = cancelled.map_err(|source| failed(&backend, source))?;
        if let Some(entry) = self.jobs().get_mut(job_id) {
            entry.cancel_requested = cancelled == Cancellation::Asked;
        }
        backend.reconcile_now.notify_one();
        match cancelled {
            Cancellation::Asked => Ok(()),
            Cancellation::NotThere => Err(RelayError::NotCancellable(
                job_id.clone(),
                "ComfyUI has it neither running nor waiting",
            )),
        }
    }

    /// Takes what a producer that is not ComfyUI reports; its first report registers the job.
    pub async fn report(&self, job_id: &JobId, report: Report) -> Result<(), RelayError> {
        self.restore_from_store(job_id).await;
        let is_news = {
            let mut jobs = self.jobs();
            let is_new = match jobs
                .get(job_id)
                .map(|entry| entry.job.prompt_id().is_some())
            {
                Some(true) => return Err(RelayError::NotReportable(job_id.clone())),
                Some(false) => false,
                None if jobs.reserve(job_id) => {
                    jobs.insert(Job::new(job_id.clone(), self.now()), None, 0);
                    tracing::info!(%job_id, "job registered by its producer");
                    true
                }
                None => return Err(RelayError::JobExists(job_id.clone())),
            };
            let is_final = report.status.is_final();
            self.ingest_in(&mut jobs, job_id, Event::Reported(report));
            is_new || is_final
        };
        if is_news {
            self.await_written(job_id).await;
        }
        Ok(())
    }

    fn reserve(&self, job_id: &JobId) -> Result<Reservation, RelayError> {
        match self.jobs().reserve(job_id) {
            true => Ok(Reservation {
                relay: self.clone(),
                id: job_id.clone(),
            }),
            false => Err(RelayError::JobExists(job_id.clone())),
        }
    }

    /// The backend with this name; without one, that with the shortest queue among those that answer.
    fn choose(&self, name: Option<&str>) -> Result<usize, RelayError> {
        let mut backends = self.0.backends.iter().enumerate();
        let Some(name) = name else {
            let best = backends.min_by_key(|(_, backend)| {
                let state = backend.state();
                (!state.reachable, state.queue_remaining)
            });
            let best = best.map(|(index, _)| index);
            return best.ok_or_else(|| RelayError::BackendUnreachable("no address".to_owned()));
        };
        backends
            .find(|(_, backend)| backend.name() == name)
            .map(|(index, _)| index)
            .ok_or_else(|| {
                let known = self
                    .0
                    .backends
                    .iter()
                    .map(|backend| backend.name().to_owned());
                RelayError::BackendUnknown {
                    name: name.to_owned(),
                    known: known.collect(),
                }
            })
    }
}

async fn post_prompt(
    backend: &Backend,
    graph: &Map<String, Value>,
) -> Result<Submitted, RelayError> {
    let prompt_id = Uuid::new_v4().to_string();
    let comfy = &backend.comfy;
    let rest = comfy.rest();
    let submitted = rest.submit(graph, comfy.client_id(), &prompt_id).await;
    match submitted {
        Ok(submitted) => Ok(submitted),
        Err(SubmitError::Rest(error))
            if error.may_be_done() && was_accepted(rest, &prompt_id).await =>
        {
            tracing::warn!(prompt_id, "ComfyUI has taken a prompt without an answer");
            Ok(Submitted {
                prompt_id,
                node_errors: Value::Null,
            })
        }
        Err(SubmitError::Rest(source)) => Err(failed(backend, source)),
        Err(error @ SubmitError::Rejected(_)) => Err(RelayError::rejected(error)),
    }
}

/// Whether a prompt that was handed in without an answer is there all the same. Servers that make
/// ids of their own cannot be asked.
async fn was_accepted(rest: &Rest, prompt_id: &str) -> bool {
    let given_up_at = Instant::now() + CONFIRM_TIMEOUT;
    loop {
        match has_prompt(rest, prompt_id).await {
            Ok(is_there) => return is_there,
            Err(_) if Instant::now() >= given_up_at => return false,
            Err(_) => sleep(CONFIRM_PAUSE).await,
        }
    }
}

async fn has_prompt(rest: &Rest, prompt_id: &str) -> Result<bool, RestError> {
    let queue = rest.queue().await?;
    Ok(queue.entry(prompt_id).is_some() || rest.history(prompt_id).await?.is_some())
}

async fn await_socket(backend: &Backend) -> Result<(), RelayError> {
    if *backend.lease.borrow() == Lease::HeldByPeer {
        return Err(RelayError::HeldByPeer(backend.name().to_owned()));
    }
    let mut connected = backend.connected.subscribe();
    let patience = match backend.state().reachable {
        true => CONNECT_TIMEOUT,
        false => Duration::ZERO,
    };
    match timeout(patience, connected.wait_for(|&connected| connected)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(RelayError::BackendUnreachable(backend.name().to_owned())),
    }
}

fn fresh_id() -> JobId {
    JobId::parse(&Uuid::new_v4().to_string())
        .expect("a UUID is made of hexadecimal digits and hyphens")
}
