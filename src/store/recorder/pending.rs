//! [`Pending`]: the states that a recorder has not written yet.

use std::collections::{HashMap, HashSet};
use std::mem;

use tokio::time::Instant;

use crate::job::JobId;
use crate::store::rows::JobRecord;

/// The states that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The newest unwritten state of each job.
    pub(super) records: HashMap<JobId, UnwrittenState>,
    /// The states that the database refuses while it accepts others.
    pub(super) refused: HashMap<JobId, RefusedRecord>,
    /// The jobs whose rows are newer than their states: another relay has them.
    pub(super) moved: HashSet<JobId>,
    /// The jobs whose rows are to be deleted.
    pub(super) removed: HashSet<JobId>,
    /// Whether the next batch is written at once: it has a final state, or a caller waits for it.
    pub(super) urgent: bool,
    /// The jobs whose states are being written, and since which number each has had none on the disk.
    pub(super) in_flight: HashMap<JobId, u64>,
    /// The number of the last recorded state, of any job.
    pub(super) last_number: u64,
}

/// A state that is not written yet.
#[derive(Debug)]
pub(super) struct UnwrittenState {
    pub(super) record: JobRecord,
    /// The number of the first state that it stands for: it has replaced those that were recorded since then.
    pub(super) since: u64,
}

/// A state that the database refuses.
#[derive(Debug)]
pub(super) struct RefusedRecord {
    pub(super) state: UnwrittenState,
    /// The database's reason.
    pub(super) reason: String,
    /// When it is written again. Each has its own time: one that is refused for ever delays no other.
    pub(super) retry_at: Instant,
}

impl Pending {
    /// Records a state in place of an unwritten earlier one of the same job.
    pub(super) fn record(&mut self, mut record: JobRecord) {
        self.last_number += 1;
        let mut since = self.last_number;
        // Each state of each job comes here: no look-up where there is nothing to find.
        if !self.refused.is_empty()
            && let Some(refused) = self.refused.remove(&record.progress.job_id)
        {
            since = refused.state.since;
            record.deliver_first(refused.state.record.deliveries);
        }
        self.urgent |= record.is_final();
        self.put(UnwrittenState { record, since });
    }

    /// Drops the states of a job that are not written, and has its row deleted.
    pub(super) fn remove(&mut self, id: &JobId) {
        self.records.remove(id);
        self.refused.remove(id);
        self.moved.remove(id);
        // If its writing fails, it does not come back.
        self.in_flight.remove(id);
        self.removed.insert(id.clone());
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.removed.is_empty()
    }

    /// Takes all states, to write them from the end: the jobs that were registered first come last.
    ///
    /// Jobs that were registered one after another are neighbours in the table and in its indexes. A batch of them changes a few
    /// pages, one of jobs at random nearly as many in each index as it has jobs.
    pub(super) fn take(&mut self) -> Vec<JobRecord> {
        self.urgent = false;
        let since = |(id, state): (&JobId, &UnwrittenState)| (id.clone(), state.since);
        self.in_flight = self.records.iter().map(since).collect();
        let states = self.records.drain();
        let mut taken: Vec<JobRecord> = states.map(|(_, state)| state.record).collect();
        taken.sort_unstable_by(|a, b| {
            let (a_id, b_id) = (&a.progress.job_id, &b.progress.job_id);
            (b.created_at, b_id).cmp(&(a.created_at, a_id))
        });
        taken
    }

    /// Ends the writing of a state that is not on the disk. Returns it unless a newer one waits, which stands for it then.
    pub(super) fn give_back(&mut self, record: JobRecord) -> Option<UnwrittenState> {
        let id = &record.progress.job_id;
        // One that was removed meanwhile is not there.
        let since = self.in_flight.remove(id)?;
        match self.records.get_mut(id) {
            Some(newer) => {
                newer.since = since;
                newer.record.deliver_first(record.deliveries);
                None
            }
            None => Some(UnwrittenState { record, since }),
        }
    }

    /// Adds the refused states that are due by then to the next batch.
    pub(super) fn retry_refused(&mut self, due_by: Option<Instant>) {
        let is_due = |refused: &RefusedRecord| due_by.is_none_or(|by| refused.retry_at <= by);
        let due = self.refused.extract_if(|_, refused| is_due(refused));
        for (_, refused) in due.collect::<Vec<_>>() {
            self.put(refused.state);
        }
    }

    /// Adds a state to the next batch.
    fn put(&mut self, state: UnwrittenState) {
        match self.records.get_mut(&state.record.progress.job_id) {
            Some(unwritten) => {
                unwritten.since = unwritten.since.min(state.since);
                let before = mem::take(&mut unwritten.record.deliveries);
                // In its place: a record is large, and each state of each job comes here.
                unwritten.record = state.record;
                unwritten.record.deliver_first(before);
            }
            None => {
                let id = state.record.progress.job_id.clone();
                self.records.insert(id, state);
            }
        }
    }

    /// When the next refused state is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.refused.values().map(|refused| refused.retry_at).min()
    }

    /// Whether a job has a state up to a number that neither is on the disk nor has a newer one there, or is not known to.
    pub(super) fn has_unwritten(&self, id: &JobId, number: u64) -> bool {
        let waiting = self.records.get(id).map(|state| state.since);
        let in_flight = self.in_flight.get(id).copied();
        let refused = self.refused.get(id).map(|refused| refused.state.since);
        let mut since = [waiting, in_flight, refused].into_iter().flatten();
        since.any(|since| since <= number)
    }
}
