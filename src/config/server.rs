//! [`ServerConfig`]: how clients are served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::access::{AccessConfig, TlsConfig};
use super::duration::{parse_seconds, seconds};
use super::limits::LimitConfig;
use super::listen_address::parse_listen_address;

/// More fan-out threads than this help on no machine.
const MAX_FAN_OUT_THREADS: u16 = 256;

/// How clients are served.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerConfig {
    /// The address to listen on; a PORT alone is one of this machine, at 127.0.0.1
    #[arg(
        long,
        env = "LISTEN",
        default_value_t = ServerConfig::default().listen,
        display_order = 0,
        value_parser = parse_listen_address,
        value_name = "HOST:PORT"
    )]
    pub listen: SocketAddr,

    /// The address on which to serve ComfyUI's own API, so that its clients submit through the relay
    #[arg(
        long,
        env = "COMFY_LISTEN",
        display_order = 0,
        value_parser = parse_listen_address,
        value_name = "HOST:PORT"
    )]
    pub comfy_listen: Option<SocketAddr>,

    /// How long a subscriber waits for a job that nobody has registered yet
    #[arg(
        long = "websocket-job-wait",
        env = "WEBSOCKET_JOB_WAIT",
        default_value = seconds(ServerConfig::default().job_wait),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub job_wait: Duration,

    /// How often subscribers are pinged
    #[arg(
        long = "websocket-ping-interval",
        env = "WEBSOCKET_PING_INTERVAL",
        default_value = seconds(ServerConfig::default().ping_interval),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub ping_interval: Duration,

    /// How long a subscriber may send nothing, or read nothing, before it is disconnected; and how long its
    /// socket stays open after the end of its job
    #[arg(
        long = "websocket-connection-timeout",
        env = "WEBSOCKET_CONNECTION_TIMEOUT",
        default_value = seconds(ServerConfig::default().connection_timeout),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub connection_timeout: Duration,

    /// How many threads send states to subscribers; half as many as there are cores by default
    #[arg(
        long,
        env = "FAN_OUT_THREADS",
        default_value_t = half_the_cores(),
        hide_default_value = true,
        value_parser = fan_out_threads(),
        value_name = "COUNT"
    )]
    pub fan_out_threads: usize,

    /// Whether states are written to many subscribers at once with io_uring
    #[arg(
        long,
        env = "IO_URING",
        default_value = "auto",
        value_parser = io_uring(),
        action = ArgAction::Set,
        value_name = "WHEN"
    )]
    pub io_uring: bool,

    /// The folder in which thumbnails are kept; in the user's data folder by default
    #[arg(long, env = "CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// How many megabytes of thumbnails are kept; 0 for none
    #[arg(
        long,
        env = "CACHE_SIZE",
        default_value_t = ServerConfig::default().cache_size,
        value_name = "MEGABYTES"
    )]
    pub cache_size: u64,

    /// How often an event stream carries a comment: proxies cut streams that are silent.
    #[arg(skip = ServerConfig::default().comment_interval)]
    pub comment_interval: Duration,

    /// How long a client may take over a TLS handshake.
    #[arg(skip = ServerConfig::default().handshake_timeout)]
    pub handshake_timeout: Duration,

    /// How long a client may take to send the head of a request, and how long a connection may be idle between two.
    #[arg(skip = ServerConfig::default().head_timeout)]
    pub head_timeout: Duration,

    /// How long a client may take to send the body of a request.
    #[arg(skip = ServerConfig::default().body_timeout)]
    pub body_timeout: Duration,

    /// How often the files with keys and certificates are checked for changes.
    #[arg(skip = ServerConfig::default().reload_interval)]
    pub reload_interval: Duration,

    /// Which clients may use the relay.
    #[command(flatten)]
    pub access: AccessConfig,

    /// The certificate and its key; `None` for connections without TLS.
    #[command(flatten)]
    pub tls: Option<TlsConfig>,

    /// How much one client may ask of the relay.
    #[command(flatten)]
    pub limits: LimitConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8328)),
            comfy_listen: None,
            ping_interval: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(300),
            job_wait: Duration::from_secs(30),
            fan_out_threads: 1,
            io_uring: true,
            cache_dir: None,
            cache_size: 256,
            comment_interval: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            reload_interval: Duration::from_secs(2),
            access: AccessConfig::default(),
            limits: LimitConfig::default(),
            tls: None,
        }
    }
}

/// Half of the cores, at least one: one fan-out thread can keep a core busy, and local clients need the other half.
pub(crate) fn half_the_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, MAX_FAN_OUT_THREADS.into())
}

fn fan_out_threads() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16)
        .range(1..=i64::from(MAX_FAN_OUT_THREADS))
        .map(usize::from)
}

fn io_uring() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new([
        PossibleValue::new("auto")
            .alias("true")
            .help("Where the kernel supports and allows it"),
        PossibleValue::new("off").alias("false").help("Never"),
    ])
    .map(|when| when == "auto")
}
