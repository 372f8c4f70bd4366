//! One relay follows a backend. Two with one client id would take each other's socket away, and ComfyUI
//! reports that to neither: so the relay that comes later stands by until the other is gone.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::relay::backend::Lease;
use crate::relay::backend::follower::Follower;

/// How often a lease is renewed before it would expire.
const RENEWALS: u32 = 3;

/// How often a relay looks whether it has got the lease that it wishes for.
const WISH_PAUSE: Duration = Duration::from_millis(500);

/// How long shutdown waits for the database to release a lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a relay knows of a lease after it has asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct LeaseRenewal {
    pub(in crate::relay) lease: Lease,
    /// Until when no other relay can take it.
    pub(in crate::relay) held_until: Option<Instant>,
}

/// What a relay reads of its jobs before a lease that it has got counts: what others have written comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum FirstRead {
    /// The jobs, and what nodes have cost at other relays.
    Everything,
    OpenJobs,
    Nothing,
}

impl LeaseRenewal {
    /// What follows from the `answer` of the database, which is `None` if there is none; `None` if nothing changes. `asked_at`
    /// is when it was asked for a lease that `lasts` so long.
    pub(in crate::relay) fn of(
        answer: Option<Lease>,
        held_until: Option<Instant>,
        (asked_at, now): (Instant, Instant),
        lasts: Duration,
    ) -> Option<Self> {
        let (lease, held_until) = match answer {
            Some(Lease::Held) => (Lease::Held, Some(asked_at + lasts)),
            Some(lease) => (lease, None),
            None if held_until.is_some_and(|until| until <= now) => (Lease::Lapsed, None),
            None => return None,
        };
        Some(Self { lease, held_until })
    }

    /// Whether the lease is lost that was held until this moment. Jobs count as ours from when the database gives a lease, also
    /// if it is lost again before it counts.
    pub(in crate::relay) fn is_loss(&self, held_until: Option<Instant>) -> bool {
        held_until.is_some() && self.held_until.is_none()
    }
}

impl FirstRead {
    /// Before a lease becomes what it is `after`.
    pub(in crate::relay) fn of(before: Lease, after: Lease) -> Self {
        match (before, after) {
            (Lease::HeldByPeer | Lease::Lapsed, Lease::Held) => Self::Everything,
            (Lease::Unknown, Lease::Held) => Self::OpenJobs,
            _ => Self::Nothing,
        }
    }
}

impl Follower {
    /// Keeps the backend's lease until the relay stops.
    #[tracing::instrument(name = "upstream", skip_all, fields(backend = self.backend.name()))]
    pub(in crate::relay) async fn keep_lease(self: Arc<Self>) {
        tokio::select! {
            () = self.stop.cancelled() => return,
            () = self.recorder.ready() => {}
        }
        loop {
            self.renew_lease().await;
            let lease = *self.backend.lease.borrow();
            match lease {
                // Tried again with the next renewal.
                Lease::Held if !self.hand_over().await => self.renew_lease().await,
                Lease::HeldByPeer => self.wish().await,
                Lease::Held | Lease::Unknown | Lease::Lapsed => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep_until(self.next_renewal()) => {}
            }
        }
    }

    /// Takes or renews the lease.
    ///
    /// If the database does not answer, nothing changes until the lease would have expired: only then can another relay
    /// take it. A relay that never had it from the database goes on.
    pub(in crate::relay) async fn renew_lease(&self) {
        let asked_at = Instant::now();
        let answer = self.request_lease().await;
        let before = *self.backend.lease.borrow();
        let is_lost;
        let lease = {
            let held_until = &mut self.backend.state().lease_held_until;
            let moments = (asked_at, Instant::now());
            let renewal = LeaseRenewal::of(answer, *held_until, moments, self.config.lease);
            let Some(renewal) = renewal else {
                return;
            };
            is_lost = renewal.is_loss(*held_until);
            *held_until = renewal.held_until;
            renewal.lease
        };
        if is_lost {
            self.tracker.give_up(&self.backend);
        }
        if before == lease {
            return;
        }
        match (before, lease) {
            (_, Lease::HeldByPeer) => tracing::warn!(
                "another relay follows this ComfyUI under our client id; standing by until it stops"
            ),
            (_, Lease::Lapsed) => tracing::warn!(
                "the database does not answer, so another relay may follow this ComfyUI; standing by until it does"
            ),
            (Lease::HeldByPeer, _) => {
                tracing::info!("no other relay follows this ComfyUI any more, taking over")
            }
            (Lease::Lapsed, _) => tracing::info!("the database answers, following ComfyUI again"),
            _ => {}
        }
        // Tried again with the next renewal.
        let is_read = match FirstRead::of(before, lease) {
            FirstRead::Everything => self.tracker.restore().await,
            FirstRead::OpenJobs => self.tracker.take_over().await,
            FirstRead::Nothing => true,
        };
        if !is_read {
            return;
        }
        self.backend.lease.send_replace(lease);
        if lease.stands_by() {
            self.tracker.give_up(&self.backend);
        } else {
            self.backend.state().wished_at = None;
        }
        self.tracker.notify_monitors();
        if before.stands_by() {
            self.backend.reconcile_now.notify_one();
        }
    }

    /// When the lease is to be renewed, or has expired.
    fn next_renewal(&self) -> Instant {
        let (held_until, is_wished_for) = {
            let state = self.backend.state();
            (state.lease_held_until, state.wished_at.is_some())
        };
        let pause = self.renewal_interval();
        // It is handed over at any moment, and nobody follows it until it is seen.
        let pause = if is_wished_for {
            pause.min(WISH_PAUSE)
        } else {
            pause
        };
        let next = Instant::now() + pause;
        held_until.map_or(next, |until| until.min(next))
    }

    /// Asks the database for the lease; `None` if it does not answer.
    async fn request_lease(&self) -> Option<Lease> {
        let comfy = &self.backend.comfy;
        let store = self.recorder.store();
        let taking = store.take_lease(comfy.name(), &self.tracker.owner, self.config.lease);
        match timeout(self.renewal_interval(), taking).await {
            Ok(Ok(true)) => Some(Lease::Held),
            Ok(Ok(false)) => Some(Lease::HeldByPeer),
            Ok(Err(error)) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot renew the lease, retrying");
                None
            }
            Err(_) => {
                tracing::debug!("the database did not renew the lease in time, retrying");
                None
            }
        }
    }

    /// Releases the lease, so that another relay need not wait until it expires.
    pub(in crate::relay) async fn release_lease(&self) {
        if *self.backend.lease.borrow() != Lease::Held {
            return;
        }
        let store = self.recorder.store();
        let releasing = store.release_lease(self.backend.name(), &self.tracker.owner);
        match timeout(RELEASE_TIMEOUT, releasing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot release the lease; it will expire");
            }
            Err(_) => {
                tracing::debug!("the database did not release the lease in time; it will expire");
            }
        }
    }

    pub(super) fn renewal_interval(&self) -> Duration {
        self.config.lease / RENEWALS
    }
}
