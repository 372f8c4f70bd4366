//! Publications between relays: what the owner of a job publishes, the other relays and any other service receive.
//!
//! A relay without Redis is alone: publishing costs it nothing, and nothing is received. Over Redis, a state goes to the
//! documented channel of its job, and the newest state of each job is kept beside it. Nothing here ever waits for Redis, and
//! nothing decides who owns a job: the database does.

mod job_state;
mod message;
mod metrics;
mod preview;
mod redis;
mod report_queue;
mod state_queue;
mod wake;
mod wake_queue;

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use job_state::{JobState, Position, ReceivedState};

pub use self::redis::{RedisBroker, RedisHealth};
pub use metrics::BrokerMetrics;
pub use preview::{JobPreview, WantedJobs};
pub use report_queue::ReceivedReport;
pub use wake::{Hint, WakeUp};

#[cfg(test)]
pub(crate) use message::{head, read};
#[cfg(test)]
pub(crate) use state_queue::StateQueue;

use crate::config::RedisConfig;
use crate::job::JobId;

/// Shares the states of jobs with other relays. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Broker {
    /// There is nothing over which states could be shared.
    Alone,
    /// They are shared over a Redis server.
    Redis(RedisBroker),
}

impl Broker {
    /// The broker of the relay `owner`. Connects to nothing before [`Broker::run`].
    pub fn new(config: Option<&RedisConfig>, owner: &str) -> Self {
        match config {
            Some(config) => Self::Redis(RedisBroker::new(config.clone(), owner)),
            None => Self::Alone,
        }
    }

    /// Whether a Redis server can be used, with the time of its clock where it says so. Fails with the reason.
    pub async fn check(config: &RedisConfig) -> Result<Option<Timestamp>, String> {
        redis::check(config).await
    }

    /// Whether states are shared with nobody.
    pub fn is_alone(&self) -> bool {
        matches!(self, Self::Alone)
    }

    /// Publishes a state of a job that this relay owns. Of states that wait, only the newest of each job is sent. Never
    /// waits.
    pub fn publish(&self, state: JobState) {
        if let Self::Redis(broker) = self {
            broker.publish(state);
        }
    }

    /// Receives the states of a job from now on, the newest one first. Never waits.
    pub fn follow(&self, job: &JobId) {
        if let Self::Redis(broker) = self {
            broker.follow(job);
        }
    }

    /// Receives the states of these jobs, and of no others. Never waits.
    pub fn follow_only(&self, jobs: impl IntoIterator<Item = JobId>) {
        if let Self::Redis(broker) = self {
            broker.follow_only(jobs);
        }
    }

    /// The newest states of these jobs that were published, by whichever relay, as far as they can be read within a moment.
    pub async fn newest(&self, jobs: &[JobId]) -> HashMap<JobId, ReceivedState> {
        match self {
            Self::Redis(broker) if !jobs.is_empty() => broker.newest(jobs).await,
            _ => HashMap::new(),
        }
    }

    /// Waits for states of jobs that are followed: the newest of each, a final one never replaced. Waits for ever if it is
    /// alone. May be cancelled at any moment.
    pub async fn received(&self) -> Vec<ReceivedState> {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Redis(broker) => broker.received().await,
        }
    }

    /// Waits for reports of producers, the newest of each job. Waits for ever if it is alone. May be cancelled at any moment.
    pub async fn reported(&self) -> Vec<ReceivedReport> {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Redis(broker) => broker.reported().await,
        }
    }

    /// Counts a report that the relay refuses, and logs it at a bounded rate: there is nobody to answer.
    pub fn reject_report(&self, job: &JobId, reason: &dyn fmt::Display) {
        if let Self::Redis(broker) = self {
            broker.reject_report(job, reason);
        }
    }

    /// Has other relays look at what this one has written into the database. Hints that wait are sent together, each once.
    /// Never waits.
    pub fn hint(&self, hint: Hint) {
        if let Self::Redis(broker) = self {
            broker.hint(hint);
        }
    }

    /// Waits for wake-ups of other relays. Waits for ever if it is alone. May be cancelled at any moment.
    pub async fn woken(&self) -> Vec<WakeUp> {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Redis(broker) => broker.woken().await,
        }
    }

    /// Receives the previews of these jobs, and of no others, and has their owners know. To be repeated: owners forget it after
    /// a while. Never waits.
    pub fn want_previews(&self, jobs: WantedJobs) {
        if let Self::Redis(broker) = self {
            broker.want_previews(jobs);
        }
    }

    /// Publishes a preview of a job that this relay owns. Of previews that wait, only the newest of each job is sent, and none
    /// that is too large. Never waits.
    pub fn publish_preview(&self, preview: JobPreview) {
        if let Self::Redis(broker) = self
            && preview.fits()
        {
            broker.publish_preview(preview);
        }
    }

    /// Waits for previews that are wanted: the newest of each job. Waits for ever if it is alone. May be cancelled at any
    /// moment.
    pub async fn previews(&self) -> Vec<JobPreview> {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Redis(broker) => broker.previews().await,
        }
    }

    /// Waits until a server is connected that may have lost what was published before. Waits for ever if it is alone. May
    /// be cancelled at any moment.
    pub async fn connected(&self) {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Redis(broker) => broker.connected().await,
        }
    }

    /// Whether states are exchanged at this moment.
    pub fn is_connected(&self) -> bool {
        match self {
            Self::Alone => false,
            Self::Redis(broker) => broker.exchanges_states(),
        }
    }

    /// The state of the connection; `None` if it is alone.
    pub fn health(&self) -> Option<RedisHealth> {
        match self {
            Self::Alone => None,
            Self::Redis(broker) => Some(broker.health()),
        }
    }

    /// What was counted; `None` if it is alone.
    pub fn metrics(&self) -> Option<&BrokerMetrics> {
        match self {
            Self::Alone => None,
            Self::Redis(broker) => Some(broker.metrics()),
        }
    }

    /// Sends and receives until `stop`, then sends what waits, for a moment at most.
    pub async fn run(self, stop: CancellationToken) {
        if let Self::Redis(broker) = self {
            broker.run(stop).await;
        }
    }
}
