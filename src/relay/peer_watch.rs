//! Whether another relay can have taken over a job that this one has.
//!
//! A relay renews its registration every [`renewal`], and learns from that whether there are others. One that is new
//! takes no job from another relay before all have renewed theirs since. So a relay that was alone when it last did so
//! need not ask the database whose its jobs are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::store::RelayRegistration;

/// How often a registration is renewed before it would end.
const RENEWALS: u32 = 3;

/// How often a registration is renewed that `lasts` as long.
pub(super) fn renewal(lasts: Duration) -> Duration {
    lasts / RENEWALS
}

/// What the registrations of this relay have shown of others.
#[derive(Debug, Default)]
pub(super) struct PeerWatch(Mutex<Peers>);

#[derive(Debug, Default)]
struct Peers {
    /// Whether there were others at the last registration.
    has_others: bool,
    /// Until when no other relay takes a job of ours.
    alone_until: Option<Instant>,
    /// When all others know of this one.
    noticed_at: Option<Instant>,
}

impl PeerWatch {
    /// Records a registration that was sent at `sent_at` and confirmed at `now`.
    pub(super) fn registered(
        &self,
        registration: &RelayRegistration,
        sent_at: Instant,
        now: Instant,
        lasts: Duration,
    ) {
        // A renewal may take as long as half the time between two.
        let grace = renewal(lasts) * 3 / 2;
        let mut peers = self.lock();
        peers.has_others = registration.others > 0;
        // Two relays that register at the same time may not see each other; those that renew do.
        let is_alone = registration.was_held && !peers.has_others;
        peers.alone_until = is_alone.then(|| sent_at + grace);
        if !registration.was_held {
            peers.noticed_at = Some(now + grace);
        }
    }

    /// Whether other relays run on the same database.
    pub(super) fn has_others(&self) -> bool {
        self.lock().has_others
    }

    /// Whether no other relay can have a job that is ours.
    pub(super) fn is_alone(&self, now: Instant) -> bool {
        let alone_until = self.lock().alone_until;
        alone_until.is_some_and(|until| now < until)
    }

    /// Waits until all others know of this relay: before, they may write their jobs without asking whose they are.
    pub(super) async fn noticed(&self) {
        let noticed_at = self.lock().noticed_at;
        if let Some(noticed_at) = noticed_at {
            sleep_until(noticed_at).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(9);

    fn registration(was_held: bool, others: usize) -> RelayRegistration {
        RelayRegistration {
            was_held,
            others,
            removed: 0,
        }
    }

    #[test]
    fn a_new_relay_takes_a_job_only_when_no_other_believes_to_be_alone() {
        let (first, second) = (PeerWatch::default(), PeerWatch::default());
        let now = Instant::now();
        first.registered(&registration(false, 0), now, now, LASTS);
        assert!(!first.is_alone(now), "another may register at this moment");
        first.registered(&registration(true, 0), now, now, LASTS);
        assert!(first.is_alone(now));
        second.registered(&registration(false, 1), now, now, LASTS);
        assert!(second.has_others() && !second.is_alone(now));
        let noticed_at = second.lock().noticed_at.unwrap();
        assert!(!first.is_alone(noticed_at), "although it could not renew");
        let renewed_at = now + renewal(LASTS);
        first.registered(&registration(true, 1), renewed_at, renewed_at, LASTS);
        assert!(first.has_others() && !first.is_alone(renewed_at));
    }
}
