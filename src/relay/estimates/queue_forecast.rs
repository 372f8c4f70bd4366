//! How long the prompts in a backend's queue will take.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::comfy::{Queue, QueuePosition};
use crate::estimate::Estimate;

/// How long the prompts in a backend's queue will take, as of the last answer of the queue.
#[derive(Debug, Default)]
pub(in crate::relay) struct QueueForecast {
    running: HashMap<String, RunningEstimate>,
    /// The queue, and those of its prompts that wait, by their places.
    queue: Option<Arc<Queue>>,
    waiting: Vec<WaitingEstimate>,
}

/// What a queue is predicted to take, by the plans of its prompts.
#[derive(Debug, Default)]
pub(in crate::relay) struct QueuePrediction {
    /// For each prompt that runs: from its start to its end.
    pub(in crate::relay) running: HashMap<String, Estimate>,
    /// For each prompt that waits, in their order. Prompts behind the first one of which nothing is known are left out.
    pub(in crate::relay) waiting: Vec<WaitingEstimate>,
    /// Why more is not known, if that can change.
    pub(in crate::relay) lack: Lack,
}

/// What a prediction lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::relay) enum Lack {
    /// Nothing that the next one would have.
    #[default]
    Nothing,
    /// There was more to read than one prediction does: the next one knows more.
    Time,
    /// The graph of a prompt was not read.
    Graph,
}

/// A prompt that waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::relay) struct WaitingEstimate {
    /// The seconds from the end of the running prompt to its start, as a median.
    pub(in crate::relay) start: f64,
    /// From the end of the running prompt to its own end.
    pub(in crate::relay) end: Estimate,
}

/// A prompt that runs.
#[derive(Debug, Clone, Copy)]
struct RunningEstimate {
    /// What it had left at that moment. A prompt of another client has its whole prediction left when it
    /// began, or is first seen running.
    estimate: Estimate,
    at: Timestamp,
}

impl RunningEstimate {
    fn left(&self, now: Timestamp) -> Estimate {
        let since = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.estimate.later(since)
    }
}

impl QueueForecast {
    /// Records a queue. `live` is what a running prompt has left by its own events, if they are received, and
    /// `began_at` when it began, if that is known.
    pub(in crate::relay) fn update(
        &mut self,
        queue: &Arc<Queue>,
        predicted: QueuePrediction,
        live: impl Fn(&str) -> Option<Estimate>,
        began_at: impl Fn(&str) -> Option<Timestamp>,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut self.running);
        let running = predicted.running.into_iter().map(|(prompt, whole)| {
            let seen = before.get(&prompt).copied();
            let running = match (live(&prompt), seen) {
                (Some(estimate), _) => RunningEstimate { estimate, at: now },
                (None, Some(seen)) if seen.estimate.remaining.is_some() => seen,
                (None, seen) => RunningEstimate {
                    estimate: whole,
                    at: seen.map_or_else(|| began_at(&prompt).unwrap_or(now), |seen| seen.at),
                },
            };
            (prompt, running)
        });
        self.running = running.collect();
        self.queue = Some(queue.clone());
        self.waiting = predicted.waiting;
    }

    /// Records what a running prompt has left by its own events.
    pub(in crate::relay) fn update_running(
        &mut self,
        prompt_id: &str,
        estimate: Estimate,
        now: Timestamp,
    ) {
        if let Some(running) = self.running.get_mut(prompt_id) {
            *running = RunningEstimate { estimate, at: now };
        }
    }

    /// Records that the queue is not known any more. Since when a prompt runs is kept, in case it still
    /// does.
    pub(in crate::relay) fn clear(&mut self) {
        self.queue = None;
        self.waiting = Vec::new();
    }

    /// When a prompt that waits will end; unknown if it is not in the queue.
    pub(in crate::relay) fn of(&self, prompt_id: &str, now: Timestamp) -> Estimate {
        if let Some(running) = self.running.get(prompt_id) {
            // Its start was not received yet.
            return running.left(now);
        }
        let Some(waiting) = self.waiting(prompt_id) else {
            return Estimate::default();
        };
        let running = || self.running.values().map(|running| running.left(now));
        let left: Option<f64> = running().map(|running| running.remaining).sum();
        Estimate {
            starts_in: left.map(|left| left + waiting.start),
            ..Estimate::queued(running(), waiting.end)
        }
    }

    /// When the last prompt of the queue ends; `None` if that is not known.
    pub(in crate::relay) fn end(&self, now: Timestamp) -> Option<Estimate> {
        let queue = self.queue.as_ref()?;
        if self.waiting.len() < queue.pending_count() {
            return None;
        }
        let none = Estimate::none_left();
        let waiting = self.waiting.last().map_or(none, |waiting| waiting.end);
        let running = self.running.values().map(|running| running.left(now));
        Some(Estimate::queued(running, waiting))
    }

    /// How many prompts run or wait before one; `None` if it does not wait in the queue.
    pub(in crate::relay) fn prompts_ahead(&self, prompt_id: &str) -> Option<usize> {
        match self.queue.as_ref()?.position(prompt_id)? {
            QueuePosition::Pending { ahead } => Some(ahead),
            QueuePosition::Running => None,
        }
    }

    /// Whether the queue has shown a prompt.
    pub(in crate::relay) fn has_seen(&self, prompt_id: &str) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.position(prompt_id).is_some())
    }

    fn waiting(&self, prompt_id: &str) -> Option<&WaitingEstimate> {
        let queue = self.queue.as_ref()?;
        match queue.position(prompt_id)? {
            QueuePosition::Running => None,
            QueuePosition::Pending { ahead } => self.waiting.get(ahead - queue.running().len()),
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

    fn takes(seconds: f64) -> Estimate {
        Estimate {
            remaining: Some(seconds),
            ..Estimate::default()
        }
    }

    fn predicted(running: Option<f64>) -> QueuePrediction {
        let whole = running.map_or_else(Estimate::default, takes);
        let waiting = WaitingEstimate {
            start: 2.0,
            end: takes(5.0),
        };
        QueuePrediction {
            running: HashMap::from([("r".to_owned(), whole)]),
            waiting: vec![waiting],
            lack: Lack::Nothing,
        }
    }

    /// "r" runs and "w" waits.
    fn queue() -> Arc<Queue> {
        let body =
            r#"{"queue_running": [[0, "r", {}, {}, []]], "queue_pending": [[1, "w", {}, {}, []]]}"#;
        Arc::new(Queue::parse(body.into()).unwrap())
    }

    fn waits(forecast: &QueueForecast, now: i64) -> Option<f64> {
        forecast.of("w", at(now)).remaining
    }

    #[test]
    fn a_prompt_of_another_client_has_left_what_it_had_when_first_seen() {
        let mut forecast = QueueForecast::default();
        forecast.update(&queue(), predicted(Some(10.0)), |_| None, |_| None, at(0));
        assert_eq!(waits(&forecast, 0), Some(15.0));
        assert_eq!(waits(&forecast, 4), Some(11.0));
        assert_eq!(forecast.of("w", at(4)).starts_in, Some(8.0));
        forecast.update(&queue(), predicted(Some(20.0)), |_| None, |_| None, at(6));
        assert_eq!(waits(&forecast, 6), Some(9.0));
        assert_eq!(waits(&forecast, 60), Some(5.0), "never below zero");
    }

    #[test]
    fn a_prompt_of_another_client_counts_from_when_it_began() {
        let mut forecast = QueueForecast::default();
        forecast.update(
            &queue(),
            predicted(Some(10.0)),
            |_| None,
            |_| Some(at(1)),
            at(4),
        );
        assert_eq!(waits(&forecast, 4), Some(12.0));
        forecast.update(&queue(), predicted(Some(10.0)), |_| None, |_| None, at(5));
        assert_eq!(waits(&forecast, 5), Some(11.0));
    }

    #[test]
    fn a_late_prediction_counts_from_when_the_prompt_was_first_seen() {
        let mut forecast = QueueForecast::default();
        forecast.update(&queue(), predicted(None), |_| None, |_| None, at(0));
        assert_eq!(waits(&forecast, 1), None);
        assert_eq!(forecast.of("w", at(1)).starts_in, None);
        forecast.update(&queue(), predicted(Some(10.0)), |_| None, |_| None, at(2));
        assert_eq!(waits(&forecast, 2), Some(13.0));
    }

    #[test]
    fn live_estimates_of_the_running_prompt_move_those_that_wait() {
        let mut forecast = QueueForecast::default();
        forecast.update(
            &queue(),
            predicted(Some(10.0)),
            |_| Some(takes(8.0)),
            |_| None,
            at(0),
        );
        assert_eq!(waits(&forecast, 1), Some(12.0));
        forecast.update_running("r", takes(30.0), at(1));
        assert_eq!(waits(&forecast, 1), Some(35.0));
        forecast.update_running("x", takes(99.0), at(1));
        assert_eq!(waits(&forecast, 2), Some(34.0));
        assert_eq!(forecast.of("x", at(2)).remaining, None);
        forecast.clear();
        assert_eq!(waits(&forecast, 2), None);
    }
}
