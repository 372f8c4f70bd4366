//! The task that receives from one server.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Msg, RedisResult};
use tokio::time::{MissedTickBehavior, interval};

use super::RedisShared;
use super::connect::{closed, connect};
use super::kept::MAX_KEYS;
use super::messages::{MessageConnection, Pushed};
use super::node::RedisNode;
use crate::broker::job_state::ReceivedState;
use crate::broker::message::{self, MessageError};
use crate::job::JobId;

/// What one server sends, as long as its connections hold.
struct NodeReceiver<'a> {
    shared: &'a RedisShared,
    node: &'a Arc<RedisNode>,
    messages: MessageConnection,
    connection: MultiplexedConnection,
    subscribed: HashSet<JobId>,
    /// Jobs that it should send are not subscribed to: their slots move.
    is_incomplete: bool,
}

impl RedisShared {
    /// Receives until the node leaves.
    pub(super) async fn keep_receiving(&self, node: &Arc<RedisNode>) {
        let receiving = async {
            loop {
                let Err(error) = self.receive_until_lost(node).await;
                self.topology_changed.notify_one();
                node.receiving.down(&error).await;
            }
        };
        tokio::select! {
            () = node.left.cancelled() => {}
            () = receiving => {}
        }
    }

    /// Connects, follows what is to be followed, and receives until a connection fails.
    async fn receive_until_lost(&self, node: &Arc<RedisNode>) -> RedisResult<Infallible> {
        let receiving = NodeReceiver {
            shared: self,
            node,
            messages: MessageConnection::open(&node.config).await?,
            connection: connect(&node.config).await?,
            subscribed: HashSet::new(),
            is_incomplete: false,
        };
        receiving.run().await
    }

    /// The followed jobs that a node holds.
    fn followed_at(&self, node: &Arc<RedisNode>) -> HashSet<JobId> {
        let followed = self.followed();
        let nodes = self.nodes();
        let holds = |job: &&JobId| {
            let holder = nodes.of(&self.names, job);
            holder.is_some_and(|holder| Arc::ptr_eq(holder, node))
        };
        followed.iter().filter(holds).cloned().collect()
    }

    /// Passes a state on to the relay. Its own states come back to it where it follows what it has taken over.
    fn take_in(&self, job: &JobId, state: Result<ReceivedState, MessageError>) {
        match state {
            Ok(state) if state.stored.owner.as_ref() == Some(&self.owner) => {}
            Ok(state) => {
                self.metrics.received.inc();
                self.inbox.put(state);
            }
            Err(error) => {
                self.metrics.rejected.inc();
                tracing::debug!(job_id = %job, %error, "a message of Redis is no state");
            }
        }
    }
}

impl NodeReceiver<'_> {
    async fn run(mut self) -> RedisResult<Infallible> {
        let node = self.node;
        let mut ping = interval(node.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // At once after connecting, and then whenever it changes.
            self.sync().await?;
            node.receiving.up();
            loop {
                tokio::select! {
                    pushed = self.messages.next() => match pushed {
                        Some(Pushed::Message(message)) => self.receive(&message),
                        Some(Pushed::Left(channel)) => self.leave(&channel),
                        None => return Err(closed()),
                    },
                    () = node.followed_changed.notified() => break,
                    _ = ping.tick() => {
                        self.messages.ping().await?;
                        if self.is_incomplete {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Subscribes to the channels of jobs that are followed, and leaves the others. Subscribes first, and reads the kept
    /// states after: no state falls between them.
    async fn sync(&mut self) -> RedisResult<()> {
        let followed = self.shared.followed_at(self.node);
        let added: Vec<JobId> = followed.difference(&self.subscribed).cloned().collect();
        let left: Vec<JobId> = self.subscribed.difference(&followed).cloned().collect();
        self.is_incomplete = false;
        for jobs in added.chunks(MAX_KEYS) {
            let taken = self.messages.subscribe(self.channels(jobs)).await?;
            let jobs = jobs.iter().zip(taken);
            let jobs: Vec<JobId> = jobs
                .filter_map(|(job, is_taken)| {
                    self.is_incomplete |= !is_taken;
                    is_taken.then(|| job.clone())
                })
                .collect();
            let connection = &mut self.connection;
            for (job, state) in self.shared.kept(self.node, connection, &jobs).await? {
                self.shared.take_in(job, state);
            }
            self.subscribed.extend(jobs);
        }
        if self.is_incomplete {
            self.shared.topology_changed.notify_one();
        }
        for jobs in left.chunks(MAX_KEYS) {
            self.messages.unsubscribe(self.channels(jobs)).await?;
            for job in jobs {
                self.subscribed.remove(job);
            }
        }
        Ok(())
    }

    fn channels(&self, jobs: &[JobId]) -> Vec<String> {
        let names = &self.shared.names;
        jobs.iter().map(|job| names.relays(job)).collect()
    }

    fn receive(&self, message: &Msg) {
        let Some(job) = self.shared.names.job(message.get_channel_name()) else {
            return;
        };
        let state = message::read(&job, message.get_payload_bytes());
        self.shared.take_in(&job, state);
    }

    /// A channel is left. Where it was not for us to leave it, its slot has moved: it is subscribed to where it is now.
    fn leave(&mut self, channel: &str) {
        let job = self.shared.names.job(channel);
        if job.is_some_and(|job| self.subscribed.remove(&job)) {
            self.is_incomplete = true;
            self.shared.topology_changed.notify_one();
        }
    }
}
