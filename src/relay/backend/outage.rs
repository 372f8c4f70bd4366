//! How long a backend has not answered, and when that is worth a line in the log.

use jiff::{SignedDuration, Timestamp};

/// How often a backend that stays away is logged: often enough to be found in the log of the last minutes, and seldom
/// enough to hide nothing else.
const REMINDER_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// The time in which no socket to a backend is open.
#[derive(Debug, Default)]
pub(in crate::relay) struct Outage {
    /// `None` while a socket is open.
    since: Option<Timestamp>,
    /// When a failed attempt to connect was last logged.
    logged_at: Option<Timestamp>,
    /// Why the newest attempt failed.
    reason: Option<String>,
}

impl Outage {
    /// An outage that begins now: no socket has been opened yet.
    pub(in crate::relay) fn starting(now: Timestamp) -> Self {
        Self {
            since: Some(now),
            ..Self::default()
        }
    }

    /// Since when no socket is open; `None` while one is.
    pub(in crate::relay) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Records that no socket is open. Returns since when.
    pub(in crate::relay) fn on_disconnect(&mut self, now: Timestamp) -> Timestamp {
        *self.since.get_or_insert(now)
    }

    /// Why the newest attempt to connect failed; `None` while none has.
    pub(in crate::relay) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Records why an attempt to connect has failed. Returns since when no socket is open, if it is time to log
    /// that: at the first failure, when the reason is another, and again after [`REMINDER_INTERVAL`].
    pub(in crate::relay) fn on_failure(
        &mut self,
        reason: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let since = self.on_disconnect(now);
        let is_other = self
            .reason
            .as_deref()
            .is_some_and(|before| before != reason);
        self.reason = Some(reason.to_owned());
        let is_due = is_other
            || self
                .logged_at
                .is_none_or(|at| now.duration_since(at) >= REMINDER_INTERVAL);
        if is_due {
            self.logged_at = Some(now);
        }
        is_due.then_some(since)
    }

    /// Records that a socket is open, or that another relay follows the backend. Returns since when none was, if that
    /// was logged.
    pub(in crate::relay) fn end(&mut self) -> Option<Timestamp> {
        let ended = std::mem::take(self);
        ended.since.filter(|_| ended.logged_at.is_some())
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
            .filter(|&second| outage.on_failure("refused", at(second)) == Some(at(0)))
            .collect();
        assert_eq!(logged, [0, 300, 600, 900]);
        assert_eq!(outage.end(), Some(at(0)));
        assert_eq!(outage.since(), None);
        assert_eq!(outage.on_disconnect(at(1_000)), at(1_000));
        assert_eq!(outage.end(), None, "nothing was logged");
        assert_eq!(
            outage.on_failure("refused", at(1_001)),
            Some(at(1_001)),
            "the next outage is logged at once"
        );
        assert_eq!(outage.on_failure("refused", at(1_002)), None);
        let other = outage.on_failure("401 Unauthorized", at(1_003));
        assert_eq!(other, Some(at(1_001)), "another reason is logged at once");
        assert_eq!(outage.reason(), Some("401 Unauthorized"));
    }
}
