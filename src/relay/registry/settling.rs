use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::job::JobId;

/// The ended jobs of which memory has more than it needs, or soon will.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// In the order of their ends.
    ended: VecDeque<(Instant, JobId)>,
    /// Those that are looked at again, or that a client has asked for since, in the order in which they came here.
    revisited: VecDeque<(Instant, JobId)>,
}

impl Settling {
    /// A job has ended just now.
    pub(super) fn add_ended(&mut self, id: &JobId) {
        self.ended.push_back((Instant::now(), id.clone()));
    }

    pub(super) fn revisit(&mut self, id: &JobId) {
        self.revisited.push_back((Instant::now(), id.clone()));
    }

    /// Takes at most `max` jobs that are here for so long, but not the newest `kept` of those that ended here.
    pub(super) fn take(&mut self, kept: usize, age: Duration, max: usize) -> Vec<JobId> {
        let excess = self.ended.len().saturating_sub(kept);
        let mut due = take_due(&mut self.ended, excess.min(max), age);
        let rest = max - due.len();
        due.extend(take_due(&mut self.revisited, rest, age));
        due
    }
}

fn take_due(jobs: &mut VecDeque<(Instant, JobId)>, max: usize, age: Duration) -> Vec<JobId> {
    let is_due = |(since, _): &&(Instant, JobId)| since.elapsed() >= age;
    let due = jobs.iter().take(max).take_while(is_due).count();
    jobs.drain(..due).map(|(_, id)| id).collect()
}
