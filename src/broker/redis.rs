//! [`RedisBroker`]: states over a Redis server or a Redis Cluster. For each server, one task publishes and another one receives,
//! each with a connection of its own, so that neither waits for the other; nor does one server wait for another. Two more tasks
//! send and receive wake-ups and previews, at any server: no picture holds a state up.

mod check;
mod cluster;
mod connect;
mod kept;
mod link;
mod messages;
mod names;
mod node;
mod nodes;
mod publisher;
mod receiver;
mod redirect;
mod reports;
mod script;
mod signals;
mod topology;
mod wake_receiver;
mod wake_sender;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::job_state::{JobState, ReceivedState};
use super::metrics::BrokerMetrics;
use super::preview::{JobPreview, WantedJobs};
use super::report_queue::{ReceivedReport, ReportQueue};
use super::state_queue::StateQueue;
use super::wake::{Hint, WakeUp};
use crate::config::RedisConfig;
use crate::job::JobId;
pub(super) use check::check;
use link::Link;
use names::ChannelNames;
use node::RedisNode;
use nodes::NodeMap;
use signals::Signals;

/// How many states are taken over by the relay at once: it locks its jobs meanwhile.
const MAX_RECEIVED: usize = 256;

/// How many reports the relay takes at once.
const MAX_REPORTED: usize = 64;

/// States over Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RedisBroker(Arc<RedisShared>);

/// What the tasks and the relay share.
#[derive(Debug)]
struct RedisShared {
    config: RedisConfig,
    names: ChannelNames,
    /// This relay, as the heads of its states name it.
    owner: String,
    /// The servers to which states are published: of a Redis Cluster none, until a node has named them.
    nodes: watch::Sender<NodeMap>,
    /// States of jobs that no server holds, as far as is known.
    unplaced: StateQueue<JobState>,
    inbox: StateQueue<ReceivedState>,
    reports: ReportQueue,
    /// The jobs whose states are to be received.
    followed: Mutex<HashSet<JobId>>,
    /// A connection was made to a server that may have lost what was published before.
    connected: Notify,
    /// Something shows that the masters of the cluster may be others now.
    topology_changed: Notify,
    /// Whether the masters of the cluster are known.
    finding: Link,
    /// Whether reports of producers are received.
    reporting: Link,
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
        let nodes = if config.is_cluster {
            NodeMap::default()
        } else {
            NodeMap::alone(RedisNode::new(config.clone(), &metrics))
        };
        Self(Arc::new(RedisShared {
            names: ChannelNames::new(&config.prefix, config.has_sharded_channels),
            owner: owner.to_owned(),
            nodes: watch::Sender::new(nodes),
            unplaced: StateQueue::new(metrics.conflated.clone()),
            inbox: StateQueue::new(metrics.conflated.clone()),
            reports: ReportQueue::new(&metrics),
            followed: Mutex::default(),
            connected: Notify::new(),
            topology_changed: Notify::new(),
            finding: Link::new("learn the masters of the Redis Cluster", &config, &metrics),
            reporting: Link::new("receive reports of producers from Redis", &config, &metrics),
            signals: Signals::new(&config, &metrics),
            metrics,
            config,
        }))
    }

    pub(super) fn publish(&self, state: JobState) {
        self.0.publish(state);
    }

    pub(super) fn follow(&self, job: &JobId) {
        let is_new = self.0.followed().insert(job.clone());
        if is_new && let Some(node) = self.0.nodes().of(&self.0.names, job) {
            node.followed_changed.notify_one();
        }
    }

    pub(super) fn follow_only(&self, jobs: impl IntoIterator<Item = JobId>) {
        let jobs: HashSet<JobId> = jobs.into_iter().collect();
        let mut followed = self.0.followed();
        if *followed != jobs {
            *followed = jobs;
            drop(followed);
            for node in self.0.nodes().all() {
                node.followed_changed.notify_one();
            }
        }
    }

    pub(super) fn hint(&self, hint: Hint) {
        self.0.signals.outbox.put(hint);
    }

    pub(super) async fn woken(&self) -> Vec<WakeUp> {
        self.0.signals.inbox.take().await
    }

    pub(super) fn want_previews(&self, jobs: WantedJobs) {
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

    pub(super) async fn reported(&self) -> Vec<ReceivedReport> {
        self.0.reports.take(MAX_REPORTED).await
    }

    pub(super) fn reject_report(&self, job: &JobId, reason: &dyn fmt::Display) {
        self.0.reports.reject(job.as_str(), reason);
    }

    pub(super) async fn connected(&self) {
        self.0.connected.notified().await;
    }

    /// Whether states are sent and received, whatever becomes of previews, wake-ups and reports.
    pub(super) fn exchanges_states(&self) -> bool {
        let nodes = self.0.nodes();
        let are_found = !self.0.config.is_cluster || self.0.finding.is_up();
        are_found
            && (nodes.all().iter()).all(|node| node.publishing.is_up() && node.receiving.is_up())
    }

    /// The state of the connections.
    pub fn health(&self) -> RedisHealth {
        let shared = &self.0;
        let nodes = shared.nodes();
        let links = (nodes.all().iter()).flat_map(|node| [&node.publishing, &node.receiving]);
        let finding = shared.config.is_cluster.then_some(&shared.finding);
        let reporting = shared.config.takes_reports.then_some(&shared.reporting);
        let signals = [&shared.signals.sending, &shared.signals.receiving];
        let own = finding.into_iter().chain(reporting).chain(signals);
        let links: Vec<&Link> = own.chain(links).collect();
        let outboxes = nodes.all().iter().map(|node| &node.outbox);
        let backlogs = outboxes.chain([&shared.unplaced]).map(StateQueue::backlog);
        let (pending, lag) = backlogs
            .fold((0, Duration::ZERO), |(pending, lag), (more, longer)| {
                (pending + more, lag.max(longer))
            });
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
        let shared = self.0;
        let reading = async {
            if shared.config.takes_reports {
                shared.keep_reading_reports(&stop).await;
            }
        };
        // Boxed: the type of all of them is too deep for the compiler's limit.
        join_all([
            shared.run_servers(&stop).boxed(),
            reading.boxed(),
            shared.keep_waking(&stop).boxed(),
            shared.keep_listening(&stop).boxed(),
        ])
        .await;
    }
}

impl RedisShared {
    async fn run_servers(self: &Arc<Self>, stop: &CancellationToken) {
        if self.config.is_cluster {
            return self.run_cluster(stop).await;
        }
        let node = self.nodes().all()[0].clone();
        let leaving = async {
            stop.cancelled().await;
            node.left.cancel();
        };
        tokio::join!(self.run_node(node.clone(), stop), leaving);
    }

    fn publish(&self, state: JobState) {
        match self.nodes().of(&self.names, &state.job) {
            Some(node) => node.outbox.put(state),
            None => self.unplaced.put(state),
        }
    }

    fn nodes(&self) -> watch::Ref<'_, NodeMap> {
        self.nodes.borrow()
    }

    /// The set is consistent at any moment, also after a panic elsewhere.
    fn followed(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
