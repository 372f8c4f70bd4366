//! A backend's queue as it was last seen.

use jiff::Timestamp;

use crate::comfy::{Queue, QueueEntry};

/// A backend's queue as it was last seen, the prompts of all clients counted.
#[derive(Debug, Default)]
pub(in crate::relay) struct QueueView {
    /// How many prompts run or wait.
    pub(in crate::relay) remaining: Option<u64>,
    /// How many prompts are on their way to it: ComfyUI has not answered yet.
    in_flight: u64,
    /// How many of these `remaining` holds already. Which ones is not known: by as many as it has grown since they were sent.
    counted: u64,
    pub(in crate::relay) running: usize,
    pub(in crate::relay) pending: usize,
    /// The prompt that runs: messages without a prompt id are about it.
    pub(in crate::relay) current: Option<String>,
    /// Set while the queue is known to hold at most one prompt that found it empty.
    idle: Option<Idle>,
}

/// A time in which the queue was empty.
#[derive(Debug, Clone, Copy)]
struct Idle {
    since: Timestamp,
    /// When a message was received that a prompt has come.
    until: Option<Timestamp>,
}

impl QueueView {
    /// Records the length of the queue, as a message has just shown it. A ComfyUI server runs one prompt at a
    /// time.
    pub(in crate::relay) fn set_length(&mut self, remaining: Option<u64>, now: Timestamp) {
        self.set_remaining(remaining);
        if let Some(remaining) = remaining.and_then(|count| usize::try_from(count).ok()) {
            self.running = remaining.min(1);
            self.pending = remaining - self.running;
        }
        self.record_idle(now);
        if let Some(idle) = self.idle.as_mut().filter(|_| remaining == Some(1)) {
            idle.until.get_or_insert(now);
        }
    }

    /// Records the queue itself.
    pub(in crate::relay) fn set(&mut self, queue: &Queue, now: Timestamp) {
        self.running = queue.running().len();
        self.pending = queue.pending_count();
        self.set_remaining(Some((self.running + self.pending) as u64));
        if let [running] = queue.running() {
            self.current = Some(running.prompt_id.to_string());
        }
        self.record_idle(now);
    }

    fn set_remaining(&mut self, remaining: Option<u64>) {
        let more = remaining.zip(self.remaining);
        let more = more.map_or(0, |(now, before)| now.saturating_sub(before));
        self.counted = (self.counted + more).min(self.in_flight);
        self.remaining = remaining;
    }

    /// Whether it is unknown what runs and waits, and how many prompts are known to run, to wait, or to be on their way.
    pub(in crate::relay) fn load(&self) -> (bool, u64) {
        let remaining = self.remaining.unwrap_or_default();
        let load = remaining + self.in_flight - self.counted;
        (self.remaining.is_none(), load)
    }

    /// How many prompts are on their way to it.
    pub(in crate::relay) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Records that a prompt is sent to it.
    pub(in crate::relay) fn add_in_flight(&mut self) {
        self.in_flight += 1;
    }

    /// Records that a prompt on its way was accepted: it runs or waits.
    pub(in crate::relay) fn add_arrived(&mut self) {
        if self.counted > 0 {
            self.counted -= 1;
        } else {
            self.remaining = self.remaining.map(|remaining| remaining + 1);
        }
        self.in_flight -= 1;
    }

    /// Records that a prompt on its way will not arrive.
    pub(in crate::relay) fn remove_in_flight(&mut self) {
        self.in_flight -= 1;
        self.counted = self.counted.min(self.in_flight);
    }

    /// Records that the socket was lost: what comes into the queue is not received any more.
    pub(in crate::relay) fn lose_sight(&mut self) {
        self.current = None;
        self.idle = None;
    }

    /// When a prompt began that runs now, if it found the queue empty: when it was submitted.
    ///
    /// Its own time of submission is by the clock of another machine: it counts only if no message was
    /// received of it, never as being in the future, and never as being at a time when the queue was not empty.
    pub(in crate::relay) fn began_at(
        &self,
        running: &QueueEntry,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let idle = self.idle?;
        idle.until.or_else(|| {
            let submitted_at = running.submitted_at?.min(now);
            Some(submitted_at.max(idle.since))
        })
    }

    fn record_idle(&mut self, now: Timestamp) {
        match self.remaining {
            Some(0) if self.idle.is_none_or(|idle| idle.until.is_some()) => {
                self.idle = Some(Idle {
                    since: now,
                    until: None,
                });
            }
            Some(0 | 1) => {}
            _ => self.idle = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// A queue whose running prompt was submitted at this second.
    fn queue(submitted_at: i64) -> Queue {
        let created = submitted_at * 1_000;
        let item = serde_json::json!([0, "p", {}, {"client_id": "c", "create_time": created}, []]);
        let body = serde_json::json!({"queue_running": [item], "queue_pending": []});
        Queue::parse(body.to_string().into()).unwrap()
    }

    fn began(view: &QueueView, submitted_at: i64, now: i64) -> Option<Timestamp> {
        view.began_at(&queue(submitted_at).running()[0], at(now))
    }

    #[test]
    fn a_prompt_that_finds_the_queue_empty_begins_when_it_is_submitted() {
        let mut view = QueueView::default();
        assert_eq!(began(&view, 5, 9), None, "the queue was not seen before");
        view.set_length(Some(0), at(3));
        view.set(&queue(5), at(9));
        assert_eq!(began(&view, 5, 9), Some(at(5)));
        assert_eq!(began(&view, 1, 9), Some(at(3)), "another clock");
        assert_eq!(began(&view, 50, 9), Some(at(9)), "another clock");
        view.set_length(Some(1), at(9));
        view.set_length(Some(1), at(10));
        assert_eq!(began(&view, 5, 12), Some(at(9)), "by our own clock");
    }

    #[test]
    fn a_prompt_counts_once_whichever_comes_first_its_answer_or_the_queue() {
        let mut view = QueueView::default();
        view.set_length(Some(0), at(0));
        view.add_in_flight();
        view.add_in_flight();
        assert_eq!(view.load(), (false, 2));
        // The queue shows the first one before its answer comes,
        view.set_length(Some(1), at(0));
        assert_eq!(view.load(), (false, 2));
        view.add_arrived();
        assert_eq!(view.load(), (false, 2));
        // and the second one after it.
        view.add_arrived();
        view.set_length(Some(2), at(0));
        assert_eq!(view.load(), (false, 2));
        view.add_in_flight();
        view.remove_in_flight();
        assert_eq!(view.load(), (false, 2));
    }

    #[test]
    fn when_a_prompt_began_that_has_waited_is_not_known() {
        let mut view = QueueView::default();
        view.set_length(Some(0), at(3));
        view.set_length(Some(1), at(4));
        view.set_length(Some(2), at(5));
        view.set_length(Some(1), at(6));
        assert_eq!(began(&view, 5, 9), None);
        view.set_length(Some(0), at(10));
        view.lose_sight();
        assert_eq!(began(&view, 11, 12), None);
    }
}
