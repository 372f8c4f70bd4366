//! How long a backend has not answered, and when that is worth a line in the log.

use jiff::{SignedDuration, Timestamp};

/// How often a backend that stays away is logged: often enough to be found in the log of the last minutes, and seldom
/// enough to hide nothing else.
const REMINDER_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// The time in which a backend does not accept a socket.
#[derive(Debug, Default)]
pub(in crate::relay) struct Outage {
    /// When the first attempt failed; `None` while the backend answers.
    since: Option<Timestamp>,
    logged_at: Option<Timestamp>,
}

impl Outage {
    /// Records that an attempt to connect has failed. Returns since when all have, if it is time to log that: at the
    /// first failure, and again after [`REMINDER_INTERVAL`].
    pub(in crate::relay) fn on_failure(&mut self, now: Timestamp) -> Option<Timestamp> {
        let since = *self.since.get_or_insert(now);
        let is_due = self
            .logged_at
            .is_none_or(|at| now.duration_since(at) >= REMINDER_INTERVAL);
        if is_due {
            self.logged_at = Some(now);
        }
        is_due.then_some(since)
    }

    /// Records that the backend answers, or is none of this relay's business. Returns since when it did not.
    pub(in crate::relay) fn end(&mut self) -> Option<Timestamp> {
        std::mem::take(self).since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn an_outage_is_logged_at_its_start_and_every_five_minutes() {
        let mut outage = Outage::default();
        let logged: Vec<i64> = (0..1_000)
            .filter(|&second| outage.on_failure(at(second)) == Some(at(0)))
            .collect();
        assert_eq!(logged, [0, 300, 600, 900]);
        assert_eq!(outage.end(), Some(at(0)));
        assert_eq!(outage.end(), None);
        assert_eq!(
            outage.on_failure(at(1_001)),
            Some(at(1_001)),
            "the next outage is logged at once"
        );
    }
}
