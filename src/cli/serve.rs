//! `comfy-relay serve`: runs the relay until it is asked to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::builder::{PathBufValueParser, TypedValueParser};
use tokio::net::{TcpListener, TcpSocket};

use super::exit_code::WrongSetting;
use super::open_files;
use super::options::access::AccessOptions;
use super::options::database::{DatabaseOptions, create_folder, data_folder};
use super::options::redis::RedisOptions;
use super::service_manager;
use super::shutdown_signal::shutdown_signal;
use crate::config::{
    ComfyConfig, Config, Database, RelayConfig, ServerConfig, StoreConfig, WebhookConfig,
};
use crate::relay::{Relay, RelayStartError};
use crate::server::{self, Server};

/// How many connections may wait to be accepted. If the queue is full, a client retries only after a second.
const BACKLOG: u32 = 4_096;

/// Run the relay
///
/// Follows the ComfyUI servers, which need not run yet, and serves the dashboard at http://LISTEN/,
/// ws://LISTEN/ws/{job_id}, ws://LISTEN/ws/monitor and the HTTP API under /api/anime. ComfyUI's own API is
/// served at COMFY_LISTEN.
///
/// A secret can be in a file: the variable NAME_FILE names the file, as AUTH_JWT_SECRET_FILE does. PORT is
/// the port to listen on where LISTEN is not set, and COMFYUI_BACKENDS another name of COMFYUI_URL.
// A heading holds for all flags that follow: groups with a heading come last, or reset it.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    access: AccessOptions,

    #[command(flatten, next_help_heading = None::<&str>)]
    server: ServerConfig,

    #[command(flatten, next_help_heading = None::<&str>)]
    comfy: ComfyConfig,

    #[command(flatten)]
    relay: RelayConfig,

    /// The folder of workflows (API format) that can be submitted by name; comfy_workflows by default, which
    /// need not exist
    #[arg(
        long,
        env = "WORKFLOWS",
        value_parser = PathBufValueParser::new().try_map(existing_folder),
        value_name = "DIR"
    )]
    workflows: Option<PathBuf>,

    #[command(flatten)]
    database: DatabaseOptions,

    #[command(flatten)]
    store: StoreConfig,

    #[command(flatten)]
    redis: RedisOptions,

    #[command(flatten)]
    webhook: WebhookConfig,
}

impl ServeArgs {
    /// The settings as the relay takes them. Fails with everything that contradicts itself.
    pub(super) fn into_config(mut self) -> Result<Config, Vec<anyhow::Error>> {
        let mut problems = self.contradictions();
        problems.extend(self.access.apply_to(&mut self.server).err());
        let database = self.database.database();
        let redis = self.redis.redis();
        let (database, redis) = match (database, redis) {
            (Ok(database), Ok(redis)) if problems.is_empty() => (database, redis),
            (database, redis) => {
                problems.extend(database.err());
                problems.extend(redis.err());
                return Err(problems);
            }
        };
        self.store.database = database;
        self.relay.redis = redis;
        self.relay.webhook = self.webhook;
        let cache_dir = self.server.cache_dir.take();
        self.server.cache_dir = cache_dir.or_else(|| Some(data_folder()?.join("thumbnails")));
        if let Database::Postgres(_) = self.store.database {
            let key_file = self.relay.queue_key_file.take();
            self.relay.queue_key_file = key_file.or_else(|| Some(data_folder()?.join("queue.key")));
        }
        if let Some(folder) = self.workflows {
            self.relay.workflows = folder;
        }
        Ok(Config {
            comfy: self.comfy,
            server: self.server,
            relay: self.relay,
            store: self.store,
        })
    }

    /// The settings that name the database, for what is said of it.
    pub(super) fn database_settings(&self) -> &'static str {
        self.database.settings()
    }

    /// Settings that contradict each other.
    fn contradictions(&self) -> Vec<anyhow::Error> {
        let mut found = Vec::new();
        if let Some([one, other]) = self.comfy.repeated() {
            found.push(anyhow!(
                "{one} and {other} are one server: name it once (--comfyui-url, COMFYUI_URL)"
            ));
        }
        if let Some(entry) = self.comfy.idle_labels() {
            let servers: Vec<String> = self.comfy.urls.iter().map(|url| url.name()).collect();
            found.push(anyhow!(
                "the labels of {:?} are for no server, or there twice (--backend-labels, BACKEND_LABELS); the servers are: {}",
                entry.name,
                servers.join(", ")
            ));
        }
        let ServerConfig {
            ping_interval,
            connection_timeout,
            ..
        } = &self.server;
        if ping_interval > connection_timeout {
            found.push(anyhow!(
                "clients are pinged every {} s (--websocket-ping-interval, WEBSOCKET_PING_INTERVAL), but disconnected \
                 if they are silent for {} s (--websocket-connection-timeout, WEBSOCKET_CONNECTION_TIMEOUT): ping them \
                 more often",
                ping_interval.as_secs(),
                connection_timeout.as_secs()
            ));
        }
        found
    }
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let database_settings = args.database_settings();
    let config = args.into_config().map_err(WrongSetting::all)?;
    create_folder(&config.store.database).map_err(WrongSetting)?;
    if let Err(error) = server::check(&config.server) {
        return Err(WrongSetting(error.into()).into());
    }
    let limit = open_files::raise_limit();
    let listen = config.server.listen;
    let listener =
        bind(listen).with_context(|| format!("cannot listen on {listen} (--listen, LISTEN)"))?;
    let comfy_listener = config.server.comfy_listen.map(|listen| {
        bind(listen)
            .with_context(|| format!("cannot listen on {listen} (--comfy-listen, COMFY_LISTEN)"))
    });
    let comfy_listener = comfy_listener.transpose()?;
    tracing::info!("storing jobs in {}", config.store.database);
    if let Some(redis) = &config.relay.redis {
        tracing::info!("publishing states to {redis}");
    }
    let relay = Relay::start(config.relay, config.comfy, &config.store);
    let relay = relay.await.map_err(|error| {
        let settings = match &error {
            RelayStartError::Database { .. } => format!(" ({database_settings})"),
            RelayStartError::Comfy(_) | RelayStartError::Webhooks(_) => String::new(),
            #[cfg(feature = "otel")]
            RelayStartError::Traces(_) => String::new(),
        };
        WrongSetting(anyhow!("{:#}{settings}", anyhow!(error)))
    })?;
    let has_tls = config.server.tls.is_some();
    let server = Server::start(listener, relay.clone(), config.server)?;
    let scheme = if has_tls { "https" } else { "http" };
    tracing::info!("serving {scheme}://{}/", server.address());
    if let Some(listener) = comfy_listener {
        let address = server.serve_comfy(listener)?;
        tracing::info!("serving ComfyUI's API at {scheme}://{address}/");
    }
    if let Some(limit) = limit {
        tokio::spawn(open_files::watch(limit));
    }
    service_manager::ready();
    tokio::spawn(service_manager::watch());
    shutdown_signal().await;
    tracing::info!("stopping");
    service_manager::stopping();
    server.shutdown().await;
    relay.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Accepts a folder that exists: one that was named and is not there is a mistake.
fn existing_folder(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.is_dir() {
        Ok(path)
    } else {
        Err("there is no such folder")
    }
}

/// Binds a listener with a long queue. Must be called within a runtime.
pub(super) fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Lets a restarted relay bind the port at once. On Windows it would let a second relay take the port over.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}
