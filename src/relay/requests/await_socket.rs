//! Waits for the socket to a backend on behalf of a caller.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_ok;
use tokio::time::{Instant, timeout};

use crate::relay::backend::{Backend, Lease};
use crate::relay::backend_choice::{BackendChoice, is_chosen};
use crate::relay::{Relay, RelayError};

/// How long a caller waits for a socket that is being dialled. Events go only to open sockets, so the socket comes
/// first.
pub(in crate::relay) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until a backend's socket is open. One that is away is dialled at once, and an attempt that fails is the
/// answer; one that has just been lost is waited for.
pub(in crate::relay) async fn await_socket(backend: &Backend) -> Result<(), RelayError> {
    if let Some(refusal) = backend.refusal() {
        return Err(refusal);
    }
    let mut connected = backend.connected.subscribe();
    if *connected.borrow_and_update() {
        return Ok(());
    }
    let was_reachable = backend.state().api.reachable;
    let asked_at = Instant::now();
    let mut failed_dial = backend.failed_dial.subscribe();
    backend.dial_now.notify_one();
    let failed = async {
        let began_since = |at: &Option<Instant>| at.is_some_and(|at| at >= asked_at);
        let failed = failed_dial.wait_for(began_since).await.is_ok();
        if was_reachable || !failed {
            std::future::pending::<()>().await;
        }
    };
    let opened = timeout(CONNECT_TIMEOUT, async {
        tokio::select! {
            biased;
            opened = connected.wait_for(|&connected| connected) => opened.is_ok(),
            () = failed => false,
        }
    });
    if opened.await == Ok(true) {
        return Ok(());
    }
    Err(unreachable(backend))
}

impl Relay {
    /// Waits until the socket of one of the chosen backends is open. One that was open before will be again: jobs wait for it. One
    /// that another relay follows takes jobs from there.
    pub(in crate::relay) async fn await_any_socket(
        &self,
        choices: &[BackendChoice],
    ) -> Result<(), RelayError> {
        let backends = self.0.tracker.backends.iter();
        let chosen = backends.filter(|backend| is_chosen(choices, backend));
        let was_open = |backend: &Arc<Backend>| {
            *backend.connected.borrow() || backend.state().socket.disconnects > 0
        };
        let takes_jobs = |backend: &Arc<Backend>| match *backend.lease.borrow() {
            Lease::Unknown | Lease::Held => was_open(backend),
            Lease::HeldByPeer => true,
            Lease::Lapsed => false,
        };
        if chosen.clone().any(takes_jobs) {
            return Ok(());
        }
        let opening = chosen.map(|backend| await_socket(backend).boxed());
        match select_ok(opening).await {
            Ok(_) => Ok(()),
            // The last one to fail: they fail for the same reason in most cases.
            Err(error) => Err(error),
        }
    }
}

/// A backend to which no socket can be opened, with what came instead, if anything did.
fn unreachable(backend: &Backend) -> RelayError {
    let name = backend.name().to_owned();
    let state = backend.state();
    match state
        .outage
        .reason()
        .filter(|reason| reason.contains("answered"))
    {
        Some(reason) => RelayError::NoSocket {
            backend: name,
            reason: reason.to_owned(),
        },
        None => RelayError::BackendUnreachable(name),
    }
}
