//! [`RedisNode`]: one server, with what waits for it and its two connections.

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use crate::broker::BrokerMetrics;
use crate::broker::job_state::JobState;
use crate::broker::state_queue::StateQueue;
use crate::config::RedisConfig;

/// The server, or a master of the Redis Cluster, over all its connections.
#[derive(Debug)]
pub(super) struct RedisNode {
    /// How it is reached.
    pub(super) config: RedisConfig,
    /// States of the jobs that it holds, which are to be sent.
    pub(super) outbox: StateQueue<JobState>,
    /// Which of its jobs are followed has changed, or which jobs are its own.
    pub(super) followed_changed: Notify,
    pub(super) publishing: Link,
    pub(super) receiving: Link,
    /// It is no master of the cluster any more.
    pub(super) left: CancellationToken,
}

impl RedisNode {
    pub(super) fn new(config: RedisConfig, metrics: &BrokerMetrics) -> Self {
        Self {
            outbox: StateQueue::new(metrics.conflated.clone()),
            followed_changed: Notify::new(),
            publishing: Link::new("publish to Redis", &config, metrics),
            receiving: Link::new("receive from Redis", &config, metrics),
            left: CancellationToken::new(),
            config,
        }
    }
}
