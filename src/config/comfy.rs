//! [`ComfyConfig`]: how ComfyUI servers are connected and followed.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::access::parse_network;
use super::backend_labels::{BackendLabels, LabelledBackend, parse_labelled_backend};
use super::duration::{parse_seconds, seconds};
use super::secret::Secret;
use super::server_url::{ServerUrl, parse_comfyui_url};
use super::store::parse_switch;

/// How ComfyUI servers are connected and followed.
#[derive(Debug, Clone, clap::Args)]
pub struct ComfyConfig {
    /// The ComfyUI server, or several with commas between them. USER:PASSWORD@ in front of a host is sent as HTTP Basic
    /// credentials
    #[arg(
        long = "comfyui-url",
        env = "COMFYUI_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8188",
        value_delimiter = ',',
        value_parser = parse_comfyui_url,
        value_name = "URL"
    )]
    pub urls: Vec<ServerUrl>,

    /// Labels of the servers, which jobs can ask for: NAME:KEY=TEXT,KEY=TEXT, where NAME is a server's host, port and path; several
    /// servers with semicolons between them
    #[arg(
        long = "backend-labels",
        env = "BACKEND_LABELS",
        value_delimiter = ';',
        value_parser = parse_labelled_backend,
        value_name = "NAME:KEY=TEXT"
    )]
    pub labels: Vec<LabelledBackend>,

    /// The networks in which servers may be that are added while the relay runs, with commas between them; none by default: then
    /// none can be added
    #[arg(
        long = "backend-networks",
        env = "BACKEND_NETWORKS",
        value_delimiter = ',',
        value_parser = parse_network,
        value_name = "NETWORK"
    )]
    pub networks: Vec<IpNet>,

    /// What connections to the servers need beside their addresses.
    #[command(flatten)]
    pub connection: ComfyConnection,

    /// The API key of comfy.org with which partner nodes call their services, for submissions that bring none of their own.
    /// Better set in the environment: a list of processes shows flags
    #[arg(
        long = "comfy-api-key",
        env = "COMFY_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: Option<Secret>,

    /// A file that holds this key; read again for each submission
    #[arg(
        long = "comfy-api-key-file",
        env = "COMFY_API_KEY_FILE",
        conflicts_with = "api_key",
        value_name = "FILE"
    )]
    pub api_key_file: Option<PathBuf>,

    /// Whether prompts that other clients hand to ComfyUI become jobs, too, under their prompt ids
    #[arg(
        long,
        env = "DISCOVERY",
        default_value = "on",
        value_parser = parse_switch,
        action = clap::ArgAction::Set,
        value_name = "on|off"
    )]
    pub discovery: bool,

    /// How long a prompt of another client is left to be registered before it becomes a job by itself.
    #[arg(skip = ComfyConfig::default().discovery_grace)]
    pub discovery_grace: Duration,

    /// The pause before the first attempt to reconnect a lost socket.
    #[arg(skip = ComfyConfig::default().min_backoff)]
    pub min_backoff: Duration,

    /// The longest pause between two attempts to reconnect.
    #[arg(skip = ComfyConfig::default().max_backoff)]
    pub max_backoff: Duration,

    /// How often the queue is read while jobs are open.
    #[arg(skip = ComfyConfig::default().poll_interval)]
    pub poll_interval: Duration,

    /// The shortest pause between two reads of a queue that are not urgent: a queue can be many megabytes, and on a
    /// busy server it changes all the time.
    #[arg(skip = ComfyConfig::default().min_poll_pause)]
    pub min_poll_pause: Duration,

    /// How long a socket may be silent while a prompt of ours runs before it is replaced: a socket that the server has
    /// forgotten looks healthy and stays silent for ever.
    #[arg(skip = ComfyConfig::default().max_silence)]
    pub max_silence: Duration,

    /// How long a prompt that is known may go without a sign of life, at least, before ComfyUI counts as stalled.
    #[arg(skip = ComfyConfig::default().min_stall)]
    pub min_stall: Duration,

    /// How long a prompt of which nothing is known may go without a sign of life before its job says so, and its server
    /// counts as stalled where others wait. One that is known may for three times as long as it takes at most, and at least
    /// 2 minutes
    #[arg(
        long,
        env = "STALLED_AFTER",
        default_value = seconds(ComfyConfig::default().stalled_after),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub stalled_after: Duration,

    /// How long the end of a prompt of ours that was found in the history is held back, so that the socket can deliver
    /// the prompt's last events first.
    #[arg(skip = ComfyConfig::default().event_grace)]
    pub event_grace: Duration,

    /// How long after a prompt has left the queue its history entry may be missing. Entries 1.3 s late were observed.
    #[arg(skip = ComfyConfig::default().history_grace)]
    pub history_grace: Duration,

    /// How long a server may take to accept the socket. Its event loop can block for seconds.
    #[arg(skip = ComfyConfig::default().connect_timeout)]
    pub connect_timeout: Duration,

    /// How often the server is pinged: proxies close connections that are silent for a minute, and ComfyUI sends no
    /// pings.
    #[arg(skip = ComfyConfig::default().ping_interval)]
    pub ping_interval: Duration,

    /// How long a ping may stay unanswered before the connection counts as dead: pongs are late while the server's
    /// event loop is blocked.
    #[arg(skip = ComfyConfig::default().pong_timeout)]
    pub pong_timeout: Duration,

    /// How long a relay holds the lease of a server without renewing it: at most ten minutes.
    #[arg(skip = ComfyConfig::default().lease)]
    pub lease: Duration,

    /// How long a relay that follows too many servers keeps one that has jobs, for it to have none, before another relay takes
    /// it over all the same.
    #[arg(skip = ComfyConfig::default().hand_over_after)]
    pub hand_over_after: Duration,

    /// How long a submission waits for ComfyUI to take it. Then it is answered with 202, and the job waits on
    #[arg(
        long,
        env = "SUBMIT_WAIT",
        default_value = seconds(ComfyConfig::default().submit_wait),
        value_parser = parse_seconds,
        value_name = "SECONDS"
    )]
    pub submit_wait: Duration,

    /// How long a whole HTTP response may take. A queue of many megabytes on a busy server takes seconds.
    #[arg(skip = ComfyConfig::default().response_timeout)]
    pub response_timeout: Duration,

    /// How old the node classes of a server may be by which it is said to lack something: model files are added without a
    /// restart.
    #[arg(skip = ComfyConfig::default().fresh_classes)]
    pub fresh_classes: Duration,

    /// How long a server may take to answer with its node classes, of some megabytes, before it is passed over.
    #[arg(skip = ComfyConfig::default().classes_timeout)]
    pub classes_timeout: Duration,
}

impl ComfyConfig {
    /// A server that is named twice, by both names. Two sockets under one client id take each other's place.
    pub fn repeated(&self) -> Option<[&ServerUrl; 2]> {
        let urls = &self.urls;
        let pairs =
            (1..urls.len()).flat_map(|later| (0..later).map(move |at| [&urls[at], &urls[later]]));
        let mut repeated = pairs.filter(|[one, other]| one.is_same_server(other));
        repeated.next()
    }

    /// The first entry of the labels that is for no server, or for one that an entry before is for.
    pub fn idle_labels(&self) -> Option<&LabelledBackend> {
        let entries = self.labels.iter().enumerate();
        let idle = entries.filter(|(index, entry)| {
            let mut servers = self.urls.iter();
            let mut before = self.labels[..*index].iter();
            !servers.any(|url| url.name() == entry.name)
                || before.any(|before| before.name == entry.name)
        });
        idle.map(|(_, entry)| entry).next()
    }

    /// The labels of the server with this name.
    pub fn labels_of(&self, name: &str) -> BackendLabels {
        let mut entries = self.labels.iter();
        let entry = entries.find(|entry| entry.name == name);
        entry.map(|entry| entry.labels.clone()).unwrap_or_default()
    }
}

impl Default for ComfyConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            labels: Vec::new(),
            networks: Vec::new(),
            connection: ComfyConnection::default(),
            api_key: None,
            api_key_file: None,
            discovery: true,
            // A client that registers its prompts does so as soon as ComfyUI has answered.
            discovery_grace: Duration::from_secs(2),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            poll_interval: Duration::from_secs(2),
            min_poll_pause: Duration::from_millis(200),
            max_silence: Duration::from_secs(10),
            min_stall: Duration::from_secs(120),
            // A video of many frames is made for so long, without a word.
            stalled_after: Duration::from_secs(1_800),
            event_grace: Duration::from_secs(1),
            history_grace: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(9),
            hand_over_after: Duration::from_secs(60),
            submit_wait: Duration::from_secs(10),
            response_timeout: Duration::from_secs(30),
            fresh_classes: Duration::from_secs(5),
            classes_timeout: Duration::from_secs(2),
        }
    }
}

/// What connections to ComfyUI need if a proxy in front of it encrypts or asks for credentials.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ComfyConnection {
    /// The bearer token (RFC 6750) for ComfyUI servers whose URL holds no USER:PASSWORD@. Better set in the environment: a
    /// list of processes shows flags
    #[arg(
        long = "comfyui-token",
        env = "COMFYUI_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<Secret>,

    /// A PEM file with certificate authorities that may sign ComfyUI's certificate, in addition to the system's
    #[arg(long = "comfyui-ca-file", env = "COMFYUI_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}
