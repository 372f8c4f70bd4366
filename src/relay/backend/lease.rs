//! One relay follows a backend. Two with one client id would take each other's socket away, and ComfyUI
//! reports that to neither: so the relay that comes later stands by until the other is gone.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::relay::backend::Lease;
use crate::relay::backend::follower::Follower;

/// How often a lease is renewed before it would expire.
const RENEWALS: u32 = 3;

/// How long shutdown waits for the database to release a lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

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
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(self.renewal_interval()) => {}
            }
        }
    }

    /// Takes or renews the lease. If the database does not answer, nothing changes: another relay cannot
    /// take the lease either.
    pub(in crate::relay) async fn renew_lease(&self) {
        let Some(lease) = self.request_lease().await else {
            return;
        };
        let before = *self.backend.lease.borrow();
        if before == lease {
            return;
        }
        match (before, lease) {
            (_, Lease::HeldByPeer) => tracing::warn!(
                "another relay follows this ComfyUI under our client id; standing by until it stops"
            ),
            (Lease::HeldByPeer, _) => tracing::info!("the other relay is gone, taking over"),
            _ => {}
        }
        self.backend.lease.send_replace(lease);
        self.tracker.notify_monitors();
        if before == Lease::HeldByPeer {
            self.tracker.restore().await;
            self.backend.reconcile_now.notify_one();
        }
    }

    /// Asks the database for the lease; `None` if it does not answer.
    async fn request_lease(&self) -> Option<Lease> {
        let comfy = &self.backend.comfy;
        let store = self.recorder.store();
        let taking = store.take_lease(comfy.name(), &self.owner, self.config.lease);
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
        let releasing = store.release_lease(self.backend.name(), &self.owner);
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

    fn renewal_interval(&self) -> Duration {
        self.config.lease / RENEWALS
    }
}
