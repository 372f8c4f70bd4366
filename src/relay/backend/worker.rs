//! Whether a server's worker, the thread that runs its prompts, still lives. Pure.
//!
//! An exception outside a node kills the worker, while the server goes on answering: the prompt that ran stays in the queue
//! for ever, and those behind it never start.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A prompt may be silent for so many times the upper end of its whole time: a long node is not a dead one.
const PATIENCE: u32 = 3;

/// The record of one server's worker.
#[derive(Debug)]
pub(in crate::relay) struct Worker {
    /// When it last showed that it lives.
    sign_at: Instant,
    work: WorkSeen,
    life: Life,
    /// Since when nothing was received, if it is not known to live.
    silent_since: Option<Timestamp>,
}

/// What the worker shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Life {
    /// It moves, or has nothing to do, or may take this long.
    Alive,
    /// Its prompt is silent for far too long, and no other waits.
    Silent,
    /// The same, and a prompt that the server has taken does not start.
    Stalled,
}

/// What was seen of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) enum WorkSeen {
    Nothing,
    /// Prompts wait, and none runs.
    Waiting,
    /// A prompt runs, with its id.
    Running(String),
}

/// What a server has to do, and how long that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct Workload {
    /// `None` if no prompt runs.
    pub(in crate::relay) running: Option<ExpectedEnd>,
    /// How many prompts wait.
    pub(in crate::relay) waiting: usize,
}

/// The upper end of the time that a prompt takes from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum ExpectedEnd {
    /// All its nodes have run before.
    Learned(Duration),
    /// Some have not: it may take far longer. Zero if nothing is known.
    Guessed(Duration),
}

/// How long a worker may be silent at least.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct SilenceLimits {
    /// During any prompt.
    pub(in crate::relay) any: Duration,
    /// During a prompt that is not known.
    pub(in crate::relay) unknown: Duration,
}

impl Workload {
    /// What a silence of this length shows.
    fn judge(&self, silence: Duration, limits: SilenceLimits) -> Life {
        let patience = match self.running {
            None => limits.any,
            Some(ExpectedEnd::Learned(end)) => limits.any.max(end.saturating_mul(PATIENCE)),
            Some(ExpectedEnd::Guessed(end)) => limits.unknown.max(end.saturating_mul(PATIENCE)),
        };
        match (self.running, self.waiting) {
            _ if silence < patience => Life::Alive,
            (None, 0) => Life::Alive,
            (Some(_), 0) => Life::Silent,
            (_, _) => Life::Stalled,
        }
    }
}

impl Worker {
    pub(in crate::relay) fn new() -> Self {
        Self {
            sign_at: Instant::now(),
            work: WorkSeen::Nothing,
            life: Life::Alive,
            silent_since: None,
        }
    }

    /// Records a sign of life, or that nothing can be known of it. Returns whether it counted as silent.
    pub(in crate::relay) fn on_sign(&mut self, at: Instant) -> bool {
        self.sign_at = at;
        self.life = Life::Alive;
        self.silent_since.take().is_some()
    }

    /// Records what the queue shows: another prompt that runs is a sign of life. Returns whether its state has changed. `now` is
    /// the same moment by the time of jobs.
    pub(in crate::relay) fn on_queue(
        &mut self,
        work: WorkSeen,
        load: Workload,
        limits: SilenceLimits,
        (at, now): (Instant, Timestamp),
    ) -> bool {
        let before = self.life;
        if self.work != work {
            self.work = work;
            self.on_sign(at);
        }
        let silence = at.saturating_duration_since(self.sign_at);
        self.life = load.judge(silence, limits);
        if self.life == Life::Alive {
            self.silent_since = None;
        } else {
            let since = || now.checked_sub(silence).unwrap_or(now);
            self.silent_since.get_or_insert_with(since);
        }
        self.life != before
    }

    /// Records that the queue is not looked at any more.
    pub(in crate::relay) fn rest(&mut self, at: Instant) -> bool {
        self.work = WorkSeen::Nothing;
        self.on_sign(at)
    }

    pub(in crate::relay) fn life(&self) -> Life {
        self.life
    }

    /// Since when nothing was received, if that is too long.
    pub(in crate::relay) fn silent_since(&self) -> Option<Timestamp> {
        self.silent_since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SilenceLimits = SilenceLimits {
        any: Duration::from_secs(120),
        unknown: Duration::from_secs(1_800),
    };

    fn learned(seconds: u64) -> Option<ExpectedEnd> {
        Some(ExpectedEnd::Learned(Duration::from_secs(seconds)))
    }

    fn guessed(seconds: u64) -> Option<ExpectedEnd> {
        Some(ExpectedEnd::Guessed(Duration::from_secs(seconds)))
    }

    #[test]
    fn each_silence_has_its_limit() {
        // What runs, how many wait, the seconds before which nothing is concluded, and what is concluded then.
        let table = [
            (learned(5), 1, 120, Life::Stalled),
            (learned(5), 0, 120, Life::Silent),
            (learned(40), 2, 120, Life::Stalled),
            (learned(41), 2, 123, Life::Stalled),
            (learned(600), 1, 1_800, Life::Stalled),
            (learned(600), 0, 1_800, Life::Silent),
            (guessed(0), 1, 1_800, Life::Stalled),
            (guessed(0), 0, 1_800, Life::Silent),
            (guessed(300), 1, 1_800, Life::Stalled),
            (guessed(1_000), 1, 3_000, Life::Stalled),
            (None, 1, 120, Life::Stalled),
            (None, 0, 120, Life::Alive),
        ];
        for (running, waiting, limit, life) in table {
            let load = Workload { running, waiting };
            let judged = |seconds| load.judge(Duration::from_secs(seconds), LIMITS);
            assert_eq!(judged(limit - 1), Life::Alive, "{load:?}");
            assert_eq!(judged(limit), life, "{load:?}");
            assert_eq!(judged(1_000_000), life, "{load:?}");
        }
        let load = Workload {
            running: Some(ExpectedEnd::Learned(Duration::MAX)),
            waiting: 1,
        };
        assert_eq!(load.judge(Duration::from_secs(1), LIMITS), Life::Alive);
    }

    #[test]
    fn what_moves_takes_the_state_back() {
        let mut worker = Worker::new();
        let began_at = worker.sign_at;
        let moment = |seconds: u64| {
            let now = Timestamp::from_second(1_000_000 + seconds.cast_signed()).unwrap();
            (began_at + Duration::from_secs(seconds), now)
        };
        let load = Workload {
            running: learned(5),
            waiting: 1,
        };
        let look = |worker: &mut Worker, running: &str, seconds| {
            let work = WorkSeen::Running(running.to_owned());
            worker.on_queue(work, load, LIMITS, moment(seconds));
            worker.life()
        };
        assert_eq!(
            look(&mut worker, "a", 500),
            Life::Alive,
            "it may have just begun"
        );
        assert_eq!(look(&mut worker, "a", 630), Life::Stalled);
        assert_eq!(worker.silent_since(), Some(moment(500).1));
        assert_eq!(look(&mut worker, "a", 640), Life::Stalled);
        assert_eq!(worker.silent_since(), Some(moment(500).1));
        assert!(worker.on_sign(moment(650).0));
        assert_eq!(worker.life(), Life::Alive);
        assert_eq!(look(&mut worker, "a", 660), Life::Alive);
        assert_eq!(look(&mut worker, "a", 770), Life::Stalled);
        assert_eq!(
            look(&mut worker, "b", 771),
            Life::Alive,
            "the next one has begun"
        );
        assert_eq!(worker.silent_since(), None);
    }

    /// One that was idle for hours gets a prompt.
    #[test]
    fn a_prompt_that_has_just_come_is_not_late() {
        let mut worker = Worker::new();
        let began_at = worker.sign_at;
        let idle = Workload {
            running: None,
            waiting: 0,
        };
        let waits = Workload { waiting: 1, ..idle };
        let now = Timestamp::from_second(1_000_000).unwrap();
        let moment = |seconds| (began_at + Duration::from_secs(seconds), now);
        worker.on_queue(WorkSeen::Nothing, idle, LIMITS, moment(0));
        worker.on_queue(WorkSeen::Waiting, waits, LIMITS, moment(5_000));
        assert_eq!(worker.life(), Life::Alive);
        worker.on_queue(WorkSeen::Waiting, waits, LIMITS, moment(5_120));
        assert_eq!(worker.life(), Life::Stalled);
        assert!(worker.rest(moment(5_121).0));
        assert_eq!(worker.life(), Life::Alive);
    }
}
