//! Bars a job from a backend that turns out not to run it, while others may.

use crate::job::JobId;
use crate::relay::backend::Backend;
use crate::relay::tracker::Tracker;

impl Tracker {
    /// A backend has refused a job. If it was added while relays ran, and another one may run the job, the job waits for that.
    /// Returns whether it does.
    pub(super) fn bar(&self, id: &JobId, backend: &Backend) -> bool {
        backend.is_added && !self.queue.is_fresh(id) && self.leave_to_others(id, backend)
    }

    /// Has a job wait for other backends than this one. Returns whether there are any that may run it.
    pub(super) fn leave_to_others(&self, id: &JobId, backend: &Backend) -> bool {
        let mut state = self.queue.state();
        let Some(kind) = state.jobs.get(id).map(|job| job.kind) else {
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
        tracing::info!(job_id = %id, backend = backend.name(), "a server cannot run a job; it waits for others");
        true
    }
}
