//! When it is worth a line in the log that a backend does not answer.

use jiff::{SignedDuration, Timestamp};

/// How often a backend that stays away is logged: often enough to be found in the log of the last minutes, and seldom
/// enough to hide nothing else.
const REMINDER_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// When it was logged that a backend accepts no socket.
#[derive(Debug, Default)]
pub(in crate::relay) struct Outage {
    /// `None` while the backend answers.
    logged_at: Option<Timestamp>,
}

impl Outage {
    /// Records that an attempt to connect has failed. Returns whether it is time to log that: at the first failure, and
    /// again after [`REMINDER_INTERVAL`].
    pub(in crate::relay) fn on_failure(&mut self, now: Timestamp) -> bool {
        let is_due = self
            .logged_at
            .is_none_or(|at| now.duration_since(at) >= REMINDER_INTERVAL);
        if is_due {
            self.logged_at = Some(now);
        }
        is_due
    }

    /// Records that the backend answers, or is none of this relay's business. Returns whether it did not answer before.
    pub(in crate::relay) fn end(&mut self) -> bool {
        self.logged_at.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_at_its_start_and_every_five_minutes() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let mut outage = Outage::default();
        let logged: Vec<i64> = (0..1_000)
            .filter(|&second| outage.on_failure(at(second)))
            .collect();
        assert_eq!(logged, [0, 300, 600, 900]);
        assert!(outage.end());
        assert!(!outage.end());
        assert!(
            outage.on_failure(at(1_001)),
            "the next outage is logged at once"
        );
    }
}
