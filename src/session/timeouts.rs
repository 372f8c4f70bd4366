use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::keys::SubscriberKey;

/// When something is due for which subscriber, if every subscriber waits equally long: a queue instead
/// of a timer for each.
#[derive(Debug)]
pub(super) struct Timeouts {
    after: Duration,
    queue: VecDeque<(Instant, SubscriberKey)>,
}

impl Timeouts {
    /// A subscriber is due `after` it was added.
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, key: SubscriberKey, now: Instant) {
        self.queue.push_back((now + self.after, key));
    }

    /// Removes the next subscriber that is due. It may have left since it was added.
    pub(super) fn pop(&mut self, now: Instant) -> Option<SubscriberKey> {
        let (due, key) = *self.queue.front()?;
        if due > now {
            return None;
        }
        self.queue.pop_front();
        Some(key)
    }

    /// When the next subscriber is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }
}
