//! `GET /api/anime/health` and `GET /api/anime/websocket/status`: how the relay is doing, in the shape
//! that health checks and pages of the system before it expect.

use std::net::IpAddr;
use std::time::Duration;

use hyper::{Response, StatusCode};
use indexmap::IndexMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::broker::RedisHealth;
use crate::job::JobId;
use crate::relay::{BackendHealth, Condition, ListedConnection};
use crate::server::contract::endpoint::Endpoint;
use crate::server::response::{self, Body};
use crate::server::state::ServerState;
use crate::session::now;
use crate::store::MirrorHealth;

/// How many jobs, and how many connections of each, are listed one by one.
const MAX_DETAILS: usize = 100;

/// The lag from which on the pipeline's table is behind: longer than a running job waits for its turn.
const MIRROR_LAG: Duration = Duration::from_secs(5);

#[derive(Debug, JsonSchema, Serialize)]
struct HealthAnswer {
    /// `healthy` or `degraded`.
    #[schemars(extend("enum" = ["healthy", "degraded"]))]
    status: &'static str,
    service: &'static str,
    version: &'static str,
    timestamp: Timestamp,
    components: Components,
}

#[derive(Debug, JsonSchema, Serialize)]
struct Components {
    comfyui: Vec<BackendComponent>,
    database: DatabaseComponent,
    mirror: MirrorComponent,
    redis: RedisComponent,
    queue: QueueComponent,
    #[serde(skip_serializing_if = "Option::is_none")]
    fan_out: Option<FanOutComponent>,
    jobs: JobsComponent,
}

/// A caller without the scope `monitor` gets a number in place of the backend's name.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
enum BackendComponent {
    Named(BackendHealth),
    Numbered {
        name: String,
        #[schemars(with = "Condition")]
        status: &'static str,
    },
}

#[derive(Debug, JsonSchema, Serialize)]
struct DatabaseComponent {
    /// `connected` or `unreachable`.
    #[schemars(extend("enum" = ["connected", "unreachable"]))]
    status: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    details: Option<DatabaseDetails>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct DatabaseDetails {
    /// `sqlite` or `postgresql`.
    kind: &'static str,
    /// How many jobs have a state that is not written yet.
    pending: usize,
}

/// The pipeline's table.
#[derive(Debug, JsonSchema, Serialize)]
struct MirrorComponent {
    /// `no_table`, `current` or `behind`.
    #[schemars(extend("enum" = ["no_table", "current", "behind"]))]
    status: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    details: Option<MirrorDetails>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct MirrorDetails {
    /// Its name.
    table: String,
    /// How many jobs have a state that the table does not show yet.
    pending: usize,
    /// How long the oldest of them has waited.
    lag_seconds: f64,
    /// How many states the table has refused since the start.
    refused: u64,
}

#[derive(Debug, JsonSchema, Serialize)]
struct RedisComponent {
    /// `not_configured`, `connected` or `unreachable`.
    #[schemars(extend("enum" = ["not_configured", "connected", "unreachable"]))]
    status: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    details: Option<RedisDetails>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct RedisDetails {
    /// How many jobs have a state that is not sent yet.
    pending: usize,
    /// How long the oldest of them has waited.
    lag_seconds: f64,
    /// Why it is unreachable, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The relay's own queue.
#[derive(Debug, JsonSchema, Serialize)]
struct QueueComponent {
    /// `running` or `paused`.
    #[schemars(extend("enum" = ["running", "paused"]))]
    status: &'static str,
}

#[derive(Debug, JsonSchema, Serialize)]
struct FanOutComponent {
    threads: usize,
    /// Those that have ended before their time since the start.
    replaced: usize,
}

#[derive(Debug, JsonSchema, Serialize)]
struct JobsComponent {
    active_count: usize,
    total_tracked: usize,
}

#[derive(Debug, JsonSchema, Serialize)]
struct WebsocketAnswer {
    status: &'static str,
    websocket_manager: &'static str,
    connections: ConnectionsAnswer,
    endpoints: [&'static str; 3],
}

#[derive(Debug, JsonSchema, Serialize)]
struct ConnectionsAnswer {
    /// At all relays on the database; a connection that follows several jobs counts for each.
    total_connections: usize,
    jobs_with_connections: usize,
    connection_details: IndexMap<JobId, JobConnections>,
    /// Present if the details are not all of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Debug, JsonSchema, Serialize)]
struct JobConnections {
    connection_count: usize,
    connections: Vec<ConnectionDetail>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct ConnectionDetail {
    connected_at: Timestamp,
    user_info: IpAddr,
    last_ping: Timestamp,
    /// The relay to which it is connected.
    relay: String,
}

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let (health, connections) = ("/api/anime/health", "/api/anime/websocket/status");
    vec![
        Endpoint::get("health", health, "How the relay and its parts are").answers::<HealthAnswer>(
            200,
            "Without the scope monitor, servers have numbers for names.",
        ),
        Endpoint::get("connections", connections, "Who is connected")
            .answers::<WebsocketAnswer>(200, "Without the scope monitor, only how many."),
    ]
}

/// Answers with the state of every component. Only a trusted caller gets names, queues and counts.
pub(in crate::server) fn health(state: &ServerState, is_trusted: bool) -> Response<Body> {
    let backends = state.relay.backend_health();
    let jobs = state.relay.job_counts();
    let database = state.relay.database_health();
    let redis = state.relay.redis_health();
    let is_healthy = database.is_connected
        && redis.as_ref().is_none_or(|redis| redis.is_connected)
        && backends.iter().all(|backend| backend.is_healthy);
    let answer = HealthAnswer {
        status: if is_healthy { "healthy" } else { "degraded" },
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: now(),
        components: Components {
            comfyui: backend_components(backends, is_trusted),
            database: DatabaseComponent {
                status: if database.is_connected {
                    "connected"
                } else {
                    "unreachable"
                },
                details: is_trusted.then(|| DatabaseDetails {
                    kind: state.relay.database_kind(),
                    pending: database.pending,
                }),
            },
            mirror: mirror_component(state.relay.mirror_health(), is_trusted),
            redis: redis_component(redis, is_trusted),
            queue: QueueComponent {
                status: if state.relay.is_queue_paused() {
                    "paused"
                } else {
                    "running"
                },
            },
            fan_out: is_trusted.then(|| FanOutComponent {
                threads: state.shards.threads(),
                replaced: state.shards.replaced(),
            }),
            jobs: JobsComponent {
                active_count: jobs.active + jobs.queued,
                total_tracked: jobs.total,
            },
        },
    };
    response::json(StatusCode::OK, &answer)
}

fn redis_component(redis: Option<RedisHealth>, is_trusted: bool) -> RedisComponent {
    let Some(redis) = redis else {
        return RedisComponent {
            status: "not_configured",
            details: None,
        };
    };
    RedisComponent {
        status: if redis.is_connected {
            "connected"
        } else {
            "unreachable"
        },
        details: is_trusted.then_some(RedisDetails {
            pending: redis.pending,
            lag_seconds: redis.lag.as_secs_f64(),
            reason: redis.reason,
        }),
    }
}

fn mirror_component(mirror: MirrorHealth, is_trusted: bool) -> MirrorComponent {
    let Some(table) = mirror.table else {
        return MirrorComponent {
            status: "no_table",
            details: None,
        };
    };
    MirrorComponent {
        status: if mirror.lag < MIRROR_LAG {
            "current"
        } else {
            "behind"
        },
        details: is_trusted.then_some(MirrorDetails {
            table,
            pending: mirror.pending,
            lag_seconds: mirror.lag.as_secs_f64(),
            refused: mirror.refused,
        }),
    }
}

fn backend_components(backends: Vec<BackendHealth>, is_trusted: bool) -> Vec<BackendComponent> {
    if is_trusted {
        return backends.into_iter().map(BackendComponent::Named).collect();
    }
    let numbered = (1..).zip(backends);
    let numbered = numbered.map(|(number, backend)| BackendComponent::Numbered {
        name: format!("comfyui-{number}"),
        status: backend.status,
    });
    numbered.collect()
}

/// Answers with the counts of connections. Only a trusted caller gets the details of each.
pub(in crate::server) fn websocket_status(state: &ServerState, is_trusted: bool) -> Response<Body> {
    let count = state.relay.subscriber_count();
    let (listed, truncated) = if is_trusted {
        state.relay.connections(MAX_DETAILS, MAX_DETAILS)
    } else {
        Default::default()
    };
    let details = listed.into_iter().map(|it| {
        let connections = it.connections.into_iter();
        let detail = JobConnections {
            connection_count: it.count,
            connections: connections.map(ConnectionDetail::of).collect(),
        };
        (it.job, detail)
    });
    let answer = WebsocketAnswer {
        status: "healthy",
        websocket_manager: "active",
        connections: ConnectionsAnswer {
            total_connections: count.total_connections,
            jobs_with_connections: count.jobs_with_connections,
            connection_details: details.collect(),
            truncated,
        },
        endpoints: ["/ws/{job_id}", "/ws/jobs", "/ws/monitor"],
    };
    response::json(StatusCode::OK, &answer)
}

impl ConnectionDetail {
    fn of(connection: ListedConnection) -> Self {
        Self {
            connected_at: connection.connected_at,
            user_info: connection.address,
            last_ping: connection.received_at,
            relay: connection.relay,
        }
    }
}
