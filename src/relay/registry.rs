//! The jobs that the relay remembers, and its records of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::backend::Backend;
use super::ownership::{HeldState, Ownership, StateVersion};
use super::pending_plan::PendingPlan;
use super::stored_counts::StoredCounts;
use super::stored_job::StoredEstimate;
use crate::estimate::EstimateLog;
use crate::job::{Job, JobId, Progress, Status};
use crate::store::NodeCostRecord;

/// The epoch of a new job.
const FIRST_EPOCH: u64 = 1;

/// Every job that the relay remembers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    by_id: HashMap<JobId, Entry>,
    /// By backend and prompt. Several jobs can follow one prompt.
    by_prompt: HashMap<(usize, String), Vec<JobId>>,
    /// In the order of registration.
    order: BTreeMap<u64, JobId>,
    /// The number of the newest job.
    newest: watch::Sender<u64>,
    /// The open jobs of which this relay is not the owner.
    unowned: HashSet<JobId>,
    /// Ids of jobs that are being submitted.
    reserved: HashSet<JobId>,
    /// The ended jobs that are not here.
    pub(super) stored: StoredCounts,
}

/// A job, and the relay's records of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    /// The backend that has its prompt; `None` for jobs of other producers, and of a backend that is not
    /// configured any more.
    pub(super) backend: Option<Arc<Backend>>,
    /// What its nodes have cost; `None` if nothing was learned from it.
    pub(super) costs: Option<HashMap<String, NodeCostRecord>>,
    pub(super) publishing: Publishing,
    pub(super) comparison: Comparison,
    pub(super) pending_plan: PendingPlan,
    /// What this relay is to it.
    pub(super) ownership: Ownership,
    /// How often another relay had taken it over when this one did.
    pub(super) epoch: u64,
    /// What its row says of its end; only of a copy.
    pub(super) stored_estimate: Option<StoredEstimate>,
    /// When somebody last asked for it.
    pub(super) asked_at: Instant,
    number: u64,
}

/// What was published of a job.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) published_at: Instant,
    /// The remaining seconds that were published last.
    pub(super) published_remaining: Option<u64>,
    /// When a state is published that was held back.
    pub(super) flush_at: Option<Instant>,
    /// A caller was told that it is written.
    pub(super) is_acknowledged: bool,
    /// How many previews were published.
    pub(super) previews: u64,
    /// What was predicted when it began, and the estimates that were published while it ran.
    pub(super) estimate_log: Option<Box<EstimateLog>>,
}

/// What comparing a job with its backend's queue and history has shown.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The prompt was submitted under our client id: its events go to our socket.
    pub(super) own_client: bool,
    /// ComfyUI has not answered the submission yet, and may not have the prompt.
    pub(super) is_unanswered: bool,
    /// The socket has received that the work is done.
    pub(super) work_done: bool,
    /// The backend has accepted our request to cancel it.
    pub(super) cancel_requested: bool,
    /// When its end was first found in the history, while the socket had not received it.
    pub(super) end_found_at: Option<Instant>,
    /// The backend's disconnect counter when its server last had the prompt.
    pub(super) disconnects_when_seen: u64,
    /// Since when the prompt is neither in the queue nor in the history.
    pub(super) missing_since: Option<Instant>,
    /// An unreadable history was logged; the next ones are not.
    pub(super) failure_logged: bool,
}

impl Entry {
    fn new(
        job: Job,
        backend: Option<Arc<Backend>>,
        disconnects_when_seen: u64,
        number: u64,
    ) -> Self {
        Self {
            job,
            backend,
            costs: None,
            publishing: Publishing {
                published_at: Instant::now(),
                published_remaining: None,
                flush_at: None,
                is_acknowledged: false,
                previews: 0,
                estimate_log: None,
            },
            comparison: Comparison {
                own_client: false,
                is_unanswered: false,
                work_done: false,
                cancel_requested: false,
                end_found_at: None,
                disconnects_when_seen,
                missing_since: None,
                failure_logged: false,
            },
            pending_plan: PendingPlan::default(),
            ownership: Ownership::Owner,
            epoch: FIRST_EPOCH,
            stored_estimate: None,
            asked_at: Instant::now(),
            number,
        }
    }

    /// Whether this relay publishes and writes it.
    pub(super) fn is_owned(&self) -> bool {
        self.ownership == Ownership::Owner
    }

    /// What the relay has of it, as the rules of ownership see it.
    pub(super) fn held(&self) -> HeldState {
        HeldState {
            ownership: self.ownership,
            version: StateVersion {
                epoch: self.epoch,
                seq: self.job.seq(),
            },
            has_ended: self.job.status().is_final(),
        }
    }

    /// Whether its own events show how much time a job that runs has left. True also of its end.
    pub(super) fn has_live_estimate(&self) -> bool {
        let status = self.job.status();
        status.is_final() || (self.comparison.own_client && status == Status::Processing)
    }

    fn prompt_key(&self) -> Option<(usize, String)> {
        let backend = self.backend.as_ref()?;
        Some((backend.index, self.job.prompt_id()?.to_owned()))
    }
}

impl Publishing {
    /// Records that a state was published just now.
    pub(super) fn published(&mut self, progress: &Progress) {
        self.published_at = Instant::now();
        self.flush_at = None;
        self.published_remaining = progress.estimated_remaining;
    }
}

impl Registry {
    /// Adds a job, in place of its reservation, or of what was known of it.
    pub(super) fn insert(
        &mut self,
        job: Job,
        backend: Option<Arc<Backend>>,
        disconnects_when_seen: u64,
    ) -> &mut Entry {
        let id = job.id().clone();
        self.reserved.remove(&id);
        self.unowned.remove(&id);
        let before = self.by_id.remove(&id);
        let number = match &before {
            Some(entry) => {
                self.unlink_prompt(entry);
                entry.number
            }
            None => {
                self.newest.send_modify(|newest| *newest += 1);
                *self.newest.borrow()
            }
        };
        self.order.insert(number, id.clone());
        let entry = Entry::new(job, backend, disconnects_when_seen, number);
        if let Some(key) = entry.prompt_key() {
            self.by_prompt.entry(key).or_default().push(id.clone());
        }
        let status = entry.job.status();
        if status.is_final() && before.is_none_or(|before| !before.job.status().is_final()) {
            self.stored.remove(status);
        }
        self.by_id.entry(id).insert_entry(entry).into_mut()
    }

    /// Makes this relay no longer the owner of a backend's open jobs.
    pub(super) fn give_up(&mut self, backend: &Backend) {
        for entry in self.by_id.values_mut() {
            let is_of_backend =
                (entry.backend.as_ref()).is_some_and(|it| it.index == backend.index);
            if is_of_backend && entry.is_owned() && !entry.job.status().is_final() {
                entry.ownership = Ownership::FormerOwner;
                self.unowned.insert(entry.job.id().clone());
            }
        }
    }

    /// Changes what this relay is to a job.
    pub(super) fn set_ownership(&mut self, id: &JobId, ownership: Ownership) {
        let Some(entry) = self.by_id.get_mut(id) else {
            return;
        };
        entry.ownership = ownership;
        if ownership == Ownership::Owner || entry.job.status().is_final() {
            self.unowned.remove(id);
        } else {
            self.unowned.insert(id.clone());
        }
    }

    /// The open jobs of which this relay is not the owner.
    pub(super) fn unowned(&self) -> impl Iterator<Item = &Entry> {
        self.unowned.iter().filter_map(|id| self.by_id.get(id))
    }

    /// Reserves a job id; `false` if it is taken.
    pub(super) fn reserve(&mut self, id: &JobId) -> bool {
        !self.by_id.contains_key(id) && self.reserved.insert(id.clone())
    }

    /// Whether a job id is reserved.
    pub(super) fn is_reserved(&self, id: &JobId) -> bool {
        self.reserved.contains(id)
    }

    /// Frees a reserved job id.
    pub(super) fn release(&mut self, id: &JobId) {
        self.reserved.remove(id);
    }

    /// Follows the prompt of a job under the id that its server has chosen.
    pub(super) fn rename_prompt(&mut self, id: &JobId, prompt_id: &str) {
        let Some(entry) = self.by_id.get_mut(id) else {
            return;
        };
        let before = entry.prompt_key();
        entry.job.rename_prompt(prompt_id);
        let after = entry.prompt_key();
        if let Some(jobs) = before.and_then(|key| self.by_prompt.get_mut(&key)) {
            jobs.retain(|job| job != id);
        }
        if let Some(key) = after {
            self.by_prompt.entry(key).or_default().push(id.clone());
        }
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &JobId) -> Option<&mut Entry> {
        self.by_id.get_mut(id)
    }

    /// The jobs that follow a prompt of a backend.
    pub(super) fn of_prompt(&self, backend: &Backend, prompt_id: &str) -> &[JobId] {
        let jobs = self.by_prompt.get(&(backend.index, prompt_id.to_owned()));
        jobs.map(Vec::as_slice).unwrap_or_default()
    }

    /// The entries of the jobs that follow a prompt of a backend.
    pub(super) fn entries_of_prompt(
        &self,
        backend: &Backend,
        prompt_id: &str,
    ) -> impl Iterator<Item = &Entry> {
        let jobs = self.of_prompt(backend, prompt_id).iter();
        jobs.filter_map(|id| self.by_id.get(id))
    }

    /// A job that has ended, unless the costs of the same run were learned from another job already.
    ///
    /// A run that began after the other's end is another one: a client may use a prompt id again.
    pub(super) fn unlearned(&mut self, id: &JobId) -> Option<&mut Entry> {
        let entry = self.by_id.get(id)?;
        let was_learned = |other: &Entry| {
            let has_costs = (other.costs.as_ref()).is_some_and(|costs| !costs.is_empty());
            has_costs && other.job.work_done_at() > entry.job.started_at()
        };
        if let (Some(backend), Some(prompt)) = (&entry.backend, entry.job.prompt_id())
            && self.entries_of_prompt(backend, prompt).any(was_learned)
        {
            return None;
        }
        self.by_id.get_mut(id)
    }

    /// The jobs of a backend that have not ended.
    pub(super) fn open(&self, backend: &Backend) -> impl Iterator<Item = &Entry> {
        let index = backend.index;
        self.by_id.values().filter(move |entry| {
            let entry_index = entry.backend.as_ref().map(|backend| backend.index);
            entry_index == Some(index) && !entry.job.status().is_final()
        })
    }

    /// All jobs, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_id.values()
    }

    /// All jobs, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.order
            .values()
            .rev()
            .filter_map(|id| self.by_id.get(id))
    }

    /// The number of the newest job, which grows by one with each.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Whether anybody waits for new jobs.
    pub(super) fn has_feeds(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    /// The jobs with numbers above this one, in the order of registration.
    pub(super) fn registered_after(&self, number: u64) -> impl Iterator<Item = &Entry> {
        let after = self.order.range(number + 1..).map(|(_, id)| id);
        after.filter_map(|id| self.by_id.get(id))
    }

    /// How many jobs are in a status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.by_id
            .values()
            .filter(|entry| entry.job.status() == status)
            .count()
    }

    /// Forgets a job that the database remembers.
    pub(super) fn remove(&mut self, id: &JobId) {
        let Some(entry) = self.by_id.remove(id) else {
            return;
        };
        self.order.remove(&entry.number);
        self.unowned.remove(id);
        let status = entry.job.status();
        if status.is_final() {
            self.stored.add(status);
        }
        self.unlink_prompt(&entry);
    }

    fn unlink_prompt(&mut self, entry: &Entry) {
        let id = entry.job.id();
        if let Some(key) = entry.prompt_key()
            && let Some(jobs) = self.by_prompt.get_mut(&key)
        {
            jobs.retain(|job| job != id);
            if jobs.is_empty() {
                self.by_prompt.remove(&key);
            }
        }
    }
}
