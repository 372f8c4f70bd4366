use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};
use url::Url;

use super::options::access::AccessOptions;
use super::options::database::DatabaseOptions;
use super::{WrongSetting, asked_to_stop, open_files};
use crate::config::{ComfyConfig, Config, RelayConfig, ServerConfig, StoreConfig};
use crate::relay::Relay;
use crate::server::{self, Server};

/// How many connections may wait to be accepted. Where a queue is full, a client waits for a second
/// before it tries again.
const BACKLOG: u32 = 4_096;

/// The longest time that can be set: clocks cannot count for ever.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// Run the relay
///
/// Follows the ComfyUI servers, which need not run yet, and serves http://LISTEN/ with a test page,
/// ws://LISTEN/ws/{job_id}, ws://LISTEN/ws/monitor and the HTTP API under /api/anime.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The address to listen on
    #[arg(
        long,
        env = "LISTEN",
        default_value = "127.0.0.1:8328",
        value_name = "HOST:PORT"
    )]
    listen: SocketAddr,

    /// The ComfyUI server, or several with commas between them
    #[arg(
        long,
        env = "COMFYUI_URL",
        default_value = "http://127.0.0.1:8188",
        value_delimiter = ',',
        value_parser = comfyui_url,
        value_name = "URL"
    )]
    comfyui_url: Vec<Url>,

    /// The folder with workflows (API format) that can be submitted by name
    #[arg(
        long,
        env = "WORKFLOWS",
        default_value = "comfy_workflows",
        value_name = "DIR"
    )]
    workflows: PathBuf,

    /// How long a subscriber waits for a job that nobody has registered yet
    #[arg(long, env = "WEBSOCKET_JOB_WAIT", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    websocket_job_wait: Duration,

    /// How often subscribers are pinged
    #[arg(long, env = "WEBSOCKET_PING_INTERVAL", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    websocket_ping_interval: Duration,

    /// How long a subscriber may be silent before it is given up
    #[arg(long, env = "WEBSOCKET_CONNECTION_TIMEOUT", default_value = "300", value_parser = seconds, value_name = "SECONDS")]
    websocket_connection_timeout: Duration,

    /// How often jobs that ended long ago are looked for and forgotten
    #[arg(long, env = "WEBSOCKET_CLEANUP_INTERVAL", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    websocket_cleanup_interval: Duration,

    /// How long a job is remembered after its end
    #[arg(long, env = "REMEMBER", default_value = "3600", value_parser = seconds, value_name = "SECONDS")]
    remember: Duration,

    /// How many states of one job are published a second, at the most; 0 for all of them. The first
    /// state, changes of status and the end are always published at once
    #[arg(long, env = "PUBLISH_RATE", default_value = "10", value_parser = publish_interval, value_name = "PER_SECOND")]
    publish_rate: Duration,

    /// How many threads hand states out to subscribers; half as many as there are cores by default
    #[arg(long, env = "FAN_OUT_THREADS", value_parser = clap::value_parser!(u16).range(1..=256), value_name = "COUNT")]
    fan_out_threads: Option<u16>,

    /// Whether states are written to many subscribers at once by io_uring
    #[arg(
        long,
        env = "IO_URING",
        default_value = "auto",
        value_enum,
        value_name = "WHEN"
    )]
    io_uring: IoUring,

    #[command(flatten)]
    access: AccessOptions,

    #[command(flatten)]
    database: DatabaseOptions,

    /// How long finished jobs and node runs are kept in the database; for ever by default. Rows that
    /// the relay did not make are never deleted
    #[arg(long, env = "RETENTION_DAYS", value_parser = days, value_name = "DAYS")]
    retention_days: Option<Duration>,
}

/// Whether io_uring is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum IoUring {
    /// Where the kernel has it and allows it
    Auto,
    /// Never
    Off,
}

impl TryFrom<ServeArgs> for Config {
    type Error = anyhow::Error;

    fn try_from(args: ServeArgs) -> anyhow::Result<Self> {
        let access = args.access.access(args.listen)?;
        let store = StoreConfig {
            database: args.database.choose()?,
            retention: args.retention_days,
            ..StoreConfig::default()
        };
        Ok(Self {
            store,
            comfy: ComfyConfig {
                urls: args.comfyui_url,
                ..ComfyConfig::default()
            },
            server: ServerConfig {
                listen: args.listen,
                ping_interval: args.websocket_ping_interval,
                connection_timeout: args.websocket_connection_timeout,
                job_wait: args.websocket_job_wait,
                fan_out_threads: args
                    .fan_out_threads
                    .map_or_else(half_the_cores, usize::from),
                io_uring: args.io_uring == IoUring::Auto,
                access,
                limits: args.access.limits(),
                tls: args.access.tls(),
                ..ServerConfig::default()
            },
            relay: RelayConfig {
                workflows: args.workflows,
                cleanup_interval: args.websocket_cleanup_interval,
                remember: args.remember,
                publish_interval: args.publish_rate,
                ..RelayConfig::default()
            },
        })
    }
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = Config::try_from(args).map_err(WrongSetting)?;
    if let Err(error) = server::check(&config.server) {
        return Err(WrongSetting(error.into()).into());
    }
    let limit = open_files::raise_limit();
    let listen = config.server.listen;
    let listener =
        bind(listen).with_context(|| format!("cannot listen on {listen} (--listen, LISTEN)"))?;
    tracing::info!("jobs are kept in {}", config.store.database);
    let relay = Relay::start(config.relay, config.comfy, &config.store);
    let relay = relay.await.context("cannot set up the HTTP client")?;
    let has_tls = config.server.tls.is_some();
    let server = Server::start(listener, relay.clone(), config.server)?;
    let scheme = if has_tls { "https" } else { "http" };
    tracing::info!("serving {scheme}://{}/", server.address());
    if let Some(limit) = limit {
        tokio::spawn(open_files::watch(limit));
    }
    asked_to_stop().await;
    tracing::info!("stopping");
    server.shutdown().await;
    relay.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Listens for many clients at once. Must be called within a runtime.
fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // The port of a relay that has just ended can be taken over. On Windows it would be taken away.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// One thread can keep a core busy, and those who read have something to do as well.
fn half_the_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// An address of a ComfyUI server.
pub(super) fn comfyui_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text.trim()).map_err(|error| format!("{error}; expected http://HOST:PORT"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a user and a password in the address are of no use here: sockets are opened without; \
             expected http://HOST:PORT"
                .to_owned(),
        );
    }
    match url.scheme() {
        "http" if url.has_host() && url.query().is_none() && url.fragment().is_none() => Ok(url),
        "http" => Err("expected http://HOST:PORT without query".to_owned()),
        "https" => {
            Err("https is not spoken here; put the relay next to ComfyUI and use http".to_owned())
        }
        other => Err(format!(
            "{other}:// is not spoken here; expected http://HOST:PORT"
        )),
    }
}

/// A whole number of seconds, at least one.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of seconds, at least 1".to_owned()),
        Ok(seconds) if seconds > MAX_SECONDS => Err(format!(
            "expected at most {MAX_SECONDS} seconds, which are ten years"
        )),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// The least time between two publications, from how many there may be a second.
fn publish_interval(text: &str) -> Result<Duration, String> {
    /// More than that is a flood by itself.
    const MAX_RATE: u32 = 1_000;
    match text.parse() {
        Ok(0) => Ok(Duration::ZERO),
        Ok(rate @ 1..=MAX_RATE) => Ok(Duration::from_secs(1) / rate),
        _ => Err(format!("expected a whole number from 0 to {MAX_RATE}")),
    }
}

/// A whole number of days, at least one.
fn days(text: &str) -> Result<Duration, String> {
    /// A hundred years.
    const MAX_DAYS: u64 = 36_500;
    match text.parse() {
        Ok(days @ 1..=MAX_DAYS) => Ok(Duration::from_secs(days * 86_400)),
        _ => Err(format!(
            "expected a whole number of days from 1 to {MAX_DAYS}"
        )),
    }
}
