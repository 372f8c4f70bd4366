//! The jobs that the relay remembers, and its records of each.

mod changes;
mod discovered;
mod ended_job;
mod entry;
mod packed_state;
mod prompt_index;
mod remembered;
mod settling;
mod status_index;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use tokio::sync::watch;

use super::backend::Backend;
use super::ownership::Ownership;
use super::stored_counts::StoredCounts;
use crate::job::{Event, Job, JobId, PromptGraph, Status};
use changes::ChangeLog;
use ended_job::EndedJob;
use prompt_index::PromptIndex;
use settling::Settling;
use status_index::StatusIndex;

pub(super) use changes::{Changes, DueJobs};
pub(super) use ended_job::Remembered;
pub(super) use entry::{Entry, Publishing, RecordedState};
pub(super) use packed_state::StatePacker;

/// Every job that the relay remembers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// Those with all their details.
    by_id: HashMap<JobId, Entry>,
    /// The others: they have ended.
    ended: HashMap<JobId, Box<EndedJob>>,
    settling: Settling,
    by_prompt: PromptIndex,
    /// In the order of registration.
    order: BTreeMap<u64, JobId>,
    /// The number of the newest job.
    newest: watch::Sender<u64>,
    /// The jobs of which this relay is not the owner, and whose rows do not show the end.
    unowned: HashSet<JobId>,
    /// Ids of jobs that are being submitted.
    reserved: HashSet<JobId>,
    by_status: StatusIndex,
    changes: ChangeLog,
    /// The ended jobs that are not here.
    pub(super) stored: StoredCounts,
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
        let (before, ended) = (self.by_id.remove(&id), self.ended.remove(&id));
        let number = match (&before, &ended) {
            (Some(entry), _) => {
                self.by_prompt.remove(entry);
                self.by_status.remove(entry);
                entry.number
            }
            (None, Some(ended)) => {
                self.leave_indexes(ended);
                ended.number
            }
            (None, None) => {
                self.newest.send_modify(|newest| *newest += 1);
                *self.newest.borrow()
            }
        };
        self.order.insert(number, id.clone());
        let mut entry = Entry::new(job, backend, disconnects_when_seen, number);
        entry.was_learned_before = ended.as_ref().is_some_and(|ended| ended.was_learned);
        self.by_prompt.add(&entry);
        self.changes.add_plan(entry.backend_index(), entry.job.id());
        let status = entry.job.status();
        if status.is_final() {
            self.settling.revisit(&id);
            let had_ended = before.is_some_and(|before| before.job.status().is_final());
            if !had_ended && ended.is_none() {
                self.stored.remove(status);
            }
        }
        self.by_status.add(&entry);
        self.by_id.entry(id).insert_entry(entry).into_mut()
    }

    /// Applies an event to a job, and returns whether subscribers would see a difference. The only way in which the status
    /// of a job that is here changes.
    pub(super) fn apply(&mut self, id: &JobId, event: Event, now: Timestamp) -> bool {
        let Some(entry) = self.by_id.get_mut(id) else {
            return false;
        };
        let where_it_is = |job: &Job| (job.status(), job.is_ending(), job.is_reachable());
        let before = where_it_is(&entry.job);
        let is_plan = matches!(event, Event::Planned(_));
        let is_changed = entry.job.apply(event, now);
        self.by_status.change(entry, before.0);
        if entry.job.status().is_final() && !before.0.is_final() {
            self.settling.add_ended(id);
        }
        if is_plan {
            self.changes.add_plan(entry.backend_index(), entry.job.id());
        } else if before != where_it_is(&entry.job) {
            self.changes.add_job(entry.backend_index(), entry.job.id());
        }
        is_changed
    }

    /// How often the jobs of a backend have changed.
    pub(super) fn changes(&self, backend: &Backend) -> Changes {
        self.changes.of(backend.index)
    }

    /// The jobs of a backend that have changed since they were last taken.
    pub(super) fn take_due(&mut self, backend: &Backend) -> DueJobs {
        self.changes.take_due(backend.index)
    }

    /// Records the graph that was submitted for a job.
    pub(super) fn submit_plan(&mut self, id: &JobId, graph: PromptGraph) {
        if let Some(entry) = self.by_id.get_mut(id) {
            entry.pending_plan.submit(graph);
            self.by_status.plan_changed(entry);
        }
    }

    /// Records the graph of a job as its server's queue or history shows it.
    pub(super) fn confirm_plan(&mut self, id: &JobId, graph: PromptGraph) {
        if let Some(entry) = self.by_id.get_mut(id) {
            entry.pending_plan.confirm(graph);
            self.by_status.plan_changed(entry);
        }
    }

    /// Has the plan of a job read again when its server shows the graph again.
    pub(super) fn reopen_plan(&mut self, id: &JobId) {
        if let Some(entry) = self.by_id.get_mut(id) {
            entry.pending_plan.reopen();
            self.by_status.plan_changed(entry);
            self.changes.add_plan(entry.backend_index(), entry.job.id());
        }
    }

    /// The open jobs of a backend whose graphs the server has not shown.
    pub(super) fn unconfirmed(&self, backend: &Backend) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.unconfirmed(backend.index))
    }

    /// Those of them of which no graph is known.
    pub(super) fn without_graph(&self, backend: &Backend) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.without_graph(backend.index))
    }

    /// The ids of the jobs of a backend that have not ended.
    pub(super) fn open_ids(&self, backend: &Backend) -> impl Iterator<Item = &JobId> {
        self.by_status.open(Some(backend.index))
    }

    /// How many jobs of a backend have not ended.
    pub(super) fn count_open(&self, backend: &Backend) -> usize {
        self.by_status.count_open(Some(backend.index))
    }

    /// A backend has the prompt of a job that waited in the relay's own queue. `false` if it does not wait there any more.
    pub(super) fn hand_over(
        &mut self,
        id: &JobId,
        backend: &Arc<Backend>,
        prompt_id: &str,
        disconnects: u64,
    ) -> bool {
        let Some(entry) = self.by_id.get_mut(id) else {
            return false;
        };
        if entry.job.wait().is_none() {
            return false;
        }
        self.by_prompt.remove(entry);
        self.by_status.remove(entry);
        entry.hand_over(backend.clone(), prompt_id, disconnects);
        self.by_prompt.add(entry);
        self.by_status.add(entry);
        self.changes.add_plan(entry.backend_index(), entry.job.id());
        true
    }

    /// The prompt of a job is gone from its backend: it waits in the relay's own queue, to be handed in as `prompt_id`. `None`
    /// if it has ended.
    pub(super) fn take_back(&mut self, id: &JobId, prompt_id: &str) -> Option<&mut Entry> {
        let entry = self.by_id.get_mut(id)?;
        if entry.job.status().is_final() {
            return None;
        }
        self.by_prompt.remove(entry);
        self.by_status.remove(entry);
        self.changes.add_job(entry.backend_index(), entry.job.id());
        entry.take_back(prompt_id);
        self.by_prompt.add(entry);
        self.by_status.add(entry);
        Some(entry)
    }

    /// Makes this relay no longer the owner of a backend's open jobs.
    pub(super) fn give_up(&mut self, backend: &Backend) {
        self.changes.add_all(backend.index);
        for id in self.by_status.open(Some(backend.index)) {
            if let Some(entry) = self.by_id.get_mut(id)
                && entry.is_owned()
            {
                entry.ownership = Ownership::FormerOwner;
                self.unowned.insert(id.clone());
            }
        }
    }

    /// Changes what this relay is to a job.
    pub(super) fn set_ownership(&mut self, id: &JobId, ownership: Ownership) {
        let Some(entry) = self.by_id.get_mut(id) else {
            return;
        };
        entry.ownership = ownership;
        self.changes.add_job(entry.backend_index(), entry.job.id());
        if ownership == Ownership::Owner || entry.has_ended_in_row() {
            self.unowned.remove(id);
        } else {
            self.unowned.insert(id.clone());
        }
    }

    /// The jobs of which this relay is not the owner, and whose rows do not show the end.
    pub(super) fn unowned(&self) -> impl Iterator<Item = &Entry> {
        self.unowned.iter().filter_map(|id| self.by_id.get(id))
    }

    /// Reserves a job id; `false` if it is taken.
    pub(super) fn reserve(&mut self, id: &JobId) -> bool {
        self.remembered(id).is_none() && self.reserved.insert(id.clone())
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
        self.by_prompt.remove(entry);
        entry.job.rename_prompt(prompt_id);
        self.by_prompt.add(entry);
        self.changes.add_plan(entry.backend_index(), entry.job.id());
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &JobId) -> Option<&mut Entry> {
        self.by_id.get_mut(id)
    }

    /// The jobs that follow a prompt of a backend.
    pub(super) fn of_prompt(&self, backend: &Backend, prompt_id: &str) -> &[JobId] {
        self.by_prompt.of(backend.index, prompt_id)
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
        let began = entry.job.started_at();
        let was_learned = |other: &JobId| match self.remembered(other) {
            Some(Remembered::Whole(other)) => {
                other.was_learned() && other.job.work_done_at() > began
            }
            Some(Remembered::Ended(other)) => other.was_learned_after(began),
            None => false,
        };
        if let (Some(backend), Some(prompt)) = (&entry.backend, entry.job.prompt_id())
            && self.of_prompt(backend, prompt).iter().any(was_learned)
        {
            return None;
        }
        self.by_id.get_mut(id)
    }

    /// The jobs of a backend that have not ended.
    pub(super) fn open(&self, backend: &Backend) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.open(Some(backend.index)))
    }

    /// The jobs of a backend that have not ended, but whose end the socket has received.
    pub(super) fn ending(&self, backend: &Backend) -> impl Iterator<Item = &Entry> {
        let index = Some(backend.index);
        let ending = self.entries(self.by_status.ending());
        ending.filter(move |entry| entry.backend_index() == index)
    }

    /// The jobs of other producers, and of backends that are not configured, that have not ended.
    pub(super) fn open_without_backend(&self) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.open(None))
    }

    /// All jobs that have not ended.
    pub(super) fn all_open(&self) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.all_open())
    }

    /// All jobs that run.
    pub(super) fn processing(&self) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.processing())
    }

    /// The jobs of a group.
    pub(super) fn of_group(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.entries(self.by_status.of_group(name))
    }

    fn entries<'a>(
        &'a self,
        ids: impl Iterator<Item = &'a JobId>,
    ) -> impl Iterator<Item = &'a Entry> {
        ids.filter_map(|id| self.by_id.get(id))
    }

    /// The number of the newest job, which grows by one with each.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Whether anybody waits for new jobs.
    pub(super) fn has_feeds(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    /// How many jobs are in a status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.by_status.count(status)
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
        self.by_status.remove(&entry);
        self.by_prompt.remove(&entry);
        self.changes.add_job(entry.backend_index(), entry.job.id());
    }
}

#[cfg(test)]
mod tests;
