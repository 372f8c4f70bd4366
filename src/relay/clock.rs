use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// How fast the wall clock is followed where it was set, as a share of the time that passes: no duration
/// is wrong by more.
const CATCH_UP: i32 = 10;

/// The time of jobs: it goes on evenly, also where the wall clock is set to another time, and comes
/// nearer to it little by little. A job's time would else begin anew, or be over.
#[derive(Debug)]
pub(super) struct Clock(Mutex<Reading>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    told: Timestamp,
}

impl Clock {
    /// A clock that begins with the wall clock's time.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Reading {
            at: Instant::now(),
            told: Timestamp::now(),
        }))
    }

    /// The time. Never before one that was told.
    pub(super) fn now(&self) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.next(Instant::now(), Timestamp::now());
        last.told
    }

    /// Takes over the wall clock's time. Only while no job is open.
    pub(super) fn set(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Reading {
            at: Instant::now(),
            told: Timestamp::now(),
        };
    }
}

impl Reading {
    fn next(self, at: Instant, wall: Timestamp) -> Self {
        let passed = at.saturating_duration_since(self.at);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let even = self.told.checked_add(passed).unwrap_or(self.told);
        let most = passed / CATCH_UP;
        let catch_up = wall.duration_since(even).clamp(-most, most);
        let told = even.checked_add(catch_up).unwrap_or(even);
        Self { at, told }
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
            told: wall(1_000_000.0),
        }
    }

    #[test]
    fn the_wall_clock_is_followed() {
        let first = began();
        let next = first.next(first.at + Duration::from_secs(7), wall(1_000_007.0));
        assert_eq!(next.told, wall(1_000_007.0));
    }

    #[test]
    fn a_jump_is_made_good_little_by_little() {
        for jump in [3_600.0, -3_600.0] {
            let mut reading = began();
            let begin = reading.at;
            for second in 1..=40_000_u32 {
                let at = begin + Duration::from_secs(u64::from(second));
                let before = reading.told;
                reading = reading.next(at, wall(1_000_000.0 + f64::from(second) + jump));
                let went = reading.told.duration_since(before).as_secs_f64();
                assert!((0.899..=1.101).contains(&went), "{went}");
            }
            assert_eq!(reading.told, wall(1_040_000.0 + jump));
        }
    }

    proptest! {
        #[test]
        fn it_never_goes_back(times in prop::collection::vec((0u64..100_000, -1e11..2e11f64), 1..50)) {
            let mut reading = began();
            for (passed, now) in times {
                let told = reading.told;
                reading = reading.next(reading.at + Duration::from_millis(passed), wall(now));
                prop_assert!(reading.told >= told);
            }
        }
    }
}
