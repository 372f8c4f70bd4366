//! Everything that is an HTTP request: it is accepted, authorized and answered here. WebSockets are handed
//! to [`crate::session`] once they are open.

mod answer;
mod api;
mod client;
mod contract;
mod correlation_id;
mod error;
mod gzip;
mod listener;
mod pages;
mod proxy;
mod request;
mod response;
mod router;
mod security;
mod selection;
mod state;
mod thumbnails;
mod tls;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use tls::TlsError;

use crate::auth::{KeysError, Verifier};
use crate::config::ServerConfig;
use crate::relay::Relay;
use crate::session::{DEPARTURE_TIME, FanOutMetrics, Monitor, Rate, SessionContext, ShardPool};
use security::Security;
use state::{Interface, ServerState};
use thumbnails::Thumbnails;
use tls::Tls;

/// How long clients have to answer the close of the last sockets when the server stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// The listener is not bound.
    #[error("cannot read the listener's local address")]
    Listener(#[source] std::io::Error),
    /// The system grants no more threads or polls.
    #[error("cannot start the threads that serve subscribers")]
    Threads(#[source] std::io::Error),
    /// The keys that verify tokens cannot be loaded.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate or its key cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Whether a server could start with these settings. Reads the files that they name.
pub fn check(config: &ServerConfig) -> Result<(), StartError> {
    Verifier::load(&config.access)?;
    config.tls.as_ref().map(Tls::load).transpose()?;
    Ok(())
}

impl Server {
    /// Serves a relay on a listener that is bound already. Reads the files with keys and certificates.
    pub fn start(
        listener: TcpListener,
        relay: Relay,
        config: ServerConfig,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr().map_err(StartError::Listener)?;
        let verifier = Arc::new(Verifier::load(&config.access)?);
        let requests = Rate::new(config.limits.requests);
        let security = Security::new(&config, verifier.clone(), requests.clone(), address);
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let session = SessionContext {
            relay: relay.clone(),
            config: Arc::new(config),
            verifier: verifier.clone(),
            requests,
            fan_out: FanOutMetrics::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let shards = ShardPool::start(session.config.fan_out_threads, &session)
            .map_err(StartError::Threads)?;
        let thumbnails = Thumbnails::new(
            session.config.cache_dir.clone(),
            session.config.cache_size.saturating_mul(1_000_000),
        );
        let monitor = Monitor::new(session.clone());
        let state = ServerState {
            interface: Interface::Relay,
            relay,
            config: session.config.clone(),
            verifier,
            security: Arc::new(security),
            tls: tls.map(Arc::new),
            shards,
            monitor,
            thumbnails,
            stop: session.stop.clone(),
            tasks: session.tasks.clone(),
            session,
        };
        state.tasks.spawn(state.monitor.clone().run());
        state.tasks.spawn(refresh(state.clone()));
        state.tasks.spawn(Arc::new(state.clone()).accept(listener));
        Ok(Self { address, state })
    }

    /// Serves ComfyUI's own API on another listener that is bound already, until the server stops. Returns the address of the
    /// listener.
    pub fn serve_comfy(&self, listener: TcpListener) -> Result<SocketAddr, StartError> {
        let address = listener.local_addr().map_err(StartError::Listener)?;
        let security = self.state.security.for_comfy(&self.state.config, address);
        let state = ServerState {
            interface: Interface::Comfy,
            security: Arc::new(security),
            ..self.state.clone()
        };
        let (relay, stop) = (self.state.relay.clone(), self.state.stop.clone());
        let following = async move { relay.follow_queue_length(stop).await };
        self.state.tasks.spawn(following);
        self.state.tasks.spawn(Arc::new(state).accept(listener));
        Ok(address)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, and closes every socket with 1001 (going away).
    pub fn start_shutdown(&self) {
        self.state.stop.cancel();
        self.state.shards.stop();
        self.state.tasks.close();
    }

    /// Waits until every connection is closed, for at most five seconds: that many sockets are closed one after another.
    pub async fn shutdown(self) {
        self.start_shutdown();
        if timeout(DEPARTURE_TIME + CLOSE_TIMEOUT, self.state.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some connections were still open at the end of the shutdown");
        }
    }
}

/// The threads of a shard pool do not end with the runtime, as tasks do.
impl Drop for Server {
    fn drop(&mut self) {
        self.start_shutdown();
    }
}

/// Reloads keys and certificates when their files change, and forgets idle clients' rates.
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
            security.forget_idle();
            if let Some(tls) = tls {
                tls.refresh();
            }
        });
        if let Err(error) = refreshed.await {
            tracing::error!(%error, "cannot check the files with keys and certificates for changes");
        }
    }
}
