//! The downstream state: HTTP, and the sockets of subscribers.

mod api;
mod error;
mod listener;
mod pages;
mod request;
mod response;
mod router;
mod security;
mod tls;
mod trim_memory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use tls::TlsError;

use crate::auth::{KeysError, Verifier};
use crate::config::ServerConfig;
use crate::relay::Relay;
use crate::session::{Monitor, SessionContext, ShardPool};
use security::Security;
use tls::Tls;

/// How long clients are given to take their leave when the server stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that is running. Stop it with [`Server::start_shutdown`], then wait for
/// [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: ServerState,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener has no address.
    #[error("the listener is of no use")]
    Listener(#[from] std::io::Error),
    /// There is nothing to check tokens with.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There is nothing to encrypt connections with.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Whether a server could start with these settings. Reads the files that they name.
pub fn check(config: &ServerConfig) -> Result<(), StartError> {
    Verifier::load(&config.access)?;
    config.tls.as_ref().map(Tls::load).transpose()?;
    Ok(())
}

/// What every connection needs. Cheap to clone.
#[derive(Debug, Clone)]
struct ServerState {
    relay: Relay,
    config: Arc<ServerConfig>,
    verifier: Arc<Verifier>,
    security: Arc<Security>,
    tls: Option<Arc<Tls>>,
    shards: ShardPool,
    monitor: Monitor,
    /// Connections that have come and gone, or were handed over.
    served: Arc<watch::Sender<u64>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves a relay on a listener that is bound already. Reads the files with keys and certificates.
    pub fn start(
        listener: TcpListener,
        relay: Relay,
        config: ServerConfig,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr()?;
        let verifier = Arc::new(Verifier::load(&config.access)?);
        let security = Security::new(&config, verifier.clone(), address);
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let session = SessionContext {
            relay: relay.clone(),
            config: Arc::new(config),
            verifier: verifier.clone(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let shards = ShardPool::start(session.config.fan_out_threads, &session)?;
        let monitor = Monitor::new(session.clone());
        let state = ServerState {
            relay,
            config: session.config,
            verifier,
            security: Arc::new(security),
            tls: tls.map(Arc::new),
            shards,
            monitor,
            served: Arc::default(),
            stop: session.stop,
            tasks: session.tasks,
        };
        state.tasks.spawn(state.monitor.clone().run());
        state.tasks.spawn(trim_memory::trim_memory(state.clone()));
        state.tasks.spawn(refresh(state.clone()));
        state.tasks.spawn(state.clone().accept(listener));
        Ok(Self { address, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks to accept no more, and to tell every subscriber that the server goes away (1001).
    pub fn start_shutdown(&self) {
        self.state.stop.cancel();
        self.state.shards.stop();
        self.state.tasks.close();
    }

    /// Waits until every client has taken its leave, but not for long.
    pub async fn shutdown(self) {
        self.start_shutdown();
        if timeout(GOODBYE_TIMEOUT, self.state.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some clients did not take their leave in time");
        }
    }
}

/// Threads do not end with the runtime, as tasks do.
impl Drop for Server {
    fn drop(&mut self) {
        self.start_shutdown();
    }
}

/// Looks at files now and then that may change while they are in use.
async fn refresh(state: ServerState) {
    loop {
        tokio::select! {
            () = state.stop.cancelled() => return,
            () = sleep(state.config.reload_interval) => {}
        }
        let (verifier, security) = (state.verifier.clone(), state.security.clone());
        let tls = state.tls.clone();
        let refreshed = tokio::task::spawn_blocking(move || {
            verifier.refresh();
            security.tidy();
            if let Some(tls) = tls {
                tls.refresh();
            }
        });
        if refreshed.await.is_err() {
            tracing::error!("keys and certificates could not be looked at");
        }
    }
}
