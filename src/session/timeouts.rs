use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slotmap::DefaultKey as Key;

/// Who has to be looked at when, where everybody waits equally long: a queue in place of a timer for
/// each.
#[derive(Debug)]
pub(super) struct Timeouts {
    after: Duration,
    queue: VecDeque<(Instant, Key)>,
}

impl Timeouts {
    /// Everybody is looked at `after` it was added.
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, key: Key, now: Instant) {
        self.queue.push_back((now + self.after, key));
    }

    /// Takes out the next who is due, gone or not.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
        let (due, key) = *self.queue.front()?;
        if due > now {
            return None;
        }
        self.queue.pop_front();
        Some(key)
    }

    /// When somebody is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }
}
