use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_tungstenite::HyperWebsocket;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::commands::{ShardCommand, ShardHandle};
use super::context::SessionContext;
use super::event_loop::Shard;
use super::subscriber::NewSubscriber;
use super::transport::Transport;

/// The pause before a thread that has ended is replaced, where the system grants none at once.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// All shards of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ShardPool {
    shards: Arc<[Mutex<ShardHandle>]>,
    /// Counts subscribers: they are dealt to the shards in turn.
    next: Arc<AtomicUsize>,
    /// How many threads have ended before their time.
    replaced: Arc<AtomicUsize>,
}

/// A thread that runs a shard.
struct ShardThread {
    handle: ShardHandle,
    /// Fails when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl ShardPool {
    /// Starts `count` threads, at least one. They end when [`ShardPool::stop`] was called and the last
    /// subscriber has left; one that ends before, by a panic or because it cannot poll its sockets, is replaced.
    ///
    /// Must be called within the runtime that runs the tasks of sessions.
    pub(crate) fn start(count: usize, context: &SessionContext) -> io::Result<Self> {
        let threads: Vec<ShardThread> = (0..count.max(1))
            .map(|_| ShardThread::start(context))
            .collect::<io::Result<_>>()?;
        let shards = threads
            .iter()
            .map(|thread| Mutex::new(thread.handle.clone()));
        let pool = Self {
            shards: shards.collect(),
            next: Arc::default(),
            replaced: Arc::default(),
        };
        for (index, thread) in threads.into_iter().enumerate() {
            let supervision = pool.clone().supervise(index, context.clone(), thread.ended);
            context.tasks.spawn(supervision);
        }
        Ok(pool)
    }

    /// Replaces a thread whenever it has ended, until the server stops.
    async fn supervise(
        self,
        index: usize,
        context: SessionContext,
        mut ended: oneshot::Receiver<()>,
    ) {
        loop {
            // Nothing is ever sent: the sender is dropped when the thread ends.
            let _ = ended.await;
            if context.stop.is_cancelled() {
                return;
            }
            tracing::error!(
                "a fan-out thread has ended; its subscribers are disconnected, and another takes its place"
            );
            self.replaced.fetch_add(1, Ordering::Relaxed);
            let thread = loop {
                match ShardThread::start(&context) {
                    Ok(thread) => break thread,
                    Err(error) => {
                        tracing::error!(%error, "cannot start a fan-out thread, retrying")
                    }
                }
                tokio::select! {
                    () = context.stop.cancelled() => return,
                    () = sleep(RETRY_PAUSE) => {}
                }
            };
            *self.shard(index) = thread.handle;
            ended = thread.ended;
            if context.stop.is_cancelled() {
                self.shard(index).send(ShardCommand::Stop);
            }
        }
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, ShardHandle> {
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.shards.len()
    }

    /// How many threads have ended before their time since the start.
    pub(crate) fn replaced(&self) -> usize {
        self.replaced.load(Ordering::Relaxed)
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
                let command = ShardCommand::Add(Box::new((handover, subscriber)));
                self.shard(next).send(command);
            }
            Err(error) => tracing::debug!(%error, "the connection was lost during the handshake"),
        }
    }

    /// Asks every shard to close its subscribers' sockets, and to end.
    pub(crate) fn stop(&self) {
        for index in 0..self.shards.len() {
            self.shard(index).send(ShardCommand::Stop);
        }
    }
}

impl ShardThread {
    fn start(context: &SessionContext) -> io::Result<Self> {
        let shard = Shard::new(context.clone())?;
        let handle = shard.handle();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("fan-out".to_owned())
            .spawn(move || {
                shard.run();
                drop(running);
            })?;
        Ok(Self { handle, ended })
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::auth::Verifier;
    use crate::config::{ComfyConfig, RelayConfig, ServerConfig, StoreConfig};
    use crate::relay::Relay;
    use crate::session::{FanOutMetrics, Rate};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thread_that_ends_is_replaced() {
        let comfy = ComfyConfig {
            urls: Vec::new(),
            ..ComfyConfig::default()
        };
        let store = StoreConfig::default();
        let relay = Relay::start(RelayConfig::default(), comfy, &store);
        let config = ServerConfig::default();
        let context = SessionContext {
            relay: relay.await.unwrap(),
            verifier: Arc::new(Verifier::load(&config.access).unwrap()),
            config: Arc::new(config),
            requests: Rate::new(0),
            fan_out: FanOutMetrics::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let pool = ShardPool::start(1, &context).unwrap();
        let first = pool.shard(0).clone();
        first.send(ShardCommand::Panic);
        while pool.replaced() == 0 || pool.shard(0).is_closed() {
            tokio::task::yield_now().await;
        }
        assert!(first.is_closed());
        assert_eq!((pool.threads(), pool.replaced()), (1, 1));
        context.stop.cancel();
        pool.stop();
        context.tasks.close();
        context.tasks.wait().await;
        assert!(pool.shard(0).is_closed());
    }
}
