//! [`JobQueue`]: the jobs that wait for a backend.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot, watch};

use crate::comfy::WrongInput;
use crate::job::{Job, JobId, Status, Tags};
use crate::placement::FairShare;
use crate::relay::RelayError;
use crate::relay::backend::Backend;
use crate::relay::estimates::Estimator;
use crate::relay::queue::class_losses::ClassLosses;
use crate::relay::queue::kinds::Kinds;
use crate::relay::queue::loads::BackendRecord;
use crate::relay::queue::operations::Operations;
use crate::relay::queue::seal::Seal;

/// The jobs that wait for a backend.
#[derive(Debug)]
pub(in crate::relay) struct JobQueue {
    state: Mutex<QueueState>,
    /// Seals keys that wait in the database.
    pub(super) seal: Seal,
    /// Wakes the task that dispatches.
    pub(super) wake: Notify,
    /// How often all were planned.
    pub(super) passes: watch::Sender<u64>,
    /// What operators have stopped.
    pub(in crate::relay) operations: Operations,
    /// The place of the newest job.
    newest: AtomicI64,
}

#[derive(Debug)]
pub(super) struct QueueState {
    pub(super) jobs: HashMap<JobId, QueuedJob>,
    pub(super) kinds: Kinds,
    /// How many jobs are being stored, by their share: they count for the limits.
    pub(super) admitting: HashMap<Option<u32>, usize>,
    /// Jobs that were being handed in when a relay ended, of which it is being asked where they are.
    pub(super) settling: HashSet<JobId>,
    /// By the index of the backend.
    pub(super) backends: Vec<BackendRecord>,
    /// How many jobs were handed in.
    pub(super) handed_in: u64,
    /// Numbers for the names of shares.
    pub(super) shares: HashMap<String, u32>,
    pub(super) fair_share: FairShare,
    pub(super) losses: ClassLosses,
    /// When the first waiting job begins, by the last plan, in seconds from then.
    pub(super) next_start: Option<f64>,
    /// Somebody waits for a plan.
    pub(super) is_awaited: bool,
    /// Jobs of other relays waited when the database was last asked.
    pub(super) is_shared: bool,
}

/// A job that waits for a backend.
#[derive(Debug)]
pub(super) struct QueuedJob {
    /// The order of arrival.
    pub(super) place: i64,
    /// Higher ones come first.
    pub(super) priority: i64,
    pub(super) share: Option<u32>,
    /// What it has in common with others.
    pub(super) kind: usize,
    /// The backend to which it is being handed in.
    pub(super) claimed_for: Option<usize>,
    /// How often handing it in has failed.
    pub(super) failures: u32,
    /// Set while its caller waits for what becomes of it: it is not registered yet.
    pub(super) fresh: Option<Fresh>,
    /// Whether the database has keys of partner nodes for it.
    pub(super) has_secrets: bool,
    /// Keys of partner nodes, which are handed in with it.
    pub(super) keys: Map<String, Value>,
}

/// A job whose caller waits for what becomes of it. It is registered only then: a job that is refused leaves nothing.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) caller: oneshot::Sender<QueueVerdict>,
    pub(super) tags: Arc<Tags>,
    pub(super) prompt_id: String,
}

/// What has become of a job whose caller waits.
#[derive(Debug)]
pub(super) enum QueueVerdict {
    /// A backend has it.
    HandedIn {
        /// The name of the backend.
        backend: String,
        /// ComfyUI's id for it.
        prompt_id: String,
        /// Inputs because of which ComfyUI ignores some outputs.
        ignored: Vec<WrongInput>,
    },
    /// It waits.
    Waits,
    /// It was refused.
    Refused(RelayError),
}

impl JobQueue {
    /// An empty queue before this many backends. `key_file` is where the key is that seals keys of partner nodes.
    pub(in crate::relay) fn new(backends: usize, key_file: Option<PathBuf>) -> Self {
        Self {
            seal: Seal::new(key_file),
            state: Mutex::new(QueueState {
                jobs: HashMap::new(),
                kinds: Kinds::default(),
                admitting: HashMap::new(),
                settling: HashSet::new(),
                backends: vec![BackendRecord::default(); backends],
                handed_in: 0,
                shares: HashMap::new(),
                fair_share: FairShare::default(),
                losses: ClassLosses::default(),
                next_start: None,
                is_awaited: false,
                is_shared: false,
            }),
            wake: Notify::new(),
            passes: watch::Sender::default(),
            operations: Operations::default(),
            newest: AtomicI64::new(0),
        }
    }

    /// Keeps records of so many backends.
    pub(in crate::relay) fn make_room(&self, backends: usize) {
        let records = &mut self.state().backends;
        let count = backends.max(records.len());
        records.resize_with(count, BackendRecord::default);
    }

    /// A job has ended, which waits no more.
    pub(in crate::relay) fn on_ended(&self, job: &Job) {
        if job.status() == Status::Completed {
            self.state().losses.completed(job);
        }
        self.wake();
    }

    /// Has it looked whether a backend has room.
    pub(in crate::relay) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Has all planned at once, and counted in `passes`.
    pub(super) fn plan_now(&self) {
        self.state().is_awaited = true;
        self.wake();
    }

    /// Removes a job that has ended, or that a backend has. Returns whether the database has keys of partner nodes for it.
    pub(in crate::relay) fn remove(&self, id: &JobId) -> bool {
        let removed = self.state().remove(id);
        removed.is_some_and(|job| job.has_secrets)
    }

    /// The next place at the end, in microseconds since 1970: it grows with each job, whatever the clock does.
    pub(in crate::relay) fn next_place(&self) -> i64 {
        let now = Timestamp::now().as_microsecond();
        let next = |newest: i64| Some(now.max(newest + 1));
        let before = self
            .newest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        now.max(before.unwrap_or_default() + 1)
    }

    /// How many prompts a backend has, and in how many seconds it is done with them, if that is known. `open` of them are
    /// followed.
    pub(in crate::relay) fn load(
        &self,
        backend: &Backend,
        estimator: &Estimator,
        open: usize,
        now: Timestamp,
    ) -> (usize, Option<f64>) {
        let mut state = self.state();
        let record = &mut state.backends[backend.index];
        let view = record.view(backend, estimator, (0, open), now);
        (view.prompts, view.free.and_then(|free| free.remaining))
    }

    /// Whether a job waits.
    pub(in crate::relay) fn has(&self, id: &JobId) -> bool {
        self.state().jobs.contains_key(id)
    }

    /// How many jobs wait.
    pub(in crate::relay) fn length(&self) -> usize {
        self.state().jobs.len()
    }

    /// In how many seconds the first waiting job begins, by the last plan.
    pub(in crate::relay) fn next_start(&self) -> Option<f64> {
        let state = self.state();
        state.next_start.filter(|_| !state.jobs.is_empty())
    }

    /// Locks it. After that of the jobs, and never over an `await`.
    pub(super) fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    pub(super) fn remove(&mut self, id: &JobId) -> Option<QueuedJob> {
        let job = self.jobs.remove(id)?;
        self.kinds.remove(job.kind);
        Some(job)
    }

    /// Removes a job, unless it is being handed in.
    pub(super) fn remove_unclaimed(&mut self, id: &JobId) {
        let is_claimed = |job: &QueuedJob| job.claimed_for.is_some();
        if !self.jobs.get(id).is_some_and(is_claimed) {
            self.remove(id);
        }
    }

    /// The number of a share.
    pub(super) fn share(&mut self, name: Option<&str>) -> Option<u32> {
        let name = name?;
        let next = u32::try_from(self.shares.len()).unwrap_or(u32::MAX);
        Some(*self.shares.entry(name.to_owned()).or_insert(next))
    }
}
