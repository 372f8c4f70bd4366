use std::time::Duration;

/// How many bytes a client may send at once: far more than a client of this protocol needs.
pub(super) const MAX_BYTES: u32 = 512 << 10;

/// The time after which a client that has sent as much may do so again.
const REFILL: Duration = Duration::from_secs(30);

/// What a client may still send: a bucket of [`MAX_BYTES`] that fills up again within [`REFILL`].
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// The bytes that were sent and not allowed again.
    pub(super) used: u32,
    /// When it was filled up last, in milliseconds since the thread began; these may wrap around.
    refilled_at: u32,
}

impl Allowance {
    /// Allows what has become possible up to `now`, a time since the thread began.
    pub(super) fn refill(&mut self, now: Duration) {
        let now = now.as_millis() as u32;
        let elapsed = u64::from(now.wrapping_sub(self.refilled_at));
        let allowed = elapsed * u64::from(MAX_BYTES) / REFILL.as_millis() as u64;
        if allowed > 0 {
            self.used = self
                .used
                .saturating_sub(allowed.min(u64::from(MAX_BYTES)) as u32);
            self.refilled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_allowed_again_after_a_while() {
        let mut allowance = Allowance {
            used: MAX_BYTES,
            ..Allowance::default()
        };
        allowance.refill(Duration::ZERO);
        assert_eq!(allowance.used, MAX_BYTES);
        allowance.refill(REFILL / 2);
        assert_eq!(allowance.used, MAX_BYTES / 2);
        // In as many steps as there are milliseconds, as much as at once.
        for ms in 15_000..=30_000 {
            allowance.refill(Duration::from_millis(ms));
        }
        assert!(allowance.used < MAX_BYTES / 50, "{}", allowance.used);
        allowance.used = MAX_BYTES;
        allowance.refill(Duration::from_millis((1 << 32) + 60_000));
        assert_eq!(allowance.used, 0);
    }
}
