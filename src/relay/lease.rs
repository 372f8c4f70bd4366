//! One relay follows a server. Two with one client id would take each other's socket away, without a
//! word from the server: so the one that comes later stands by, until the other is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Relay;
use super::backend::Backend;

/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 3;

/// How long the end of the relay waits for a database to take its leases back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);

/// Whether this relay is the one that follows a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// The database could not be asked yet. A relay without a database follows its servers.
    Unknown,
    /// It is.
    Held,
    /// Another one is.
    Elsewhere,
}

impl Relay {
    /// Keeps a backend's lease until the relay stops.
    #[tracing::instrument(name = "comfy", skip_all, fields(backend = backend.name()))]
    pub(super) async fn keep_lease(self, backend: Arc<Backend>) {
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
    pub(super) async fn renew_lease(&self, backend: &Backend) {
        let comfy = &backend.comfy;
        let (name, address) = (comfy.name(), comfy.address());
        let (store, holder) = (self.recorder().store(), &self.0.holder);
        let lasts = self.comfy_config().lease;
        let taking = store.take_lease(name, &address, comfy.client_id(), holder, lasts);
        let lease = match timeout(self.renewal(), taking).await {
            Ok(Ok(true)) => Lease::Held,
            Ok(Ok(false)) => Lease::Elsewhere,
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
            (_, Lease::Elsewhere) => tracing::warn!(
                "another relay follows this ComfyUI under our client id; standing by until it stops"
            ),
            (Lease::Elsewhere, _) => tracing::info!("the other relay is gone, taking over"),
            _ => {}
        }
        backend.lease.send_replace(lease);
        self.changed();
        if before == Lease::Elsewhere {
            self.restore().await;
            backend.look_now.notify_one();
        }
    }

    /// Gives a lease back, so that another relay need not wait until it runs out.
    pub(super) async fn release_lease(&self, backend: &Backend) {
        if *backend.lease.borrow() != Lease::Held {
            return;
        }
        let store = self.recorder().store();
        let releasing = store.release_lease(backend.name(), &self.0.holder);
        match timeout(RELEASE_PATIENCE, releasing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "cannot give the lease back; it runs out");
            }
            Err(_) => tracing::debug!("the database is slow to take the lease back; it runs out"),
        }
    }

    /// Whether another relay follows a job's backend: it writes the job, and we do not.
    pub(super) fn is_elsewhere(&self, backend: Option<usize>) -> bool {
        let backend = backend.and_then(|index| self.0.backends.get(index));
        backend.is_some_and(|backend| *backend.lease.borrow() == Lease::Elsewhere)
    }

    fn renewal(&self) -> Duration {
        self.comfy_config().lease / RENEWALS
    }
}
