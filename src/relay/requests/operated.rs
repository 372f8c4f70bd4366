//! What operators see: the backends with what they have and what is planned for them, and the queue.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::BackendLabels;
use crate::relay::backend::operation::Operation;
use crate::relay::backend::{Backend, Lease};
use crate::relay::{Condition, Relay, RelayError};
use crate::store::AddedBackend;

/// A ComfyUI server, for those who operate it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct OperatedBackend {
    /// What it is called in messages.
    pub name: String,
    /// Its address, without credentials.
    pub url: String,
    /// What operators have said of it.
    pub labels: BackendLabels,
    /// How it is.
    #[schemars(with = "Condition")]
    pub status: &'static str,
    /// Why it does not simply take jobs, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What operators have asked for, whatever its status is.
    #[schemars(with = "Operation")]
    pub operation: &'static str,
    /// Its version.
    pub version: Option<String>,
    /// How many prompts ran when its queue was last received.
    pub queue_running: usize,
    /// How many prompts waited then.
    pub queue_pending: usize,
    /// How many jobs of this relay's queue are planned for it.
    pub waiting: usize,
    /// When it is done with the prompts that it has; `None` if that is not known.
    pub free_at: Option<Timestamp>,
}

/// The relay's own queue, for those who operate it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct QueueOverview {
    /// `running` or `paused`.
    #[schemars(extend("enum" = ["running", "paused"]))]
    pub state: &'static str,
    /// How many jobs wait, at all relays on the database.
    pub waiting: usize,
    /// When the oldest of them came.
    pub oldest: Option<Timestamp>,
    /// When the next job of this relay begins, by its plan; `None` if none waits, or that is not known.
    pub next_start: Option<Timestamp>,
}

impl Relay {
    /// The ComfyUI servers, in the order of the settings.
    pub fn operated_backends(&self) -> Vec<OperatedBackend> {
        let planned = self.planned_jobs();
        let backends = self.0.tracker.backends.iter();
        let operated = backends.map(|backend| {
            let waiting = planned.get(backend.name()).copied().unwrap_or_default();
            self.operated(backend, waiting)
        });
        operated.collect()
    }

    /// The ComfyUI server with this name.
    pub fn operated_backend(&self, name: &str) -> Result<OperatedBackend, RelayError> {
        let backend = self.backend_named(name)?;
        let waiting = self.planned_jobs().get(name).copied().unwrap_or_default();
        Ok(self.operated(backend, waiting))
    }

    /// The relay's own queue. Fails if the database does not answer.
    pub async fn queue_status(&self) -> Result<QueueOverview, RelayError> {
        let tracker = &self.0.tracker;
        let waiting = tracker.recorder.store().waiting().await?;
        let is_paused = self.is_queue_paused();
        let next_start = tracker.queue.next_start().filter(|_| !is_paused);
        Ok(QueueOverview {
            state: queue_word(is_paused),
            waiting: waiting.jobs,
            oldest: waiting.oldest.map(in_seconds),
            next_start: next_start.and_then(|seconds| later(tracker.now(), seconds)),
        })
    }

    /// How many waiting jobs are planned for each backend.
    fn planned_jobs(&self) -> HashMap<String, usize> {
        let registry = self.0.tracker.registry();
        let mut planned = HashMap::new();
        for entry in registry.open_without_backend() {
            if let Some(name) = entry.job.wait().and_then(|wait| wait.backend.as_deref()) {
                *planned.entry(name.to_owned()).or_default() += 1;
            }
        }
        planned
    }

    pub(super) fn operated(&self, backend: &Backend, waiting: usize) -> OperatedBackend {
        let tracker = &self.0.tracker;
        let now = tracker.now();
        let report = backend.seen(now).report;
        let open = tracker.registry().count_open(backend);
        let (_, free_in) = tracker.queue.load(backend, &tracker.estimator, open, now);
        let is_of_peer = *backend.lease.borrow() == Lease::HeldByPeer;
        let of_peer = is_of_peer.then(|| tracker.queue.prompts_at_peer(backend));
        let state = backend.state();
        let (running, pending) = match of_peer {
            // The relay that follows it sees its queue.
            Some(prompts) => (prompts.min(1), prompts.saturating_sub(1)),
            None => (state.queue.running, state.queue.pending),
        };
        OperatedBackend {
            name: backend.name().to_owned(),
            url: backend.comfy.address().to_owned(),
            labels: backend.labels.clone(),
            status: report.condition.as_str(),
            reason: report.reason,
            operation: state.operation.as_str(),
            version: report.version,
            queue_running: running,
            queue_pending: pending,
            waiting,
            free_at: free_in
                .filter(|_| report.condition.is_healthy())
                .and_then(|seconds| later(now, seconds)),
        }
    }
}

impl OperatedBackend {
    /// A server that was added, and that this relay does not follow.
    pub(super) fn unfollowed(
        added: AddedBackend,
        condition: Condition,
        operation: Operation,
    ) -> Self {
        Self {
            name: added.name,
            url: added.url,
            labels: added.labels,
            status: condition.as_str(),
            reason: Some(
                "the settings of this relay do not allow it (BACKEND_NETWORKS)".to_owned(),
            ),
            operation: operation.as_str(),
            version: None,
            queue_running: 0,
            queue_pending: 0,
            waiting: 0,
            free_at: None,
        }
    }
}

/// The word for the state of the queue.
fn queue_word(is_paused: bool) -> &'static str {
    let operation = if is_paused {
        Operation::Pause
    } else {
        Operation::Run
    };
    operation.as_str()
}

/// The second in which so many seconds are over; `None` if no calendar has it.
fn later(now: Timestamp, seconds: f64) -> Option<Timestamp> {
    let time = SignedDuration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    now.checked_add(time).ok().map(in_seconds)
}

fn in_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
