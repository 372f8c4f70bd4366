//! What every connection of the server needs.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::security::Security;
use super::tls::Tls;
use crate::auth::Verifier;
use crate::config::ServerConfig;
use crate::relay::Relay;
use crate::session::{SessionContext, Shards};

/// What every connection needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ServerState {
    pub(super) relay: Relay,
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) security: Arc<Security>,
    pub(super) tls: Option<Arc<Tls>>,
    /// What sessions share.
    pub(super) session: SessionContext,
    pub(super) shards: Shards,
    /// Connections that have come and gone, or were handed over.
    pub(super) served: Arc<watch::Sender<u64>>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}
