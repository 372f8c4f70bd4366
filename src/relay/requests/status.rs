//! The status of the relay as a whole, for monitors and health checks.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::BackendLabels;
use crate::job::Status;
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::backend::condition::Condition;
use crate::relay::backend::operation::Operation;
use crate::relay::backend::seen::SeenBackend;
use crate::relay::relay_list::RecentJob;
use crate::wire_schema::message_type;

/// The documented `system_status` message. Times are seconds since 1970, as existing monitor pages expect.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "system_status")]
#[schemars(rename = "SystemStatus", transform = message_type("system_status"))]
pub struct SystemStatus {
    /// When it was made.
    pub timestamp: f64,
    /// How many jobs there are.
    pub jobs: JobCounts,
    /// How many subscribers there are.
    pub websockets: Websockets,
    /// The ComfyUI servers.
    pub backends: Vec<BackendStatus>,
    /// The newest jobs of all relays on the database, the newest first.
    pub recent_jobs: Vec<RecentJob>,
}

/// How many jobs there are in memory and in the database, by status, those of other relays included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
pub struct JobCounts {
    /// In any status.
    pub total: usize,
    /// Those that are processed.
    pub active: usize,
    /// Those that wait.
    pub queued: usize,
    /// Those that completed.
    pub completed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that were cancelled.
    pub cancelled: usize,
}

/// How many subscribers there are, at all relays on the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Websockets {
    /// Connections that follow a job; one that follows several counts for each.
    pub total_connections: usize,
    /// Jobs that at least one connection follows.
    pub jobs_with_connections: usize,
}

/// One ComfyUI server, for monitors.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct BackendStatus {
    /// What it is called in messages.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Whether its socket is open.
    pub connected: bool,
    /// Another relay follows it, and says how it is.
    #[serde(
        rename = "followed_elsewhere",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_elsewhere: bool,
    /// `connected` if it is healthy.
    #[schemars(with = "Condition")]
    pub status: &'static str,
    /// Why it is not healthy, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many prompts run or wait there, those of all clients counted.
    pub queue_remaining: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// Since when its socket is not open, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<f64>,
}

/// One ComfyUI server, for health checks.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct BackendHealth {
    /// What it is called in messages.
    pub name: String,
    /// What operators have said of it.
    #[serde(skip_serializing_if = "BackendLabels::is_empty")]
    pub labels: BackendLabels,
    /// `connected` if it is healthy.
    #[schemars(with = "Condition")]
    pub status: &'static str,
    /// Whether nothing is wrong with it.
    #[serde(skip)]
    pub is_healthy: bool,
    /// Another relay follows it, and says how it is.
    #[serde(
        rename = "followed_elsewhere",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_elsewhere: bool,
    /// What operators have asked for, if it is to take nothing: `paused`, `draining`, `removing` or `removing_at_once`,
    /// whatever its status is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Operation>")]
    pub operation: Option<&'static str>,
    /// How many prompts ran when its queue was last received.
    pub queue_running: usize,
    /// How many prompts waited then.
    pub queue_pending: usize,
    /// Since when it is `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Timestamp>,
    /// Why it is not healthy, if that is known: of one that is `unreachable`, what came instead of a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many times as long as usual its jobs took in each of the last 24 hours: medians, the current hour last, `null`
    /// for an hour without jobs. Empty if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub speed: Vec<Option<f64>>,
}

impl Relay {
    /// The status of the relay as a whole, as monitors show it.
    pub fn system_status(&self) -> SystemStatus {
        let now = self.0.tracker.now();
        SystemStatus {
            timestamp: seconds(now),
            jobs: self.job_counts(),
            websockets: self.subscriber_count(),
            backends: self.backend_statuses(),
            recent_jobs: self.newest_jobs(),
        }
    }

    /// How many subscribers there are, at all relays on the database.
    pub fn subscriber_count(&self) -> Websockets {
        let (connections, peers) = (self.connection_count(), self.0.tracker.peers.counts());
        Websockets {
            total_connections: connections.total + peers.connections,
            jobs_with_connections: connections.jobs + peers.followed_jobs,
        }
    }

    /// The ComfyUI servers, as monitors show them.
    pub fn backend_statuses(&self) -> Vec<BackendStatus> {
        let backends = self.0.tracker.backends.iter();
        let now = self.0.tracker.now();
        backends
            .map(|backend| backend_status(backend, now))
            .collect()
    }

    /// How the sockets to the ComfyUI servers have fared since the start: the server, how often its socket was lost or replaced,
    /// and how often it was replaced because it was silent.
    pub fn socket_losses(&self) -> Vec<(String, u64, u64)> {
        let backends = self.0.tracker.backends.iter();
        let losses = backends.map(|backend| {
            let socket = &backend.state().socket;
            let name = backend.name().to_owned();
            (name, socket.disconnects, socket.replacements)
        });
        losses.collect()
    }

    /// How many jobs there are: those in memory, those that only the database remembers, and open ones of other relays.
    pub fn job_counts(&self) -> JobCounts {
        let jobs = self.0.tracker.registry();
        let count = |status| jobs.count(status) + jobs.stored.get(status);
        let peers = self.0.tracker.peers.counts();
        let active = count(Status::Processing) + peers.processing;
        let queued = count(Status::Queued) + peers.queued;
        let completed = count(Status::Completed);
        let (failed, cancelled) = (count(Status::Failed), count(Status::Cancelled));
        JobCounts {
            total: active + queued + completed + failed + cancelled,
            active,
            queued,
            completed,
            failed,
            cancelled,
        }
    }

    /// The ComfyUI servers, as health checks show them.
    pub fn backend_health(&self) -> Vec<BackendHealth> {
        let backends = self.0.tracker.backends.iter();
        let now = self.0.tracker.now();
        let learning = &self.0.tracker.estimator.learning;
        let health = backends.map(|backend| {
            let speed = learning.model().speed_of_day(backend.name(), now);
            backend_health(backend, speed, now)
        });
        health.collect()
    }
}

fn backend_health(backend: &Backend, speed: Vec<Option<f64>>, now: Timestamp) -> BackendHealth {
    let SeenBackend {
        report,
        is_elsewhere,
    } = backend.seen(now);
    let operation = backend.state().operation;
    BackendHealth {
        name: backend.name().to_owned(),
        labels: backend.labels.clone(),
        status: report.condition.as_str(),
        is_healthy: report.condition.is_healthy(),
        is_elsewhere,
        operation: Some(operation)
            .filter(|&operation| operation != Operation::Run)
            .map(Operation::as_str),
        queue_running: report.running,
        queue_pending: report.pending,
        unreachable_since: report
            .unreachable_since
            .filter(|_| report.condition == Condition::Unreachable)
            .map(in_seconds),
        reason: report.reason,
        speed: speed.into_iter().map(|hour| hour.map(in_percent)).collect(),
    }
}

fn backend_status(backend: &Backend, now: Timestamp) -> BackendStatus {
    let SeenBackend {
        report,
        is_elsewhere,
    } = backend.seen(now);
    BackendStatus {
        name: backend.name().to_owned(),
        url: backend.comfy.address().to_owned(),
        connected: report.is_connected,
        is_elsewhere,
        status: report.condition.as_str(),
        reason: report.reason,
        queue_remaining: report.remaining,
        version: report.version,
        unreachable_since: report.unreachable_since.map(seconds),
    }
}

/// A factor as it is published: to the hundredth.
fn in_percent(factor: f64) -> f64 {
    (factor * 100.0).round() / 100.0
}

/// The second in which a moment lies.
fn in_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}
