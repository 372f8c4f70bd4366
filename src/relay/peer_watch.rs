//! Whether another relay can have taken over a job that this one has.
//!
//! A relay renews its registration every [`renewal`], and learns from that whether there are others. One that is new
//! takes no job from another relay before all have renewed theirs since. So a relay that was alone when it last did so
//! need not ask the database whose its jobs are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::relay_list::RelayList;
use crate::store::{PeerCounts, RelayRegistration};

/// How often a registration is renewed before it would end.
const RENEWALS: u32 = 3;

/// How long a caller waits for a relay that has just started to be registered.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a registration is renewed that `lasts` as long.
pub(super) fn renewal(lasts: Duration) -> Duration {
    lasts / RENEWALS
}

/// What the registrations of this relay have shown of others.
#[derive(Debug, Default)]
pub(super) struct PeerWatch {
    peers: Mutex<Peers>,
    /// When all others know of this one; `None` before it is registered.
    noticed_at: watch::Sender<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Peers {
    /// How many others there were at the last registration.
    others: usize,
    /// Until when no other relay takes a job of ours.
    alone_until: Option<Instant>,
    /// What they had then.
    counts: PeerCounts,
    /// What they listed then.
    lists: Arc<Vec<RelayList>>,
    /// The last registration failed, or its answer was lost: it may have removed relays that have ended.
    has_failed: bool,
}

impl PeerWatch {
    /// Records a registration that was sent at `sent_at` and confirmed at `now`. Returns whether jobs may be free: of relays
    /// that have left, that it has removed, or one before it whose answer was lost.
    pub(super) fn registered(
        &self,
        registration: &RelayRegistration,
        sent_at: Instant,
        now: Instant,
        lasts: Duration,
    ) -> bool {
        // A renewal may take as long as half the time between two.
        let grace = renewal(lasts) * 3 / 2;
        let mut peers = self.lock();
        let before = std::mem::replace(&mut peers.others, registration.others);
        // Two relays that register at the same time may not see each other; those that renew do.
        let is_alone = registration.was_held && registration.others == 0;
        peers.alone_until = is_alone.then(|| sent_at + grace);
        if !registration.was_held {
            self.noticed_at.send_replace(Some(now + grace));
        }
        let has_failed = std::mem::take(&mut peers.has_failed);
        let have_left = registration.others < before;
        have_left || registration.removed > 0 || !registration.was_held || has_failed
    }

    /// Records a registration that was not confirmed.
    pub(super) fn failed(&self) {
        self.lock().has_failed = true;
    }

    /// Records what the others have.
    pub(super) fn counted(&self, counts: PeerCounts, lists: Vec<RelayList>) {
        let mut peers = self.lock();
        peers.counts = counts;
        peers.lists = Arc::new(lists);
    }

    /// What the others list, as of the last registration.
    pub(super) fn lists(&self) -> Arc<Vec<RelayList>> {
        let peers = self.lock();
        if peers.others > 0 {
            peers.lists.clone()
        } else {
            Arc::default()
        }
    }

    /// What the others have, as of the last registration.
    pub(super) fn counts(&self) -> PeerCounts {
        let peers = self.lock();
        if peers.others > 0 {
            peers.counts
        } else {
            PeerCounts::default()
        }
    }

    /// Whether other relays run on the same database.
    pub(super) fn has_others(&self) -> bool {
        self.lock().others > 0
    }

    /// Whether no other relay can have a job that is ours.
    pub(super) fn is_alone(&self, now: Instant) -> bool {
        let alone_until = self.lock().alone_until;
        alone_until.is_some_and(|until| now < until)
    }

    /// Waits until all others know of this relay: before, they may write their jobs without asking whose they are. Returns
    /// `false` if it cannot be registered.
    pub(super) async fn noticed(&self) -> bool {
        let mut noticed_at = self.noticed_at.subscribe();
        let registering = noticed_at.wait_for(Option::is_some);
        let registered = timeout(REGISTRATION_TIMEOUT, registering).await;
        let noticed_at = registered.ok().and_then(|at| *at.ok()?);
        let Some(noticed_at) = noticed_at else {
            return false;
        };
        sleep_until(noticed_at).await;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn jobs_may_be_free_after_a_registration_whose_answer_was_lost() {
        let (peers, now) = (PeerWatch::default(), Instant::now());
        let renew = || peers.registered(&registration(true, 0), now, now, LASTS);
        assert!(!renew());
        peers.failed();
        assert!(renew() && !renew());
    }

    #[test]
    fn jobs_may_be_free_after_a_relay_has_left() {
        let (peers, now) = (PeerWatch::default(), Instant::now());
        let renew = |others| peers.registered(&registration(true, others), now, now, LASTS);
        assert!(!renew(2) && renew(1) && !renew(1) && renew(0));
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
        let noticed_at = second.noticed_at.borrow().unwrap();
        assert!(!first.is_alone(noticed_at), "although it could not renew");
        let renewed_at = now + renewal(LASTS);
        first.registered(&registration(true, 1), renewed_at, renewed_at, LASTS);
        assert!(first.has_others() && !first.is_alone(renewed_at));
    }
}
