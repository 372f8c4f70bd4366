use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Verifier;
use crate::config::ServerConfig;
use crate::relay::Relay;

/// What all sessions share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SessionContext {
    pub(crate) relay: Relay,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Arc<Verifier>,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
    /// What the server waits for when it stops.
    pub(crate) tasks: TaskTracker,
}
