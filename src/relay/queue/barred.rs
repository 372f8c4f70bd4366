//! Bars a job from a backend that refuses it and came after it: nobody could ask that backend before.

use crate::job::JobId;
use crate::relay::backend::Backend;
use crate::relay::tracker::Tracker;

impl Tracker {
    /// A backend has refused a job. If it was added while relays ran, and another one may run the job, the job waits for that.
    /// Returns whether it does.
    pub(super) fn bar(&self, id: &JobId, backend: &Backend) -> bool {
        if !backend.is_added {
            return false;
        }
        let mut state = self.queue.state();
        let job = state.jobs.get(id).filter(|job| job.fresh.is_none());
        let Some(kind) = job.map(|job| job.kind) else {
            return false;
        };
        let (plan, mut allowed) = state.kinds.parts(kind);
        allowed.unsuitable.push(backend.name().to_owned());
        if !self.backends.iter().any(|other| allowed.contains(other)) {
            return false;
        }
        let barred = state.kinds.add(plan, allowed);
        state.kinds.remove(kind);
        if let Some(job) = state.jobs.get_mut(id) {
            job.kind = barred;
        }
        tracing::info!(job_id = %id, backend = backend.name(), "a server that was added cannot run a job; it waits for others");
        true
    }
}
