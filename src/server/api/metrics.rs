//! `GET /metrics`, in Prometheus text format.

use hyper::{Response, StatusCode};
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::auth::Scope;
use crate::relay::Condition;
use crate::server::contract::endpoint::Endpoint;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;

/// A gauge for each value of two labels.
type StatusGauge = Family<[(&'static str, String); 2], Gauge>;

/// A counter for each value of one label.
type LabelledCounter = Family<[(&'static str, String); 1], Counter>;

/// A gauge for each value of one label.
type LabelledGauge = Family<[(&'static str, String); 1], Gauge>;

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let metrics = Endpoint::get("metrics", "/metrics", "Metrics for Prometheus")
        .needs(&[Scope::Monitor])
        .answers_media(200, "Text in the format of Prometheus.", CONTENT_TYPE)
        .fails(500, &["metrics_broken"]);
    vec![metrics]
}

/// Answers with the counters since the start, and with gauges of the present state.
pub(in crate::server) fn metrics(state: &ServerState) -> Result<Response<Body>, ApiError> {
    let mut registry = Registry::with_prefix("comfy_relay");
    state.relay.register_metrics(&mut registry);
    state.security.register_metrics(&mut registry);
    state.session.fan_out.register(&mut registry);
    register_gauges(state, &mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| {
        tracing::error!(%error, "cannot encode the metrics");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics_broken",
            "cannot encode the metrics",
        )
    })?;
    Ok(response::full(StatusCode::OK, CONTENT_TYPE, text))
}

fn register_queue(state: &ServerState, registry: &mut Registry) {
    registry.register(
        "queue_paused",
        "1 if an operator has paused the relay's own queue",
        ConstGauge::new(u64::from(state.relay.is_queue_paused())),
    );
    registry.register(
        "queue_length",
        "Jobs that wait for a server in the queue, those of other relays on the database included",
        ConstGauge::new(state.relay.queue_length() as u64),
    );
}

fn register_gauges(state: &ServerState, registry: &mut Registry) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version of the running relay", build);
    let (open, connected, queue) = (
        LabelledGauge::default(),
        LabelledGauge::default(),
        LabelledGauge::default(),
    );
    let counts = state.relay.job_counts();
    for (status, jobs) in [("queued", counts.queued), ("processing", counts.active)] {
        set(&open, ("status", status.to_owned()), jobs as u64);
    }
    let statuses = StatusGauge::default();
    for backend in state.relay.backend_statuses() {
        let label = || ("backend", backend.name.clone());
        set(&connected, label(), u64::from(backend.connected));
        for condition in Condition::ALL.map(Condition::as_str) {
            let labels = [label(), ("status", condition.to_owned())];
            let is_so = i64::from(condition == backend.status);
            statuses.get_or_create(&labels).set(is_so);
        }
        if let Some(remaining) = backend.queue_remaining {
            set(&queue, label(), remaining);
        }
    }
    register_sockets(state, registry);
    registry.register("jobs_open", "Jobs that have not ended", open);
    registry.register(
        "backend_connected",
        "1 if the socket to the ComfyUI server is open",
        connected,
    );
    registry.register(
        "backend_status",
        "1 for the status that the ComfyUI server has, 0 for each other",
        statuses,
    );
    registry.register(
        "backend_queue_length",
        "Prompts of all clients that run or wait on the ComfyUI server, as last received",
        queue,
    );
    register_queue(state, registry);
    let subscribers = ConstGauge::new(state.relay.connection_count().total as u64);
    registry.register("subscribers", "Connections that follow a job", subscribers);
    registry.register(
        "fan_out_threads_replaced",
        "Threads that send states to subscribers and have ended before their time",
        ConstCounter::new(state.shards.replaced() as u64),
    );
    let database = state.relay.database_health();
    registry.register(
        "recorder_backlog",
        "Jobs whose newest state is not written yet",
        ConstGauge::new(database.pending as u64),
    );
    registry.register(
        "database_connected",
        "1 if the last attempt to write succeeded",
        ConstGauge::new(u64::from(database.is_connected)),
    );
    register_mirror(state, registry);
    register_redis(state, registry);
}

fn register_sockets(state: &ServerState, registry: &mut Registry) {
    let (lost, silent) = (LabelledCounter::default(), LabelledCounter::default());
    for (backend, losses, silences) in state.relay.socket_losses() {
        let label = [("backend", backend)];
        lost.get_or_create(&label).inc_by(losses);
        silent.get_or_create(&label).inc_by(silences);
    }
    registry.register(
        "backend_disconnects",
        "WebSockets to the ComfyUI server that were lost or replaced",
        lost,
    );
    registry.register(
        "backend_silences",
        "Of these, those that were replaced because nothing was received while a prompt ran",
        silent,
    );
}

/// A relay without Redis has none of them.
fn register_redis(state: &ServerState, registry: &mut Registry) {
    let Some(redis) = state.relay.redis_health() else {
        return;
    };
    registry.register(
        "redis_connected",
        "1 if states are sent to Redis and received from there",
        ConstGauge::new(u64::from(redis.is_connected)),
    );
    registry.register(
        "redis_backlog",
        "Jobs whose newest state is not sent to Redis yet",
        ConstGauge::new(redis.pending as u64),
    );
    registry.register(
        "redis_lag_seconds",
        "How long the oldest state that is not sent to Redis yet has waited",
        ConstGauge::new(redis.lag.as_secs_f64()),
    );
}

fn register_mirror(state: &ServerState, registry: &mut Registry) {
    let mirror = state.relay.mirror_health();
    registry.register(
        "mirror_lag_seconds",
        "How long the oldest state that the pipeline's table does not show yet has waited",
        ConstGauge::new(mirror.lag.as_secs_f64()),
    );
    registry.register(
        "mirror_backlog",
        "Jobs whose newest state the pipeline's table does not show yet",
        ConstGauge::new(mirror.pending as u64),
    );
    registry.register(
        "mirror_refused",
        "States that the pipeline's table has refused, wholly or in part",
        ConstCounter::new(mirror.refused),
    );
}

fn set(family: &LabelledGauge, label: (&'static str, String), value: u64) {
    // A gauge is an i64, which no count of anything in memory exceeds.
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    family.get_or_create(&[label]).set(value);
}
