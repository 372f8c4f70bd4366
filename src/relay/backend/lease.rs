//! One relay follows a server. Two with one client id would take each other's socket away, without a
//! word from the server: so the one that comes later stands by, until the other is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::relay::Relay;
use crate::relay::backend::Backend;

/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 3;

/// How long the end of the relay waits for a database to take its leases back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether this relay is the one that follows a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Lease {
    /// The database could not be asked yet. A relay without a database follows its servers.
    Unknown,
    /// It is.
    Held,
    /// Another one is.
    HeldByPeer,
}

impl Relay {
    /// Keeps a backend's lease until the relay stops.
    #[tracing::instrument(name = "upstream", skip_all, fields(backend = backend.name()))]
    pub(in crate::relay) async fn keep_lease(self, backend: Arc<Backend>) {
        tokio::select! {
            () = self.stopping() => return,
            () = self.recorder().ready() => {}
        }
        loop {
            self.renew_lease(&backend).await;
            tokio::select! {
                () = self.stopping() => return,
                () = sleep(self.renewal()) => {}
            }
        }
    }

    /// Takes or renews a lease. Where the database does not answer, all stays as it is: the other relay
    /// cannot take the lease either.
    pub(in crate::relay) async fn renew_lease(&self, backend: &Backend) {
        let comfy = &backend.comfy;
        let (name, address) = (comfy.name(), comfy.address());
        let (store, holder) = (self.recorder().store(), &self.0.holder);
        let lasts = self.comfy_config().lease;
        let taking = store.take_lease(name, &address, comfy.client_id(), holder, lasts);
        let lease = match timeout(self.renewal(), taking).await {
            Ok(Ok(true)) => Lease::Held,
            Ok(Ok(false)) => Lease::HeldByPeer,
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                return tracing::debug!(error, "cannot renew the lease, trying on");
            }
            Err(_) => return tracing::debug!("the database is slow to renew the lease, trying on"),
        };
        let before = *backend.lease.borrow();
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
        backend.lease.send_replace(lease);
        self.changed();
        if before == Lease::HeldByPeer {
            self.restore().await;
            backend.reconcile_now.notify_one();
        }
    }

    /// Gives a lease back, so that another relay need not wait until it runs out.
    pub(in crate::relay) async fn release_lease(&self, backend: &Backend) {
        if *backend.lease.borrow() != Lease::Held {
            return;
        }
        let store = self.recorder().store();
        let releasing = store.release_lease(backend.name(), &self.0.holder);
        match timeout(RELEASE_TIMEOUT, releasing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "cannot give the lease back; it runs out");
            }
            Err(_) => tracing::debug!("the database is slow to take the lease back; it runs out"),
        }
    }

    /// Whether another relay follows a job's backend: it writes the job, and we do not.
    pub(in crate::relay) fn is_held_by_peer(&self, backend: Option<usize>) -> bool {
        let backend = backend.and_then(|index| self.0.backends.get(index));
        backend.is_some_and(|backend| *backend.lease.borrow() == Lease::HeldByPeer)
    }

    fn renewal(&self) -> Duration {
        self.comfy_config().lease / RENEWALS
    }
}
