//! How the relay does, for operators and for the pages of the system that this one replaces.

use hyper::{Response, StatusCode};
use serde_json::{Map, json};

use crate::server::ServerState;
use crate::server::response::{self, Body};
use crate::session::now;

/// How many jobs, and how many connections of each, are listed one by one.
const MAX_DETAILS: usize = 100;

/// `GET /api/anime/health`. Strangers are told how the parts do, not where they are or what they do.
pub(in crate::server) fn health(state: &ServerState, is_trusted: bool) -> Response<Body> {
    let backends = state.relay.backend_health();
    let jobs = state.relay.job_counts();
    let database = state.relay.database_health();
    let healthy =
        database.is_connected && backends.iter().all(|backend| backend.status == "connected");
    let is_connected = if database.is_connected {
        "connected"
    } else {
        "unreachable"
    };
    let (comfyui, database) = match is_trusted {
        true => (
            json!(backends),
            json!({"status": is_connected, "kind": state.relay.database_kind(), "pending": database.pending}),
        ),
        false => {
            let unnamed = (1..).zip(&backends).map(|(number, backend)| {
                json!({"name": format!("comfyui-{number}"), "status": backend.status})
            });
            (unnamed.collect(), json!({"status": is_connected}))
        }
    };
    let health = json!({
        "status": if healthy { "healthy" } else { "degraded" },
        "service": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "timestamp": now(),
        "components": {
            "comfyui": comfyui,
            "database": database,
            "redis": {"status": "not_configured"},
            "jobs": {"active_count": jobs.active + jobs.queued, "total_tracked": jobs.total},
        },
    });
    response::json(StatusCode::OK, &health)
}

/// `GET /api/anime/websocket/status`. Strangers are told how many there are, not who follows what.
pub(in crate::server) fn websocket_status(state: &ServerState, is_trusted: bool) -> Response<Body> {
    let count = state.relay.connection_count();
    let (listed, truncated) = match is_trusted {
        true => state.relay.connections(MAX_DETAILS, MAX_DETAILS),
        false => Default::default(),
    };
    let details: Map<_, _> = listed
        .into_iter()
        .map(|(job, count, connections)| {
            let connections = connections.iter().map(|connection| {
                json!({
                    "connected_at": connection.connected_at(),
                    "user_info": connection.address(),
                    "last_ping": connection.received_at(),
                })
            });
            let connections: Vec<_> = connections.collect();
            let detail = json!({"connection_count": count, "connections": connections});
            (job.to_string(), detail)
        })
        .collect();
    let mut connections = json!({
        "total_connections": count.total,
        "jobs_with_connections": count.jobs,
        "connection_details": details,
    });
    if truncated {
        connections["truncated"] = true.into();
    }
    let status = json!({
        "status": "healthy",
        "websocket_manager": "active",
        "connections": connections,
        "endpoints": ["/ws/{job_id}", "/ws/monitor"],
    });
    response::json(StatusCode::OK, &status)
}
