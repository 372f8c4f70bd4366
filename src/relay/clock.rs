//! The time of jobs.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The share of the time that passes by which the clock is slewed towards a wall clock that was set: one
/// tenth. No duration is wrong by more.
const MAX_SLEW: i32 = 10;

/// The time of jobs: it never goes back, and a wall clock that is set to another time moves it only
/// gradually. Otherwise the elapsed time of a job would jump, and with it its estimate.
#[derive(Debug)]
pub(super) struct JobClock(Mutex<Reading>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    time: Timestamp,
}

impl JobClock {
    /// A clock that starts with the time of the wall clock.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Reading {
            at: Instant::now(),
            time: Timestamp::now(),
        }))
    }

    /// The time, never before one that was returned already.
    pub(super) fn now(&self) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.next(Instant::now(), Timestamp::now());
        last.time
    }

    /// Sets it to the time of the wall clock. Only while no job is open.
    pub(super) fn reset(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Reading {
            at: Instant::now(),
            time: Timestamp::now(),
        };
    }
}

impl Reading {
    fn next(self, at: Instant, wall: Timestamp) -> Self {
        let passed = at.saturating_duration_since(self.at);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let even = self.time.checked_add(passed).unwrap_or(self.time);
        let max_slew = passed / MAX_SLEW;
        let slew = wall.duration_since(even).clamp(-max_slew, max_slew);
        let time = even.checked_add(slew).unwrap_or(even);
        Self { at, time }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn wall(seconds: f64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds)
    }

    fn began() -> Reading {
        Reading {
            at: Instant::now(),
            time: wall(1_000_000.0),
        }
    }

    #[test]
    fn it_follows_the_wall_clock() {
        let first = began();
        let next = first.next(first.at + Duration::from_secs(7), wall(1_000_007.0));
        assert_eq!(next.time, wall(1_000_007.0));
    }

    #[test]
    fn a_wall_clock_that_was_set_is_followed_gradually() {
        for jump in [3_600.0, -3_600.0] {
            let mut reading = began();
            let begin = reading.at;
            for second in 1..=40_000_u32 {
                let at = begin + Duration::from_secs(u64::from(second));
                let before = reading.time;
                reading = reading.next(at, wall(1_000_000.0 + f64::from(second) + jump));
                let went = reading.time.duration_since(before).as_secs_f64();
                assert!((0.899..=1.101).contains(&went), "{went}");
            }
            assert_eq!(reading.time, wall(1_040_000.0 + jump));
        }
    }

    proptest! {
        #[test]
        fn it_never_goes_back(times in prop::collection::vec((0u64..100_000, -1e11..2e11f64), 1..50)) {
            let mut reading = began();
            for (passed, now) in times {
                let before = reading.time;
                reading = reading.next(reading.at + Duration::from_millis(passed), wall(now));
                prop_assert!(reading.time >= before);
            }
        }
    }
}
