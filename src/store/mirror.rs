//! [`Mirror`]: shows the states of jobs in the pipeline's own table, on a task and a connection of its own.
//!
//! Guarantees: the newest state of each job is written in the end, however long the pipeline locks its row or its table;
//! nothing else waits for that. After a crash the ends that were not written are found in the relay's own tables.

mod find;
mod mirror_refusal;
mod pipeline;
mod session;
mod state;
mod statement;
mod task;
mod write;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::database::StoreError;
use crate::config::{PipelineTable, StoreConfig};
pub use find::PipelineInspection;
use mirror_refusal::MirrorRefusal;
use pipeline::Pipeline;
pub(super) use state::{MirroredKeys, MirroredState};
pub(super) use task::MirrorTask;

/// How often a running job is written at most. Its end is written at once.
const RUNNING_INTERVAL: Duration = Duration::from_secs(1);

/// The pauses before a state is written again: twice as long each time, from the first to the longest.
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How many kinds of refusals are remembered, so that each is logged once.
const MAX_KINDS: usize = 1_000;

/// The health of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorHealth {
    /// The pipeline's table; `None` if there is none.
    pub table: Option<String>,
    /// How many jobs have a state that is not mirrored yet.
    pub pending: usize,
    /// How long the oldest of them has waited.
    pub lag: Duration,
    /// How many states the database has refused, wholly or in part, since the start.
    pub refused: u64,
}

/// Mirrors states. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Mirror(Arc<MirrorShared>);

#[derive(Debug)]
struct MirrorShared {
    table: PipelineTable,
    inserts: bool,
    queue: Mutex<MirrorQueue>,
    wake: Notify,
}

#[derive(Debug)]
struct MirrorQueue {
    /// Whether there is a table, or may be.
    is_active: bool,
    pipeline: Option<Arc<Pipeline>>,
    waiting: HashMap<String, Waiting>,
    /// When the running jobs were written last.
    written_at: HashMap<String, Instant>,
    refused: u64,
    kinds: HashSet<MirrorRefusal>,
}

/// The newest state of a job that is not written yet.
#[derive(Debug)]
struct Waiting {
    state: MirroredState,
    since: Instant,
    due: Instant,
    failures: u32,
}

impl Mirror {
    pub(super) fn new(config: &StoreConfig) -> Self {
        let is_active =
            config.pipeline_table != PipelineTable::Off && !config.database.is_in_memory();
        Self(Arc::new(MirrorShared {
            table: config.pipeline_table.clone(),
            inserts: config.pipeline_insert,
            queue: Mutex::new(MirrorQueue {
                is_active,
                pipeline: None,
                waiting: HashMap::new(),
                written_at: HashMap::new(),
                refused: 0,
                kinds: HashSet::new(),
            }),
            wake: Notify::new(),
        }))
    }

    /// Whether the end of a job is to be mirrored.
    pub(super) fn covers(&self, job_key: &str) -> bool {
        let queue = self.queue();
        let can_be_shown = |pipeline: &Arc<Pipeline>| pipeline.can_name_a_row(job_key);
        queue.is_active && (self.0.inserts || queue.pipeline.as_ref().is_none_or(can_be_shown))
    }

    /// Mirrors a state that is durable, in place of an earlier one of its job that waits. Never waits.
    pub(super) fn submit(&self, state: MirroredState) {
        if !self.covers(&state.job_key) {
            return;
        }
        let now = Instant::now();
        let mut queue = self.queue();
        let written_at = queue.written_at.get(&state.job_key).copied();
        let due = match written_at {
            Some(at) if !state.status.is_final() => at + RUNNING_INTERVAL,
            _ => now,
        };
        let key = state.job_key.clone();
        match queue.waiting.get_mut(&key) {
            Some(waiting) => {
                waiting.due = waiting.due.min(due.max(now));
                waiting.state = state;
            }
            None => {
                let waiting = Waiting {
                    state,
                    since: now,
                    due,
                    failures: 0,
                };
                queue.waiting.insert(key, waiting);
            }
        }
        drop(queue);
        self.0.wake.notify_one();
    }

    pub(super) fn health(&self) -> MirrorHealth {
        let queue = self.queue();
        let oldest = queue.waiting.values().map(|waiting| waiting.since).min();
        MirrorHealth {
            table: queue
                .pipeline
                .as_ref()
                .map(|pipeline| pipeline.name.clone()),
            pending: queue.waiting.len(),
            lag: oldest.map(|since| since.elapsed()).unwrap_or_default(),
            refused: queue.refused,
        }
    }

    fn is_active(&self) -> bool {
        self.queue().is_active
    }

    fn pipeline(&self) -> Option<Arc<Pipeline>> {
        self.queue().pipeline.clone()
    }

    fn on_found(&self, pipeline: Pipeline) -> Arc<Pipeline> {
        let pipeline = Arc::new(pipeline);
        let inserts = self.0.inserts;
        let mut queue = self.queue();
        queue.is_active = true;
        queue.pipeline = Some(pipeline.clone());
        queue
            .waiting
            .retain(|key, _| inserts || pipeline.can_name_a_row(key));
        pipeline
    }

    fn on_absent(&self) {
        let mut queue = self.queue();
        queue.is_active = false;
        queue.waiting.clear();
    }

    /// The state that has been due for the longest time; `None` if none is.
    fn due(&self) -> Option<MirroredState> {
        let queue = self.queue();
        let oldest = queue.waiting.values().min_by_key(|waiting| waiting.due)?;
        (oldest.due <= Instant::now()).then(|| oldest.state.clone())
    }

    fn next_due(&self) -> Option<Instant> {
        self.queue()
            .waiting
            .values()
            .map(|waiting| waiting.due)
            .min()
    }

    fn hurry(&self) {
        for waiting in self.queue().waiting.values_mut() {
            waiting.due = Instant::now();
        }
    }

    fn on_written(&self, state: &MirroredState) {
        let mut queue = self.queue();
        let key = &state.job_key;
        let is_newest = |waiting: &Waiting| {
            waiting.state.metadata.last_updated == state.metadata.last_updated
                && waiting.state.status == state.status
        };
        if queue.waiting.get(key).is_some_and(is_newest) {
            queue.waiting.remove(key);
        } else if let Some(waiting) = queue.waiting.get_mut(key) {
            waiting.since = Instant::now();
            waiting.failures = 0;
            if !waiting.state.status.is_final() {
                waiting.due = waiting.since + RUNNING_INTERVAL;
            }
        }
        if state.status.is_final() {
            queue.written_at.remove(key);
        } else {
            queue.written_at.insert(key.clone(), Instant::now());
        }
    }

    fn on_failure(&self, state: &MirroredState, error: &StoreError) {
        let error = error as &dyn Error;
        tracing::debug!(
            job_id = state.job_key,
            error,
            "cannot mirror a job now, retrying"
        );
        if let Some(waiting) = self.queue().waiting.get_mut(&state.job_key) {
            let pause = MIN_PAUSE * 2_u32.saturating_pow(waiting.failures.min(16));
            waiting.due = Instant::now() + pause.min(MAX_PAUSE);
            waiting.failures += 1;
        }
    }

    /// Logs each kind of refusal once.
    fn log_refusals(&self, pipeline: &Pipeline, refused: Vec<MirrorRefusal>) {
        let mut queue = self.queue();
        queue.refused += u64::from(!refused.is_empty());
        for refusal in refused {
            if queue.kinds.len() < MAX_KINDS && queue.kinds.insert(refusal.clone()) {
                tracing::warn!(
                    table = pipeline.name,
                    column = refusal.column,
                    reason = refusal.reason,
                    "the pipeline's table refuses what the relay writes; jobs go on without it"
                );
            }
        }
    }

    /// A panic elsewhere leaves the value consistent, so a poisoned lock is used as it is.
    fn queue(&self) -> MutexGuard<'_, MirrorQueue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
