//! [`RelayClock`]: the relay's clock as its messages show it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::api_client::JobMessage;

/// The share of the time that passes by which the relay's clock may be slower than this machine's: it is
/// slewed by one tenth if its wall clock was set.
const MAX_SLEW: f64 = 0.1;

/// The relay's clock over one connection. The wall clock of this machine may be set to another time, so
/// only its monotonic clock counts, set by the timestamps of messages.
#[derive(Debug, Default)]
pub(super) struct RelayClock(Option<ClockReading>);

/// What the relay's clock showed.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    at: Instant,
    time: Timestamp,
}

impl RelayClock {
    /// Sets the clock by a `progress` message that was received now. Returns its `estimated_completion`
    /// by the clock of this machine.
    pub(super) fn ends_at(&mut self, message: &JobMessage) -> Option<Instant> {
        self.set(message.timestamp?, Instant::now());
        self.instant_of(message.estimated_completion?)
    }

    /// Sets the clock by a message that was received at `at`. Messages are late, never early: the one
    /// with the shortest delay counts.
    fn set(&mut self, timestamp: Timestamp, at: Instant) {
        let earliest = self.0.and_then(|last| {
            let passed = at.saturating_duration_since(last.at);
            last.time.checked_add(passed.mul_f64(1.0 - MAX_SLEW)).ok()
        });
        self.0 = Some(ClockReading {
            at,
            time: earliest.map_or(timestamp, |earliest| timestamp.max(earliest)),
        });
    }

    /// When the relay's clock will show a time, by the clock of this machine; for times that have passed,
    /// when the clock was set. `None` before the first message, and for times too far away.
    fn instant_of(&self, time: Timestamp) -> Option<Instant> {
        let last = self.0?;
        let until = time.duration_since(last.time);
        last.at
            .checked_add(Duration::try_from(until).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay_time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn the_clock_of_this_machine_does_not_matter() {
        let began = Instant::now();
        let mut clock = RelayClock::default();
        assert_eq!(clock.instant_of(relay_time(9)), None);
        clock.set(relay_time(0), began);
        let nine = Duration::from_secs(9);
        assert_eq!(clock.instant_of(relay_time(9)), Some(began + nine));
        assert_eq!(clock.instant_of(relay_time(-9)), Some(began));
    }

    #[test]
    fn a_late_message_does_not_set_the_clock_back() {
        let began = Instant::now();
        let after = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let mut clock = RelayClock::default();
        clock.set(relay_time(0), began);
        clock.set(relay_time(1), after(4.0));
        assert_eq!(clock.instant_of(relay_time(10)), Some(after(10.4)));
        clock.set(relay_time(5), after(5.0));
        assert_eq!(clock.instant_of(relay_time(10)), Some(after(10.0)));
    }

    #[test]
    fn no_time_is_too_far_away_to_be_asked_for() {
        let mut clock = RelayClock::default();
        clock.set(Timestamp::MIN, Instant::now());
        clock.set(Timestamp::MAX, Instant::now());
        assert!(clock.instant_of(Timestamp::MIN).is_some());
    }
}
