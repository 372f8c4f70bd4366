//! The jobs, under one lock, and everything that a change of a job goes to.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::{Backend, Lease};
use super::backends::Backends;
use super::clock::JobClock;
use super::error::RelayError;
use super::estimates::Estimator;
#[cfg(feature = "otel")]
use super::job_traces::JobTraces;
use super::kept_outputs::KeptOutputs;
use super::looks::Looks;
use super::metrics::Metrics;
use super::output_root::OutputRoot;
use super::ownership::Ownership;
use super::peer_watch::PeerWatch;
use super::preview_feeds::PreviewFeeds;
use super::proxy::event_tap::EventTap;
use super::queue::job_queue::JobQueue;
use super::registry::Registry;
use super::wanted_previews::SharedPreviews;
use super::webhooks::Webhooks;
use crate::broker::{Broker, Hint};
use crate::hub::Hub;
use crate::job::{Event, History, JobId, Plan, PromptGraph, Tags};
use crate::store::{LeaseOwner, Recorder, StoreError, Written};

/// How long a caller waits until what it is promised is written.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Owns the jobs: changes them by events, publishes and records what comes of that.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) registry: Mutex<Registry>,
    pub(super) backends: Backends,
    pub(super) estimator: Arc<Estimator>,
    /// The jobs that no backend has yet.
    pub(super) queue: JobQueue,
    pub(super) hub: Hub,
    pub(super) preview_feeds: PreviewFeeds,
    /// The sockets of ComfyUI's own clients.
    pub(super) tap: EventTap,
    pub(super) recorder: Recorder,
    /// Where the states of our jobs go to other relays, and those of theirs come from.
    pub(super) broker: Broker,
    /// What other relays have written, and is to be looked at.
    pub(super) looks: Looks,
    /// Which previews are exchanged with other relays.
    pub(super) previews: SharedPreviews,
    /// This relay, as other relays on the same database know it.
    pub(super) owner: Arc<LeaseOwner>,
    /// Whether what the database has of earlier runs was learned: no job is restored before.
    pub(super) has_learned: AtomicBool,
    /// What is known of other relays on the same database.
    pub(super) peers: PeerWatch,
    /// Held while a backend is handed over to another relay: all at once would be too many.
    pub(super) hand_over_turn: tokio::sync::Mutex<()>,
    pub(super) metrics: Metrics,
    /// Where the traces of jobs go.
    #[cfg(feature = "otel")]
    pub(super) traces: JobTraces,
    pub(super) clock: JobClock,
    pub(super) output_root: OutputRoot,
    pub(super) kept: KeptOutputs,
    /// What is sent to webhooks.
    pub(super) webhooks: Webhooks,
    /// The least time between two publications of a job whose status stays the same.
    pub(super) publish_interval: Duration,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// A prompt that a backend has in its queue or its history.
#[derive(Debug)]
pub(super) struct FoundPrompt {
    pub(super) backend: Arc<Backend>,
    pub(super) prompt_id: String,
    /// The backend's disconnect counter before it was asked.
    pub(super) disconnects: u64,
    /// How it ended, if it has.
    pub(super) history: Option<History>,
    /// What the client has said of its job.
    pub(super) tags: Arc<Tags>,
}

/// A prompt that the relay has submitted, as far as its answer shows what will run.
#[derive(Debug)]
pub(super) struct SubmittedGraph {
    pub(super) graph: PromptGraph,
    pub(super) plan: Plan,
}

impl Tracker {
    /// Locks the jobs. They are consistent at any moment, also after a panic elsewhere: an event is
    /// applied in full or not at all.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of jobs.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Wakes the monitors: something changed that they show.
    pub(super) fn notify_monitors(&self) {
        self.hub.changes().send_replace(());
    }

    /// Adds a job that follows a prompt, or has one that waited in the relay's own queue follow it; publishes its first state, and applies the events of the prompt that came
    /// before. Of a prompt that has ended, only its end is published. A job that the relay submitted itself comes
    /// with its graph. One on a backend that another relay follows is that relay's from then on.
    pub(super) fn register(
        self: &Arc<Self>,
        registry: &mut Registry,
        job_id: &JobId,
        prompt: &FoundPrompt,
        submitted: Option<SubmittedGraph>,
    ) {
        let (backend, prompt_id) = (&prompt.backend, prompt.prompt_id.as_str());
        let (reachable, early_events) = {
            let mut state = backend.state();
            state.socket.restart_silence();
            (state.api.reachable, state.early_events.take(prompt_id))
        };
        let is_elsewhere = *backend.lease.borrow() == Lease::HeldByPeer;
        if !registry.hand_over(job_id, backend, prompt_id, prompt.disconnects) {
            self.insert_registered(registry, job_id, prompt);
        }
        tracing::info!(%job_id, prompt_id, backend = backend.name(), "job registered");
        if let Some(history) = &prompt.history {
            // The history of servers of 2023 does not say how a prompt ended.
            let outcomes = early_events.into_iter();
            for event in outcomes.filter(|event| matches!(event, Event::Ended(_))) {
                registry.apply(job_id, event, self.now());
            }
            let ended = Event::History(history.clone());
            return self.ingest_locked(registry, job_id, ended);
        }
        if let Some(SubmittedGraph { graph, plan }) = submitted {
            if let Some(entry) = registry.get_mut(job_id) {
                entry.comparison.own_client = true;
            }
            registry.submit_plan(job_id, graph);
            registry.apply(job_id, Event::Planned(plan), self.now());
        }
        registry.apply(
            job_id,
            Event::Reachable(reachable || is_elsewhere),
            self.now(),
        );
        if let Some(entry) = registry.get_mut(job_id) {
            self.publish(entry);
        }
        for event in early_events {
            self.ingest_locked(registry, job_id, event);
        }
        if is_elsewhere {
            // It finds the row.
            registry.set_ownership(job_id, Ownership::FormerOwner);
        }
        // Not at once: registrations can come faster than the backend can be asked.
        backend.reconcile_soon.notify_one();
    }

    /// Makes this relay no longer the owner of a backend's open jobs.
    pub(super) fn give_up(&self, backend: &Backend) {
        self.registry().give_up(backend);
        self.queue.forget_handed_in(backend);
    }

    /// Waits until the newest state of a job is written, but at most [`WRITE_TIMEOUT`].
    pub(super) async fn await_written(&self, id: &JobId) -> Durability {
        match timeout(WRITE_TIMEOUT, self.recorder.written(id)).await {
            Ok(Written::Refused(reason)) => Durability::Refused(reason),
            Ok(Written::Moved) => Durability::Moved,
            Ok(Written::Yes) => match self.registry().get_mut(id) {
                Some(entry)
                    if entry.ownership == Ownership::Reader && !entry.job.status().is_final() =>
                {
                    Durability::Moved
                }
                Some(entry) => {
                    if !entry.publishing.is_acknowledged {
                        self.broker.hint(Hint::NewJobs);
                    }
                    entry.publishing.is_acknowledged = true;
                    Durability::Written
                }
                None => Durability::Written,
            },
            Err(_) => Durability::Late,
        }
    }
}

/// What became of a state that a caller waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Durability {
    /// It is on the disk.
    Written,
    /// It is not yet.
    Late,
    /// Another relay has the job.
    Moved,
    /// The database refuses it, for this reason.
    Refused(String),
}

impl Durability {
    /// Fails unless the state is on the disk.
    pub(super) fn check(self, id: &JobId) -> Result<(), RelayError> {
        match self {
            Self::Written => Ok(()),
            Self::Late => Err(RelayError::Store(StoreError::Slow)),
            Self::Moved => Err(RelayError::JobExists(id.clone())),
            Self::Refused(reason) => Err(RelayError::RowRefused(id.clone(), reason)),
        }
    }
}
