//! What every connection of the server needs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::security::Security;
use super::thumbnails::Thumbnails;
use super::tls::Tls;
use crate::auth::Verifier;
use crate::config::ServerConfig;
use crate::relay::Relay;
use crate::session::{Monitor, SessionContext, ShardPool};

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    /// The relay's own API and its pages.
    Relay,
    /// ComfyUI's API.
    Comfy,
}

/// Shared by all connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ServerState {
    /// What is served to the connections of the listener.
    pub(super) interface: Interface,
    pub(super) relay: Relay,
    pub(super) session: SessionContext,
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) security: Arc<Security>,
    /// `None` if connections are not encrypted.
    pub(super) tls: Option<Arc<Tls>>,
    /// The threads that serve the subscribers of jobs.
    pub(super) shards: ShardPool,
    pub(super) monitor: Monitor,
    pub(super) thumbnails: Thumbnails,
    /// Cancelled when the server is to stop.
    pub(super) stop: CancellationToken,
    /// Everything that must end before the server has stopped.
    pub(super) tasks: TaskTracker,
}
