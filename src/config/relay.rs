//! [`RelayConfig`]: how jobs are kept in memory and published.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "otel")]
use url::Url;

use super::duration::{parse_rate, parse_seconds, parse_seconds_or_none, rate, seconds};
use super::store::parse_switch;
use super::{RedisConfig, WebhookConfig};

/// How jobs are kept in memory and published.
///
/// `publish_interval` is the shortest time between two publications of a job whose status stays the same; zero
/// publishes the state after every event.
#[derive(Debug, Clone, clap::Args)]
pub struct RelayConfig {
    /// The folder of workflows (API format) that can be submitted by name. Need not exist.
    #[arg(skip = RelayConfig::default().workflows)]
    pub workflows: PathBuf,

    /// ComfyUI's output folder as the pipeline sees it: output_path is then a path that can be opened, and
    /// otherwise one below that folder
    #[arg(long, env = "OUTPUT_ROOT", value_name = "DIR")]
    pub output_root: Option<PathBuf>,

    /// The folder into which the files of completed jobs are copied, each job's into a folder of its id; nothing is
    /// copied by default
    #[arg(long, env = "KEEP_OUTPUTS", value_name = "DIR")]
    pub keep_outputs: Option<PathBuf>,

    /// How often the relay looks for ended jobs to forget
    #[arg(
        long = "websocket-cleanup-interval",
        env = "WEBSOCKET_CLEANUP_INTERVAL",
        default_value = seconds(RelayConfig::default().cleanup_interval),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub cleanup_interval: Duration,

    /// How long a job stays in memory after its end
    #[arg(
        long,
        env = "REMEMBER",
        default_value = seconds(RelayConfig::default().remember),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub remember: Duration,

    /// How long the details of a job stay in memory after its end at least: its graph, its nodes and what was predicted.
    #[arg(skip = RelayConfig::default().details_for)]
    pub details_for: Duration,

    /// Of how many jobs, those that ended last, the details stay in memory at least.
    #[arg(skip = RelayConfig::default().details_of)]
    pub details_of: usize,

    /// How long a producer that is not ComfyUI may report nothing before its job fails with producer_lost; 0 for ever
    #[arg(
        long,
        env = "PRODUCER_TIMEOUT",
        default_value = seconds(RelayConfig::default().producer_timeout),
        value_parser = parse_seconds_or_none,
        value_name = "SECONDS"
    )]
    pub producer_timeout: Duration,

    /// How submitted jobs go to ComfyUI: queue keeps them here, on the disk, until a server has room, and hands each in where it
    /// ends first; direct hands each in at once
    #[arg(long, env = "DISPATCH", value_enum, default_value_t = RelayConfig::default().dispatch, value_name = "queue|direct")]
    pub dispatch: Dispatch,

    /// How many prompts each server is kept busy with: one runs, the others are ready
    #[arg(
        long,
        env = "DISPATCH_DEPTH",
        default_value_t = RelayConfig::default().dispatch_depth,
        value_parser = parse_depth,
        value_name = "PROMPTS"
    )]
    pub dispatch_depth: usize,

    /// Whether waiting jobs of one priority are shared out fairly, by predicted seconds: to the subs of tokens, or by the label
    /// fair_share
    #[arg(
        long,
        env = "FAIR_SHARE",
        default_value = "off",
        value_parser = parse_switch,
        action = clap::ArgAction::Set,
        value_name = "on|off"
    )]
    pub fair_share: bool,

    /// How many jobs wait at most; a submission beyond is refused with queue_full. 0 for any number
    #[arg(
        long,
        env = "QUEUE_LIMIT",
        default_value_t = RelayConfig::default().queue_limit,
        value_name = "JOBS"
    )]
    pub queue_limit: usize,

    /// How many jobs of one sub, or of one label fair_share, wait at most; 0 for any number
    #[arg(
        long,
        env = "QUEUE_LIMIT_PER_SUB",
        default_value_t = RelayConfig::default().queue_limit_per_sub,
        value_name = "JOBS"
    )]
    pub queue_limit_per_sub: usize,

    /// A file with the key that seals keys of partner nodes while their jobs wait; made when it is first needed, and the same
    /// for all relays on one database. By default beside an SQLite database, or in the user's data folder
    #[arg(long, env = "QUEUE_KEY_FILE", value_name = "FILE")]
    pub queue_key_file: Option<PathBuf>,

    /// How long a server may not answer before its prompts count as lost, and run again on other servers; 0 for ever
    #[arg(
        long,
        env = "LOST_AFTER",
        default_value = seconds(RelayConfig::default().lost_after),
        value_parser = parse_seconds_or_none,
        value_name = "SECONDS"
    )]
    pub lost_after: Duration,

    /// Whether a server is to unload its models and free its memory before it gets the next job, after one has failed because
    /// its graphics card was out of memory
    #[arg(
        long,
        env = "FREE_AFTER_OOM",
        default_value = "off",
        value_parser = parse_switch,
        action = clap::ArgAction::Set,
        value_name = "on|off"
    )]
    pub free_after_oom: bool,

    /// An OpenTelemetry collector that gets a trace of each job that has ended, by OTLP over HTTP; its traces are at
    /// v1/traces below this address
    #[cfg(feature = "otel")]
    #[arg(
        long = "otel-exporter-otlp-endpoint",
        id = "otel_exporter_otlp_endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true,
        value_parser = parse_collector,
        value_name = "URL"
    )]
    pub otlp_endpoint: Option<Url>,

    /// Where states are published for other relays and services.
    #[arg(skip)]
    pub redis: Option<RedisConfig>,

    /// Where webhooks are sent.
    #[arg(skip)]
    pub webhook: WebhookConfig,

    /// How long a running job may go without an event before its state is published again.
    #[arg(skip = RelayConfig::default().heartbeat)]
    pub heartbeat: Duration,

    /// How often a relay looks at what other relays on its database have written, unless one of them wakes it.
    #[arg(skip = RelayConfig::default().look_interval)]
    pub look_interval: Duration,

    /// How many states of one job are published a second, at most; 0 for all of them. The first
    /// state, changes of status and the end are always published at once
    #[arg(
        long = "publish-rate",
        env = "PUBLISH_RATE",
        default_value = rate(RelayConfig::default().publish_interval),
        value_parser = parse_rate,
        value_name = "PER_SECOND"
    )]
    pub publish_interval: Duration,

    /// How many states of a job are queued for a subscriber that reads slowly. One that lags further skips to the
    /// newest state.
    #[arg(skip = RelayConfig::default().backlog)]
    pub backlog: usize,
}

/// How submitted jobs go to ComfyUI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dispatch {
    /// They wait in the relay's own queue until a server has room.
    Queue,
    /// They are handed in at once.
    Direct,
}

/// The most prompts that a server is kept busy with: more would wait where they can be lost.
const MAX_DEPTH: usize = 100;

#[cfg(feature = "otel")]
fn parse_collector(text: &str) -> Result<Url, String> {
    let is_usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let url = Url::parse(text).ok().filter(is_usable);
    let url = url.ok_or_else(|| "is not an address such as http://127.0.0.1:4318".to_owned())?;
    if url.username().is_empty() && url.password().is_none() {
        Ok(url)
    } else {
        Err("has a user or a password: put credentials into OTEL_EXPORTER_OTLP_HEADERS".to_owned())
    }
}

fn parse_depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth @ 1..=MAX_DEPTH) => Ok(depth),
        _ => Err(format!("expected a number from 1 to {MAX_DEPTH}")),
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            workflows: PathBuf::from("comfy_workflows"),
            output_root: None,
            keep_outputs: None,
            cleanup_interval: Duration::from_secs(60),
            remember: Duration::from_secs(3_600),
            details_for: Duration::from_secs(10),
            details_of: 100,
            // A producer that renders for minutes between two reports is not lost.
            producer_timeout: Duration::from_secs(900),
            dispatch: Dispatch::Queue,
            dispatch_depth: 2,
            fair_share: false,
            queue_key_file: None,
            queue_limit: 0,
            queue_limit_per_sub: 0,
            // A server that is restarted is back by then, with its models still to load.
            lost_after: Duration::from_secs(60),
            free_after_oom: false,
            #[cfg(feature = "otel")]
            otlp_endpoint: None,
            redis: None,
            webhook: WebhookConfig::default(),
            heartbeat: Duration::from_secs(1),
            look_interval: Duration::from_secs(1),
            publish_interval: Duration::from_millis(100),
            backlog: 64,
        }
    }
}
