//! What services say of the work that they do for partner nodes.

use jiff::{SignedDuration, Timestamp};

use super::{Nodes, ServiceEnd};

/// No service works for longer, in seconds: a day.
const MAX_SECONDS: u64 = 86_400;

impl Nodes {
    /// Records what a service says of a run: the status of its work, and in how many seconds it expects to be ready. Returns
    /// whether that changed anything.
    pub(in crate::job) fn set_service(
        &mut self,
        run: &str,
        status: Option<String>,
        remaining: Option<u64>,
        now: Timestamp,
    ) -> bool {
        let Some(run) = self.runs.get_mut(run) else {
            return false;
        };
        if run.timing.ended_at.is_some() {
            return false;
        }
        let mut changed = false;
        if status.is_some() && run.status != status {
            run.status = status;
            changed = true;
        }
        let Some(remaining) = remaining.filter(|seconds| *seconds <= MAX_SECONDS) else {
            return changed;
        };
        let left = SignedDuration::from_secs(remaining.cast_signed());
        let Ok(expected_at) = now.checked_add(left) else {
            return changed;
        };
        let timing = &mut run.timing;
        let whole = timing.seconds(now) + remaining as f64;
        let first_whole = timing.service_end.map_or(whole, |end| end.first_whole);
        let end = ServiceEnd {
            first_whole,
            expected_at,
        };
        changed |= timing.service_end != Some(end);
        timing.service_end = Some(end);
        changed
    }
}
