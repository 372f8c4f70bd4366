//! Settings, as plain data: one file a subject.
//!
//! Settings that users can change carry their flag and environment variable (clap derives). The others are for the
//! tests. Secrets are never printed.

mod access;
mod backend_labels;
mod comfy;
mod duration;
mod limits;
mod listen_address;
mod postgres;
mod postgres_url;
mod redis;
mod relay;
mod secret;
mod server;
mod server_url;
mod store;
mod tables;
mod webhook;

pub use self::redis::{RedisConfig, RedisHost};
pub use access::{AccessConfig, KeySource, Origins, PageOrigin, TlsConfig};
pub use backend_labels::{BackendLabelError, BackendLabels, LabelledBackend};
pub use comfy::{ComfyConfig, ComfyConnection};
pub use limits::LimitConfig;
pub use listen_address::parse_listen_address;
pub use postgres::{
    ChannelBinding, Keepalives, PostgresConfig, PostgresHost, SslMode, SslRoots, TargetSession,
};
pub use relay::{Dispatch, RelayConfig};
pub use secret::Secret;
pub use server::ServerConfig;
pub(crate) use server::half_the_cores;
pub use server_url::{ServerUrl, ServerUrlError, parse_first_comfyui_url, parse_relay_url};
pub(crate) use store::parse_switch;
pub use store::{Database, StoreConfig};
pub use tables::{PipelineTable, SchemaName};
pub use webhook::{WebhookConfig, WebhookHost, parse_threshold, parse_webhook_url};

/// All settings of a relay.
#[derive(Debug, Clone)]
pub struct Config {
    /// How ComfyUI servers are connected and followed.
    pub comfy: ComfyConfig,
    /// How clients are served.
    pub server: ServerConfig,
    /// How jobs are kept in memory and published.
    pub relay: RelayConfig,
    /// Where jobs are stored.
    pub store: StoreConfig,
}
