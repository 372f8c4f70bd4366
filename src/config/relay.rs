//! [`RelayConfig`]: how jobs are kept in memory and published.

use std::path::PathBuf;
use std::time::Duration;

use super::duration::{parse_rate, parse_seconds, parse_seconds_or_none, rate, seconds};

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

    /// How long a producer that is not ComfyUI may report nothing before its job fails with producer_lost; 0 for ever
    #[arg(
        long,
        env = "PRODUCER_TIMEOUT",
        default_value = seconds(RelayConfig::default().producer_timeout),
        value_parser = parse_seconds_or_none,
        value_name = "SECONDS"
    )]
    pub producer_timeout: Duration,

    /// How long a running job may go without an event before its state is published again.
    #[arg(skip = RelayConfig::default().heartbeat)]
    pub heartbeat: Duration,

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

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            workflows: PathBuf::from("comfy_workflows"),
            output_root: None,
            keep_outputs: None,
            cleanup_interval: Duration::from_secs(60),
            remember: Duration::from_secs(3_600),
            // A producer that renders for minutes between two reports is not lost.
            producer_timeout: Duration::from_secs(900),
            heartbeat: Duration::from_secs(1),
            publish_interval: Duration::from_millis(100),
            backlog: 64,
        }
    }
}
