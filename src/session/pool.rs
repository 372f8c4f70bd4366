use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_tungstenite::HyperWebsocket;
use tokio::sync::oneshot;

use super::commands::{ShardCommand, ShardHandle};
use super::context::SessionContext;
use super::event_loop::Shard;
use super::subscriber::NewSubscriber;
use super::transport::Transport;

/// All shards of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ShardPool {
    shards: Arc<[ShardHandle]>,
    /// Counts subscribers: they are dealt to the shards in turn.
    next: Arc<AtomicUsize>,
}

impl ShardPool {
    /// Starts `count` threads, at least one. They end when [`ShardPool::stop`] was called and the last
    /// subscriber has left.
    ///
    /// Must be called within the runtime that runs the tasks of sessions.
    pub(crate) fn start(count: usize, context: &SessionContext) -> io::Result<Self> {
        let shards: Vec<Shard> = (0..count.max(1))
            .map(|_| Shard::new(context.clone()))
            .collect::<io::Result<_>>()?;
        let pool = Self {
            shards: shards.iter().map(Shard::handle).collect(),
            next: Arc::default(),
        };
        for shard in shards {
            let (running, ended) = oneshot::channel::<()>();
            std::thread::Builder::new()
                .name("fan-out".to_owned())
                .spawn(move || {
                    shard.run();
                    drop(running);
                })?;
            context.tasks.spawn(async move {
                // Nothing is ever sent: the sender is dropped when the thread ends.
                let _ = ended.await;
            });
        }
        Ok(pool)
    }

    /// Waits for the upgrade to complete, and hands the socket to a shard.
    pub(crate) async fn adopt(self, socket: HyperWebsocket, subscriber: NewSubscriber) {
        let handover = match socket.await {
            Ok(socket) => Transport::from_upgraded(socket),
            Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
        };
        match handover {
            Ok(handover) => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
                self.shards[next].send(ShardCommand::Add(Box::new((handover, subscriber))));
            }
            Err(error) => tracing::debug!(%error, "the connection was lost during the handshake"),
        }
    }

    /// Asks every shard to close its subscribers' sockets, and to end.
    pub(crate) fn stop(&self) {
        for shard in self.shards.iter() {
            shard.send(ShardCommand::Stop);
        }
    }
}
