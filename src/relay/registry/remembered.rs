//! The jobs in memory, those that are there without their details included.

use std::time::Duration;

use jiff::Timestamp;

use super::ended_job::{EndedJob, Remembered};
use super::packed_state::PackedState;
use super::{Entry, Registry};
use crate::job::JobId;

impl Registry {
    /// Takes the details of a job that has ended away: of what it was, its final state stays. It is on the disk.
    ///
    /// What stays is made anew: small things that were made with the job lie between its details, and each would keep a page of
    /// the memory that these leave.
    #[must_use = "the details are dropped when nothing is locked"]
    pub(in crate::relay) fn pack(&mut self, id: &JobId, state: PackedState) -> Option<Entry> {
        let entry = self.by_id.remove(id)?;
        let ended_at = self.by_status.pack(&entry);
        let id = id.copy();
        let prompt = self.by_prompt.renew(&entry, &id);
        self.order.insert(entry.number, id.clone());
        let ended = EndedJob::of(&entry, id.clone(), ended_at, prompt, state);
        self.ended.insert(id, Box::new(ended));
        Some(entry)
    }

    /// A job that has ended, and whose details are not in memory.
    pub(in crate::relay) fn ended(&self, id: &JobId) -> Option<&EndedJob> {
        self.ended.get(id).map(Box::as_ref)
    }

    /// A job, with its details or without them.
    pub(in crate::relay) fn remembered(&self, id: &JobId) -> Option<Remembered<'_>> {
        let whole = self.by_id.get(id).map(Remembered::Whole);
        whole.or_else(|| self.ended(id).map(Remembered::Ended))
    }

    /// Forgets a job that has ended, and whose details are not in memory.
    pub(in crate::relay) fn remove_ended(&mut self, id: &JobId) {
        if let Some(ended) = self.ended.remove(id) {
            self.order.remove(&ended.number);
            self.stored.add(ended.status);
            self.leave_indexes(&ended);
        }
    }

    pub(super) fn leave_indexes(&mut self, ended: &EndedJob) {
        self.by_status.remove_ended(ended);
        if let Some((backend, prompt)) = &ended.prompt {
            self.by_prompt.remove_from(*backend, prompt, &ended.id);
        }
    }

    /// Takes at most `max` jobs that ended, or were asked for after their end, so long ago: memory may have more of them than
    /// it needs. Not the `kept` jobs that ended last.
    pub(in crate::relay) fn take_settling(
        &mut self,
        kept: usize,
        age: Duration,
        max: usize,
    ) -> Vec<JobId> {
        self.settling.take(kept, age, max)
    }

    /// Has a job that has ended looked at again.
    pub(in crate::relay) fn settle_later(&mut self, id: &JobId) {
        self.settling.revisit(id);
    }

    /// The jobs that ended at that moment or before, the oldest end first.
    pub(in crate::relay) fn ended_by(
        &self,
        moment: Timestamp,
    ) -> impl Iterator<Item = Remembered<'_>> {
        let numbers = self.by_status.ended_by(moment);
        let ids = numbers.filter_map(|number| self.order.get(&number));
        ids.filter_map(|id| self.remembered(id))
    }

    /// All jobs, the newest first.
    pub(in crate::relay) fn newest_first(&self) -> impl Iterator<Item = Remembered<'_>> {
        let ids = self.order.values().rev();
        ids.filter_map(|id| self.remembered(id))
    }

    /// The jobs with numbers above this one, in the order of registration.
    pub(in crate::relay) fn registered_after(
        &self,
        number: u64,
    ) -> impl Iterator<Item = Remembered<'_>> {
        let after = self.order.range(number + 1..).map(|(_, id)| id);
        after.filter_map(|id| self.remembered(id))
    }
}
