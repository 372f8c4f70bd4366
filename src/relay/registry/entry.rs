//! [`Entry`]: one job that the relay remembers.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::estimate::{Estimate, EstimateLog};
use crate::job::{Job, Progress, Status};
use crate::relay::backend::Backend;
use crate::relay::ownership::{HeldState, Ownership};
use crate::relay::pending_plan::PendingPlan;
use crate::relay::stored_job::StoredEstimate;
use crate::relay::webhooks::announced::Announced;
use crate::store::NodeCostRecord;

/// The epoch of a new job.
const FIRST_EPOCH: u64 = 1;

/// A job, and the relay's records of it.
#[derive(Debug)]
pub(in crate::relay) struct Entry {
    pub(in crate::relay) job: Job,
    /// The backend that has its prompt; `None` for jobs of other producers, and of a backend that is not
    /// configured any more.
    pub(in crate::relay) backend: Option<Arc<Backend>>,
    /// What its nodes have cost; `None` if nothing was learned from it.
    pub(in crate::relay) costs: Option<HashMap<String, NodeCostRecord>>,
    /// Something was learned from it before it was read from its row again.
    pub(super) was_learned_before: bool,
    pub(in crate::relay) publishing: Publishing,
    pub(in crate::relay) comparison: Comparison,
    pub(in crate::relay) pending_plan: PendingPlan,
    /// What this relay is to it.
    pub(in crate::relay) ownership: Ownership,
    /// How often another relay had taken it over when this one did.
    pub(in crate::relay) epoch: u64,
    /// What its row says of its end; only of a copy.
    pub(in crate::relay) stored_estimate: Option<StoredEstimate>,
    /// When it will end by the last plan of the queue in which it waits, and when that was made.
    pub(in crate::relay) queue_estimate: Option<(Estimate, Timestamp)>,
    /// When its producer last reported, or when it was registered or read from the database; only of a job without a prompt.
    pub(in crate::relay) reported_at: Instant,
    /// Its end has come over the broker, or was published here while another relay took it, and its row does not show that yet.
    pub(in crate::relay) is_ahead_of_row: bool,
    /// When somebody last asked for it.
    pub(in crate::relay) asked_at: Instant,
    pub(super) number: u64,
}

/// What was published of a job.
#[derive(Debug)]
pub(in crate::relay) struct Publishing {
    pub(in crate::relay) published_at: Instant,
    /// When the first event of ComfyUI came that is not published yet.
    pub(in crate::relay) event_at: Option<std::time::Instant>,
    /// The remaining seconds that were published last.
    pub(in crate::relay) published_remaining: Option<u64>,
    /// When a state is published that was held back.
    pub(in crate::relay) flush_at: Option<Instant>,
    /// The state has changed, and is published when somebody subscribes: nobody follows the job.
    pub(in crate::relay) is_stale: bool,
    /// A change was published, or is held back, that is not recorded.
    pub(in crate::relay) is_changed: bool,
    /// The state that was recorded last.
    pub(in crate::relay) recorded: Option<RecordedState>,
    /// A caller was answered that it is written.
    pub(in crate::relay) is_acknowledged: bool,
    /// How many previews were published.
    pub(in crate::relay) previews: u64,
    /// What was announced to webhooks.
    pub(in crate::relay) announced: Announced,
    /// What was predicted when it began, and the estimates that were published while it ran.
    pub(in crate::relay) estimate_log: Option<Box<EstimateLog>>,
}

/// A state of a job that was recorded.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct RecordedState {
    pub(in crate::relay) seq: u64,
    /// 0 to 100.
    pub(in crate::relay) progress: u8,
}

/// What comparing a job with its backend's queue and history has shown.
#[derive(Debug, Clone)]
pub(in crate::relay) struct Comparison {
    /// The prompt was submitted under our client id: its events go to our socket.
    pub(in crate::relay) own_client: bool,
    /// ComfyUI has not answered the submission yet, and may not have the prompt.
    pub(in crate::relay) is_unanswered: bool,
    /// The socket has received that the work is done.
    pub(in crate::relay) work_done: bool,
    /// The backend has accepted our request to cancel it.
    pub(in crate::relay) cancel_requested: bool,
    /// Its backend was asked to remove it from its queue, so that it waits in ours again.
    pub(in crate::relay) is_called_back: bool,
    /// When its end was first found in the history, while the socket had not received it.
    pub(in crate::relay) end_found_at: Option<Instant>,
    /// The backend's disconnect counter when its server last had the prompt.
    pub(in crate::relay) disconnects_when_seen: u64,
    /// Since when the prompt is neither in the queue nor in the history.
    pub(in crate::relay) missing_since: Option<Instant>,
    /// An unreadable history was logged; the next ones are not.
    pub(in crate::relay) failure_logged: bool,
}

impl Entry {
    pub(super) fn new(
        job: Job,
        backend: Option<Arc<Backend>>,
        disconnects_when_seen: u64,
        number: u64,
    ) -> Self {
        // Also by this relay before it was restarted, or by another one.
        let cancel_requested = job.is_cancelling();
        let announced = if job.status().is_final() {
            Announced::ALL
        } else {
            Announced::default()
        };
        Self {
            job,
            backend,
            costs: None,
            was_learned_before: false,
            publishing: Publishing {
                published_at: Instant::now(),
                event_at: None,
                published_remaining: None,
                flush_at: None,
                is_stale: false,
                is_changed: false,
                recorded: None,
                is_acknowledged: false,
                previews: 0,
                announced,
                estimate_log: None,
            },
            comparison: Comparison::new(disconnects_when_seen, cancel_requested),
            pending_plan: PendingPlan::default(),
            ownership: Ownership::Owner,
            epoch: FIRST_EPOCH,
            stored_estimate: None,
            queue_estimate: None,
            reported_at: Instant::now(),
            is_ahead_of_row: false,
            asked_at: Instant::now(),
            number,
        }
    }

    /// A backend has its prompt.
    pub(super) fn hand_over(&mut self, backend: Arc<Backend>, prompt_id: &str, disconnects: u64) {
        self.job.hand_over(backend.name(), prompt_id);
        self.backend = Some(backend);
        self.queue_estimate = None;
        self.comparison = Comparison::new(disconnects, false);
    }

    /// Its prompt is gone from its backend. What was published stays.
    pub(super) fn take_back(&mut self, prompt_id: &str) {
        self.job.take_back(prompt_id);
        self.backend = None;
        self.pending_plan = PendingPlan::default();
        self.publishing.estimate_log = None;
        self.comparison = Comparison::new(0, false);
    }

    /// Whether it has shown what its nodes cost.
    pub(super) fn was_learned(&self) -> bool {
        let has_costs = (self.costs.as_ref()).is_some_and(|costs| !costs.is_empty());
        has_costs || self.was_learned_before
    }

    /// Whether this relay publishes and writes it.
    pub(in crate::relay) fn is_owned(&self) -> bool {
        self.ownership == Ownership::Owner
    }

    /// Whether it has ended, and its row shows that, as far as is known.
    pub(in crate::relay) fn has_ended_in_row(&self) -> bool {
        self.job.status().is_final() && !self.is_ahead_of_row
    }

    /// What the relay has of it, as the rules of ownership see it.
    pub(in crate::relay) fn held(&self) -> HeldState {
        HeldState::of(&self.job, self.epoch, self.ownership)
    }

    /// Whether its own events show how much time a job that runs has left. True also of its end.
    pub(in crate::relay) fn has_live_estimate(&self) -> bool {
        let status = self.job.status();
        status.is_final() || (self.comparison.own_client && status == Status::Processing)
    }

    /// When a job that waits in the relay's own queue will end, at a moment. Nothing is known before it is planned.
    pub(in crate::relay) fn queued_estimate(&self, now: Timestamp) -> Estimate {
        let Some((estimate, at)) = self.queue_estimate else {
            return Estimate::default();
        };
        estimate.later(now.duration_since(at).as_secs_f64().max(0.0))
    }

    /// Its place in the order of registration.
    pub(in crate::relay) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a backend has its prompt.
    pub(in crate::relay) fn is_on(&self, backend: &Backend) -> bool {
        self.backend_index() == Some(backend.index)
    }

    /// Its place among the backends; `None` if it has none, or one that is not configured.
    pub(super) fn backend_index(&self) -> Option<usize> {
        self.backend.as_ref().map(|backend| backend.index)
    }
}

impl Comparison {
    /// Of a prompt that the server had under this disconnect counter.
    fn new(disconnects_when_seen: u64, cancel_requested: bool) -> Self {
        Self {
            own_client: false,
            is_unanswered: false,
            work_done: false,
            cancel_requested,
            is_called_back: false,
            end_found_at: None,
            disconnects_when_seen,
            missing_since: None,
            failure_logged: false,
        }
    }
}

impl Publishing {
    /// Records that a state of the job's owner was passed on just now.
    pub(in crate::relay) fn received(&mut self, remaining: Option<u64>) {
        self.published_at = Instant::now();
        self.published_remaining = remaining;
    }

    /// Records that a state was published just now.
    pub(in crate::relay) fn published(&mut self, progress: &Progress) {
        self.published_at = Instant::now();
        self.flush_at = None;
        self.is_stale = false;
        self.published_remaining = progress.estimated_remaining;
    }
}
