//! Jobs of prompts that nobody had registered.

use std::sync::Arc;

use jiff::Timestamp;

use super::Registry;
use super::entry::Entry;
use crate::job::{JobId, Tags};
use crate::relay::backend::Backend;

impl Registry {
    /// Whether a job is one that a prompt has become by itself, and of which this relay is the owner.
    pub(in crate::relay) fn is_discovered(&self, id: &JobId) -> bool {
        let entry = self.by_id.get(id);
        entry.is_some_and(|entry| entry.is_owned() && entry.job.tags().are_discovered())
    }

    /// The backend of an open job that a prompt has become by itself, and of which another relay is the owner.
    pub(in crate::relay) fn discovered_elsewhere(&self, id: &JobId) -> Option<String> {
        let entry = self.by_id.get(id)?;
        let job = &entry.job;
        let is_elsewhere = !entry.is_owned() && !job.status().is_final();
        let backend = job.backend()?;
        (is_elsewhere && job.tags().are_discovered()).then(|| backend.to_owned())
    }

    /// The job, not ended yet, that a prompt has become by itself.
    pub(in crate::relay) fn discovered_of(
        &self,
        backend: &Backend,
        prompt_id: &str,
    ) -> Option<JobId> {
        let mut jobs = self.of_prompt(backend, prompt_id).iter();
        let is_open = |id: &&JobId| {
            let entry = self.by_id.get(*id);
            entry.is_some_and(|entry| !entry.job.status().is_final())
        };
        jobs.find(|id| self.is_discovered(id) && is_open(id))
            .cloned()
    }

    /// Adds another job of the prompt of one that has not ended, as far as that has come.
    pub(in crate::relay) fn insert_follower(
        &mut self,
        of: &JobId,
        id: &JobId,
        now: Timestamp,
        tags: &Arc<Tags>,
    ) {
        let Some(before) = self.by_id.get(of) else {
            return;
        };
        let job = before.job.follower(id.clone(), now, tags.clone());
        let (backend, comparison) = (before.backend.clone(), before.comparison.clone());
        let plan = before.pending_plan.clone();
        let entry = self.insert(job, backend, comparison.disconnects_when_seen);
        (entry.comparison, entry.pending_plan) = (comparison, plan);
        if let Some(entry) = self.by_id.get(id) {
            self.by_status.plan_changed(entry);
        }
    }

    /// A client says something else of a job. One that has not ended counts as new: streams look at new jobs alone, and it may be
    /// in their selection from now on.
    pub(in crate::relay) fn set_tags(&mut self, id: &JobId, tags: Arc<Tags>) -> Option<&mut Entry> {
        let entry = self.by_id.get_mut(id)?;
        self.by_status.remove(entry);
        entry.job.set_tags(tags);
        if !entry.job.status().is_final() {
            self.order.remove(&entry.number);
            self.newest.send_modify(|newest| *newest += 1);
            entry.number = *self.newest.borrow();
            self.order.insert(entry.number, id.clone());
        }
        self.by_status.add(entry);
        Some(entry)
    }
}
