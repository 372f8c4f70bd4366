//! The downstream edge: HTTP, and the sockets of subscribers.

mod accept;
mod body;
mod deferred;
mod deflate;
mod ending;
mod error;
mod events;
mod guard;
mod health;
mod inflate;
mod jobs;
mod memory;
mod message;
mod metrics;
mod monitor;
mod route;
mod shard;
mod stamp;
mod tls;
mod wait;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use guard::{KeysError, Token};
pub use message::{ClientMessage, ServerMessage};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use shard::fuzzing;
pub use tls::TlsError;

use crate::config::ServerConfig;
use crate::relay::Relay;
use guard::Guard;
use shard::{Prepared, Shards};
use tls::Tls;

/// How long clients are given to take their leave when the server stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that is running. Stop it with [`Server::start_shutdown`], then wait for
/// [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    edge: ServerState,
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
    Guard::new(config, config.listen)?;
    config.tls.as_ref().map(Tls::load).transpose()?;
    Ok(())
}

/// What every connection needs. Cheap to clone.
#[derive(Debug, Clone)]
struct ServerState {
    relay: Relay,
    config: Arc<ServerConfig>,
    guard: Arc<Guard>,
    tls: Option<Arc<Tls>>,
    monitor: monitor::Feed,
    shards: Shards,
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
        let guard = Guard::new(&config, address)?;
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let threads = Prepared::new(config.fan_out_threads)?;
        let edge = ServerState {
            monitor: monitor::Feed::default(),
            shards: threads.shards(),
            relay,
            config: Arc::new(config),
            served: Arc::default(),
            guard: Arc::new(guard),
            tls: tls.map(Arc::new),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        threads.start(&edge)?;
        edge.tasks.spawn(monitor::watch(edge.clone()));
        edge.tasks.spawn(memory::give_back(edge.clone()));
        edge.tasks.spawn(refresh(edge.clone()));
        edge.tasks.spawn(edge.clone().accept(listener));
        Ok(Self { address, edge })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks to accept no more, and to tell every subscriber that the server goes away (1001).
    pub fn start_shutdown(&self) {
        self.edge.stop.cancel();
        self.edge.shards.stop();
        self.edge.tasks.close();
    }

    /// Waits until every client has taken its leave, but not for long.
    pub async fn shutdown(self) {
        self.start_shutdown();
        if timeout(GOODBYE_TIMEOUT, self.edge.tasks.wait())
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
async fn refresh(edge: ServerState) {
    loop {
        tokio::select! {
            () = edge.stop.cancelled() => return,
            () = sleep(edge.config.reload_interval) => {}
        }
        let (guard, tls) = (edge.guard.clone(), edge.tls.clone());
        let refreshed = tokio::task::spawn_blocking(move || {
            guard.refresh();
            if let Some(tls) = tls {
                tls.refresh();
            }
        });
        if refreshed.await.is_err() {
            tracing::error!("keys and certificates could not be looked at");
        }
    }
}
