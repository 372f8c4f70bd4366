//! A client that follows a job at one relay, and what it was sent.

use serde::Deserialize;

use super::cluster::World;
use super::model::Name;
use crate::hub::{Publication, SharedSubscription};
use crate::job::Status;

pub(super) struct SimulatedSubscriber {
    pub(super) job: usize,
    _subscription: SharedSubscription,
    pub(super) last_seq: u64,
    progress: u8,
    pub(super) end: Option<Status>,
}

#[derive(Deserialize)]
struct SeenState {
    seq: u64,
    progress: u8,
    status: Status,
}

impl SimulatedSubscriber {
    pub(super) fn new(job: usize, subscription: SharedSubscription) -> Self {
        Self {
            job,
            _subscription: subscription,
            last_seq: 0,
            progress: 0,
            end: None,
        }
    }

    /// A state is there for it. It is sent none that is older than what it has, as in `session/subscriber.rs`.
    pub(super) fn see(&mut self, world: &World, relay: Name, state: &Publication) {
        let problem = |text: String| {
            let job = self.job;
            world.report(format!("subscriber of job {job} at {relay:?}: {text}"));
        };
        if self.end.is_some() {
            // The newest state may be in the mailbox as well.
            if state.is_final() && state.seq != self.last_seq {
                problem(format!(
                    "a second end, {} after {}",
                    state.seq, self.last_seq
                ));
            }
            return;
        }
        if state.seq <= self.last_seq {
            return;
        }
        let shown: SeenState = serde_json::from_slice(&state.payload).unwrap();
        if (shown.seq, shown.status) != (state.seq, state.status) {
            problem(format!("{:?} in a state of {:?}", shown.seq, state.seq));
        }
        if shown.progress < self.progress {
            problem(format!("{} % after {} %", shown.progress, self.progress));
        }
        if state.is_final() && world.true_end(self.job) != Some(state.status) {
            problem(format!("{:?} is not how it ended", state.status));
        }
        self.last_seq = state.seq;
        self.progress = shown.progress;
        self.end = Some(state.status).filter(|_| state.is_final());
    }
}
