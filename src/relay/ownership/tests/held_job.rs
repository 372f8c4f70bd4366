//! A job in the memory of a relay.

use std::time::Duration;

use crate::job::Job;
use crate::relay::ownership::{HeldState, Ownership};

pub(super) struct HeldJob {
    pub(super) job: Job,
    pub(super) epoch: u64,
    pub(super) ownership: Ownership,
    pub(super) is_ahead_of_row: bool,
    pub(super) published_at: Duration,
    /// Events and answers of its backend count.
    pub(super) has_backend: bool,
    pub(super) fraction: f64,
    pub(super) is_changed: bool,
    pub(super) recorded: Option<u8>,
    pub(super) end_found_at: Option<Duration>,
    pub(super) missing_since: Option<Duration>,
}

impl HeldJob {
    pub(super) fn new(job: Job, epoch: u64, ownership: Ownership, has_backend: bool) -> Self {
        Self {
            job,
            epoch,
            ownership,
            is_ahead_of_row: false,
            published_at: Duration::ZERO,
            has_backend,
            fraction: 0.0,
            is_changed: false,
            recorded: None,
            end_found_at: None,
            missing_since: None,
        }
    }

    pub(super) fn held(&self) -> HeldState {
        HeldState::of(&self.job, self.epoch, self.ownership)
    }

    pub(super) fn is_owned(&self) -> bool {
        self.ownership == Ownership::Owner
    }

    /// The server that has its prompt.
    pub(super) fn backend(&self) -> usize {
        self.job.backend().unwrap().parse().unwrap()
    }
}
