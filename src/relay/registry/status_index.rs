use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use super::ended_job::EndedJob;
use super::entry::Entry;
use crate::job::{JobId, Status};

/// The jobs by what changes about them: which have not ended, which run, when the others ended. What is asked of all jobs
/// is answered from here, so that it costs what there is to do, not what is remembered.
#[derive(Debug, Default)]
pub(super) struct StatusIndex {
    /// By the index of their backend; `None` for jobs of other producers, and of backends that are not configured.
    open: HashMap<Option<usize>, HashSet<JobId>>,
    processing: HashSet<JobId>,
    /// Those of the open ones whose end the socket has received.
    ending: HashSet<JobId>,
    /// Those of the open ones whose graph the server has not shown, by the index of their backend.
    unconfirmed: HashMap<Option<usize>, HashSet<JobId>>,
    /// Those of them of which no graph is known, either.
    without_graph: HashMap<Option<usize>, HashSet<JobId>>,
    /// In the order of their ends, by the numbers of the jobs.
    ended: BTreeSet<(Timestamp, u64)>,
    /// By the name of their group.
    groups: HashMap<String, HashSet<JobId>>,
    counts: HashMap<Status, usize>,
}

impl StatusIndex {
    pub(super) fn add(&mut self, entry: &Entry) {
        let (job, status) = (&entry.job, entry.job.status());
        let id = job.id();
        *self.counts.entry(status).or_default() += 1;
        if status.is_final() {
            self.ended.insert((ended_at(entry), entry.number));
        } else {
            let open = self.open.entry(entry.backend_index()).or_default();
            open.insert(id.clone());
            self.plan_changed(entry);
        }
        if status == Status::Processing {
            self.processing.insert(id.clone());
        }
        if entry.job.is_ending() && !status.is_final() {
            self.ending.insert(id.clone());
        }
        if let Some(group) = &job.tags().group {
            let jobs = self.groups.entry(group.clone()).or_default();
            jobs.insert(id.clone());
        }
    }

    /// The status of a job has changed, or not. Final ones stay.
    pub(super) fn change(&mut self, entry: &Entry, before: Status) {
        let (id, after) = (entry.job.id(), entry.job.status());
        if entry.job.is_ending() && !after.is_final() {
            self.ending.insert(id.clone());
        } else if !self.ending.is_empty() {
            self.ending.remove(id);
        }
        if before == after {
            return;
        }
        self.count_out(before);
        *self.counts.entry(after).or_default() += 1;
        if after == Status::Processing {
            self.processing.insert(id.clone());
        } else {
            self.processing.remove(id);
        }
        if after.is_final() {
            self.ended.insert((ended_at(entry), entry.number));
            self.close(entry);
        }
    }

    fn count_out(&mut self, status: Status) {
        if let Some(count) = self.counts.get_mut(&status) {
            *count -= 1;
        }
    }

    /// Whether the server has shown the graph of a job has changed, or not.
    pub(super) fn plan_changed(&mut self, entry: &Entry) {
        let plan = &entry.pending_plan;
        let is_unconfirmed = !plan.is_confirmed() && !entry.job.status().is_final();
        let indexes = [
            (&mut self.unconfirmed, is_unconfirmed),
            (&mut self.without_graph, is_unconfirmed && !plan.has_graph()),
        ];
        for (jobs, is_one) in indexes {
            let jobs = jobs.entry(entry.backend_index()).or_default();
            if is_one {
                jobs.insert(entry.job.id().clone());
            } else {
                jobs.remove(entry.job.id());
            }
        }
    }

    fn close(&mut self, entry: &Entry) {
        let backend = entry.backend_index();
        let indexes = [
            &mut self.open,
            &mut self.unconfirmed,
            &mut self.without_graph,
        ];
        for jobs in indexes {
            if let Some(jobs) = jobs.get_mut(&backend) {
                jobs.remove(entry.job.id());
            }
        }
    }

    /// A job is from now on an ended one without details: it is in no group.
    pub(super) fn pack(&mut self, entry: &Entry) -> Timestamp {
        self.leave_group(entry);
        ended_at(entry)
    }

    /// Removes an ended job without details.
    pub(super) fn remove_ended(&mut self, ended: &EndedJob) {
        self.count_out(ended.status);
        self.ended.remove(&(ended.ended_at, ended.number));
    }

    /// Removes a job.
    pub(super) fn remove(&mut self, entry: &Entry) {
        let (job, id) = (&entry.job, entry.job.id());
        self.count_out(job.status());
        self.ended.remove(&(ended_at(entry), entry.number));
        self.processing.remove(id);
        self.ending.remove(id);
        self.close(entry);
        self.leave_group(entry);
    }

    fn leave_group(&mut self, entry: &Entry) {
        let (job, id) = (&entry.job, entry.job.id());
        if let Some(group) = &job.tags().group
            && let Some(jobs) = self.groups.get_mut(group)
        {
            jobs.remove(id);
            if jobs.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// How many jobs are in a status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.counts.get(&status).copied().unwrap_or_default()
    }

    /// The jobs of a backend that have not ended; of none, those of other producers and unknown backends.
    pub(super) fn open(&self, backend: Option<usize>) -> impl Iterator<Item = &JobId> {
        self.open.get(&backend).into_iter().flatten()
    }

    /// How many jobs of a backend have not ended.
    pub(super) fn count_open(&self, backend: Option<usize>) -> usize {
        self.open.get(&backend).map_or(0, HashSet::len)
    }

    /// All jobs that have not ended.
    pub(super) fn all_open(&self) -> impl Iterator<Item = &JobId> {
        self.open.values().flatten()
    }

    /// The jobs that run.
    pub(super) fn processing(&self) -> impl Iterator<Item = &JobId> {
        self.processing.iter()
    }

    /// The open jobs whose end the socket has received.
    pub(super) fn ending(&self) -> impl Iterator<Item = &JobId> {
        self.ending.iter()
    }

    /// The open jobs of a backend whose graphs the server has not shown.
    pub(super) fn unconfirmed(&self, backend: usize) -> impl Iterator<Item = &JobId> {
        self.unconfirmed.get(&Some(backend)).into_iter().flatten()
    }

    /// Those of them of which no graph is known.
    pub(super) fn without_graph(&self, backend: usize) -> impl Iterator<Item = &JobId> {
        let jobs = self.without_graph.get(&Some(backend));
        jobs.into_iter().flatten()
    }

    /// The numbers of the jobs that ended at that moment or before.
    pub(super) fn ended_by(&self, moment: Timestamp) -> impl Iterator<Item = u64> {
        let ended = self.ended.range(..=(moment, u64::MAX));
        ended.map(|(_, number)| *number)
    }

    /// The jobs of a group.
    pub(super) fn of_group(&self, name: &str) -> impl Iterator<Item = &JobId> {
        self.groups.get(name).into_iter().flatten()
    }
}

/// When a job ended; the oldest moment for one of which that was not stored.
fn ended_at(entry: &Entry) -> Timestamp {
    entry.job.ended_at().unwrap_or(Timestamp::MIN)
}
