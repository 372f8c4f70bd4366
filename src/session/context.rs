use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fan_out_metrics::FanOutMetrics;
use super::permits::ConnectionPermit;
use super::rate::Rate;
use crate::auth::{Permissions, Verifier};
use crate::config::ServerConfig;
use crate::relay::Relay;

/// What all sessions share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SessionContext {
    pub(crate) relay: Relay,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Arc<Verifier>,
    /// The limit of requests, which counts the jobs that a socket has looked for, too.
    pub(crate) requests: Rate,
    /// What the fan-out threads count.
    pub(crate) fan_out: FanOutMetrics,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
    /// What the server waits for when it stops.
    pub(crate) tasks: TaskTracker,
}

/// What a session is authorised by, and holds until it ends. Small: every subscriber has one.
#[derive(Debug)]
pub(crate) struct Admission {
    /// What its client may do, and until when.
    pub(crate) permissions: Permissions,
    /// The permit of the connection, and, behind a trusted proxy, that of the client.
    pub(crate) _permits: [Option<ConnectionPermit>; 2],
}
