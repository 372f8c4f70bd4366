//! The downstream edge: HTTP, and one session for each subscriber.

mod body;
mod deflate;
mod ending;
mod error;
mod events;
mod health;
mod inflate;
mod jobs;
mod memory;
mod message;
mod metrics;
mod monitor;
mod route;
mod shard;
mod wait;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use message::{ClientMessage, ServerMessage};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use shard::fuzzing;

use crate::config::ServerConfig;
use crate::relay::Relay;
use shard::{Prepared, Shards};

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the listener rests after the machine refused it a connection, as it does when file
/// descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients are given to take their leave when the server stops.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that is running. Stop it with [`Server::start_shutdown`], then wait for
/// [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    edge: Edge,
}

/// What every connection needs. Cheap to clone.
#[derive(Debug, Clone)]
struct Edge {
    relay: Relay,
    config: Arc<ServerConfig>,
    monitor: monitor::Feed,
    shards: Shards,
    /// Connections that have come and gone, or were handed over.
    served: Arc<watch::Sender<u64>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves a relay on a listener that is bound already.
    pub fn start(
        listener: TcpListener,
        relay: Relay,
        config: ServerConfig,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let threads = Prepared::new(config.fan_out_threads)?;
        let edge = Edge {
            monitor: monitor::Feed::default(),
            shards: threads.shards(),
            relay,
            config: Arc::new(config),
            served: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        threads.start(&edge)?;
        edge.tasks.spawn(monitor::watch(edge.clone()));
        edge.tasks.spawn(memory::give_back(edge.clone()));
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

impl Edge {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.tasks.spawn(self.clone().serve(stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection, trying on");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        // Messages are small and must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the connection was gone at once");
            return;
        }
        let (stop, done) = (self.stop.clone(), self.served.clone());
        let service = service_fn(move |request| {
            let edge = self.clone();
            async move { Ok::<_, std::convert::Infallible>(route::answer(edge, peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "a connection broke off");
        }
        done.send_modify(|served| *served += 1);
    }
}
