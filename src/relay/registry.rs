use std::collections::{BTreeMap, HashMap, HashSet};

use tokio::time::Instant;

use crate::estimate::EstimateLog;
use crate::job::{Job, JobId, Status};
use crate::store::NodeCostRecord;

/// Every job that the relay remembers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    by_id: HashMap<JobId, Entry>,
    /// Several jobs can follow one prompt.
    by_prompt: HashMap<(usize, String), Vec<JobId>>,
    /// In the order of registration.
    order: BTreeMap<u64, JobId>,
    next_number: u64,
    /// Ids whose submission is on its way.
    reserved: HashSet<JobId>,
}

/// A job, and what the relay notes about following it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    /// What its nodes have cost; `None` where nothing was learned of it.
    pub(super) costs: Option<HashMap<String, NodeCostRecord>>,
    /// The place of its backend in the list of backends.
    pub(super) backend: Option<usize>,
    pub(super) published_at: Instant,
    /// The remaining seconds that were published last.
    pub(super) published_remaining: Option<u64>,
    /// What was published of it while it runs.
    pub(super) estimate_log: Option<Box<EstimateLog>>,
    /// When its state is published, which has changed since the last publication.
    pub(super) flush_at: Option<Instant>,
    /// The recorder's number of its newest state.
    pub(super) recorded: u64,
    pub(super) previews: u64,
    /// Its events come to our socket.
    pub(super) own_client: bool,
    /// The socket said that it is over.
    pub(super) work_done: bool,
    /// The server took our word that it is to be cancelled.
    pub(super) cancel_requested: bool,
    /// Since when the history has its end, while the socket has not told it.
    pub(super) end_found_at: Option<Instant>,
    /// The backend's count of disconnects when its server last had the prompt.
    pub(super) disconnects_when_seen: u64,
    /// Since when the prompt is neither in the queue nor in the history.
    pub(super) missing_since: Option<Instant>,
    /// It was told in the log that its history is of no use.
    pub(super) complained: bool,
    number: u64,
}

impl Registry {
    /// Registers a job, in place of its reservation.
    pub(super) fn insert(&mut self, job: Job, backend: Option<usize>, disconnects_when_seen: u64) {
        let id = job.id().clone();
        self.reserved.remove(&id);
        let number = self.next_number;
        self.next_number += 1;
        self.order.insert(number, id.clone());
        if let (Some(backend), Some(prompt)) = (backend, job.prompt_id()) {
            let followers = self
                .by_prompt
                .entry((backend, prompt.to_owned()))
                .or_default();
            followers.push(id.clone());
        }
        self.by_id.insert(
            id,
            Entry {
                job,
                costs: None,
                backend,
                published_at: Instant::now(),
                published_remaining: None,
                estimate_log: None,
                flush_at: None,
                recorded: 0,
                previews: 0,
                own_client: false,
                work_done: false,
                cancel_requested: false,
                end_found_at: None,
                disconnects_when_seen,
                missing_since: None,
                complained: false,
                number,
            },
        );
    }

    /// Takes a job id out of circulation; `false` where it is taken.
    pub(super) fn reserve(&mut self, id: &JobId) -> bool {
        !self.by_id.contains_key(id) && self.reserved.insert(id.clone())
    }

    pub(super) fn release(&mut self, id: &JobId) {
        self.reserved.remove(id);
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &JobId) -> Option<&mut Entry> {
        self.by_id.get_mut(id)
    }

    /// The jobs that follow a prompt of a backend.
    pub(super) fn of_prompt(&self, backend: usize, prompt_id: &str) -> &[JobId] {
        let followers = self.by_prompt.get(&(backend, prompt_id.to_owned()));
        followers.map(Vec::as_slice).unwrap_or_default()
    }

    /// A job that has ended, unless another one has told what the same run of its prompt cost.
    ///
    /// A run that began after the other's end is another one: a client may use an id again.
    pub(super) fn unlearned(&mut self, id: &JobId) -> Option<&mut Entry> {
        let entry = self.by_id.get(id)?;
        let told = |other: &Entry| {
            let has_costs = (other.costs.as_ref()).is_some_and(|costs| !costs.is_empty());
            has_costs && other.job.work_done_at() > entry.job.started_at()
        };
        let followers = match (entry.backend, entry.job.prompt_id()) {
            (Some(backend), Some(prompt)) => self.of_prompt(backend, prompt),
            _ => &[],
        };
        let mut others = followers.iter().filter_map(|other| self.by_id.get(other));
        if others.any(told) {
            return None;
        }
        self.by_id.get_mut(id)
    }

    /// The jobs of a backend that have not ended.
    pub(super) fn open(&self, backend: usize) -> impl Iterator<Item = &Entry> {
        self.by_id
            .values()
            .filter(move |entry| entry.backend == Some(backend) && !entry.job.status().is_final())
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

    /// How many jobs are in a status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.by_id
            .values()
            .filter(|entry| entry.job.status() == status)
            .count()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn remove(&mut self, id: &JobId) {
        let Some(entry) = self.by_id.remove(id) else {
            return;
        };
        self.order.remove(&entry.number);
        if let (Some(backend), Some(prompt)) = (entry.backend, entry.job.prompt_id()) {
            let key = (backend, prompt.to_owned());
            if let Some(followers) = self.by_prompt.get_mut(&key) {
                followers.retain(|follower| follower != id);
                if followers.is_empty() {
                    self.by_prompt.remove(&key);
                }
            }
        }
    }
}
