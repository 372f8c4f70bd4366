//! [`RedisBroker`]: states over a Redis server. One task publishes, another one receives, each with a connection of its own,
//! so that neither waits for the other. Two more send and receive wake-ups and previews: no picture holds a state up.

mod check;
mod connect;
mod kept;
mod link;
mod names;
mod publisher;
mod receiver;
mod script;
mod signals;
mod wake_receiver;
mod wake_sender;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::job_state::{JobState, ReceivedState};
use super::metrics::BrokerMetrics;
use super::preview::JobPreview;
use super::state_queue::StateQueue;
use super::wake::{Hint, WakeUp};
use crate::config::RedisConfig;
use crate::job::JobId;
pub(super) use check::check;
use link::Link;
use names::ChannelNames;
use signals::Signals;

/// How many states are taken over by the relay at once: it locks its jobs meanwhile.
const MAX_RECEIVED: usize = 256;

/// States over a Redis server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RedisBroker(Arc<RedisShared>);

/// What the two tasks and the relay share.
#[derive(Debug)]
struct RedisShared {
    config: RedisConfig,
    names: ChannelNames,
    /// This relay, as the heads of its states name it.
    owner: String,
    outbox: StateQueue<JobState>,
    inbox: StateQueue<ReceivedState>,
    /// The jobs whose states are to be received.
    followed: Mutex<HashSet<JobId>>,
    followed_changed: Notify,
    publishing: Link,
    receiving: Link,
    signals: Signals,
    metrics: BrokerMetrics,
}

/// The state of the connections to Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// Whether states are sent and received.
    pub is_connected: bool,
    /// Why not, if that is known.
    pub reason: Option<String>,
    /// How many jobs have a state that is not sent yet.
    pub pending: usize,
    /// How long the oldest of them has waited.
    pub lag: Duration,
}

impl RedisBroker {
    pub(super) fn new(config: RedisConfig, owner: &str) -> Self {
        let metrics = BrokerMetrics::default();
        Self(Arc::new(RedisShared {
            names: ChannelNames::new(&config.prefix),
            owner: owner.to_owned(),
            outbox: StateQueue::new(metrics.conflated.clone()),
            inbox: StateQueue::new(metrics.conflated.clone()),
            followed: Mutex::default(),
            followed_changed: Notify::new(),
            publishing: Link::new("publish to Redis", &config, &metrics),
            receiving: Link::new("receive from Redis", &config, &metrics),
            signals: Signals::new(&config, &metrics),
            metrics,
            config,
        }))
    }

    pub(super) fn publish(&self, state: JobState) {
        self.0.outbox.put(state);
    }

    pub(super) fn follow(&self, job: &JobId) {
        let mut followed = self.0.followed();
        if !followed.contains(job) {
            followed.insert(job.clone());
            drop(followed);
            self.0.followed_changed.notify_one();
        }
    }

    pub(super) fn follow_only(&self, jobs: impl IntoIterator<Item = JobId>) {
        let jobs: HashSet<JobId> = jobs.into_iter().collect();
        let mut followed = self.0.followed();
        if *followed != jobs {
            *followed = jobs;
            drop(followed);
            self.0.followed_changed.notify_one();
        }
    }

    pub(super) fn hint(&self, hint: Hint) {
        self.0.signals.outbox.put(hint);
    }

    pub(super) async fn woken(&self) -> Vec<WakeUp> {
        self.0.signals.inbox.take().await
    }

    pub(super) fn want_previews(&self, jobs: HashSet<JobId>) {
        self.0.signals.want(jobs);
    }

    pub(super) fn publish_preview(&self, preview: JobPreview) {
        self.0.signals.previews_out.put(preview);
    }

    pub(super) async fn previews(&self) -> Vec<JobPreview> {
        self.0.signals.previews_in.take(MAX_RECEIVED).await
    }

    pub(super) async fn received(&self) -> Vec<ReceivedState> {
        self.0.inbox.take(MAX_RECEIVED).await
    }

    pub(super) async fn connected(&self) {
        self.0.publishing.connected().await;
    }

    /// The state of the connections.
    pub fn health(&self) -> RedisHealth {
        let (pending, lag) = self.0.outbox.backlog();
        let signals = &self.0.signals;
        let links = [
            &self.0.publishing,
            &self.0.receiving,
            &signals.sending,
            &signals.receiving,
        ];
        RedisHealth {
            is_connected: links.iter().all(|link| link.is_up()),
            reason: links.iter().find_map(|link| link.failure()),
            pending,
            lag,
        }
    }

    pub(super) fn metrics(&self) -> &BrokerMetrics {
        &self.0.metrics
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let shared = &self.0;
        tokio::join!(
            shared.keep_publishing(&stop),
            shared.keep_receiving(&stop),
            shared.keep_waking(&stop),
            shared.keep_listening(&stop),
        );
    }
}

impl RedisShared {
    /// The set is consistent at any moment, also after a panic elsewhere.
    fn followed(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
