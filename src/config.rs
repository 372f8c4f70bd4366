//! What the relay is told at its start, as plain data. Only the command line fills it in.

mod access;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use access::{AccessConfig, KeySource, LimitConfig, Origins, Secret, TlsConfig};

/// Everything that a relay is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The ComfyUI servers.
    pub comfy: ComfyConfig,
    /// The downstream edge.
    pub server: ServerConfig,
    /// What the relay remembers.
    pub relay: RelayConfig,
    /// Where jobs are stored.
    pub store: StoreConfig,
}

/// How ComfyUI servers are dialled and followed.
#[derive(Debug, Clone)]
pub struct ComfyConfig {
    /// Their addresses, the one that is preferred first.
    pub urls: Vec<Url>,
    /// The pause before a lost socket is dialled again.
    pub min_backoff: Duration,
    /// What that pause grows to while the server stays away.
    pub max_backoff: Duration,
    /// How often the queue is looked at while jobs are open.
    pub poll_interval: Duration,
    /// The least pause between two looks at a queue that nothing urgent asks for: it can be many
    /// megabytes, and on a busy server it changes all the time.
    pub min_look_pause: Duration,
    /// How long a socket may be silent while a prompt of ours runs, before a new one is dialled:
    /// a socket that the server has forgotten looks healthy and stays silent for ever.
    pub silence: Duration,
    /// How long the end of a prompt of ours, found in the history, waits for the socket to tell its
    /// last events first.
    pub event_grace: Duration,
    /// How long after a prompt has left the queue its entry in the history is waited for.
    /// Entries that came 1.3 s late have been seen.
    pub history_gap: Duration,
    /// How long a server may take to accept the socket. Its event loop can stand still for seconds.
    pub dial_timeout: Duration,
    /// How often the server is pinged: proxies cut what is silent for a minute, and it pings nobody.
    pub ping_interval: Duration,
    /// How long a ping may go unanswered before the line counts as dead: pongs come late while the
    /// server's event loop is starved.
    pub pong_patience: Duration,
    /// For how long a relay that follows a server keeps others away, unless it says so again:
    /// ten minutes at the most.
    pub lease: Duration,
    /// How long a whole answer may take. A queue of many megabytes on a busy server takes seconds.
    pub answer_timeout: Duration,
}

/// How clients are served.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// How often subscribers are pinged.
    pub ping_interval: Duration,
    /// How long a subscriber may be silent, or not read, before it is given up.
    pub connection_timeout: Duration,
    /// How long a subscriber waits for a job that nobody has registered yet.
    pub job_wait: Duration,
    /// How many threads hand states out to subscribers, at least one.
    pub fan_out_threads: usize,
    /// Whether they may use io_uring, where the kernel has it.
    pub io_uring: bool,
    /// How long a client may take over a TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take to send the head of a request, and may say nothing between two.
    pub head_timeout: Duration,
    /// How long a client may take to send the body of a request.
    pub body_timeout: Duration,
    /// How often the files with keys and certificates are looked at.
    pub reload_interval: Duration,
    /// Who is let in.
    pub access: AccessConfig,
    /// How many of them.
    pub limits: LimitConfig,
    /// How connections are encrypted; `None` for not at all.
    pub tls: Option<TlsConfig>,
}

/// Where jobs are stored.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database.
    pub database: Database,
    /// How many connections to it are held at the most.
    pub connections: u32,
    /// How long finished jobs and node runs are kept; `None` for ever.
    pub retention: Option<Duration>,
}

/// A database, by its kind and place.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME`.
    Postgres(Url),
    /// A file; `:memory:` for one that ends with the program.
    Sqlite(PathBuf),
}

impl Database {
    /// An SQLite database that ends with the program.
    pub fn in_memory() -> Self {
        Self::Sqlite(PathBuf::from(":memory:"))
    }

    /// Whether it ends with the program.
    pub fn is_in_memory(&self) -> bool {
        *self == Self::in_memory()
    }
}

/// As people may see it: without the password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) => {
                let mut url = url.clone();
                if url.password().is_some() {
                    // Fails only for addresses without a host, which have no password either.
                    let _ = url.set_password(Some("***"));
                }
                write!(f, "{url}")
            }
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the relay remembers and repeats.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The folder with workflows that can be submitted by name.
    pub workflows: PathBuf,
    /// How often jobs that have ended are looked through, and old ones forgotten.
    pub cleanup_interval: Duration,
    /// How long a job is remembered after its end.
    pub remember: Duration,
    /// How long a running job may be silent before its state is published again.
    pub heartbeat: Duration,
    /// The least time between two publications of a job whose status stays the same; zero to publish
    /// the state after every event.
    pub publish_interval: Duration,
    /// How many states of a job are kept for a subscriber that reads late. One that lags further
    /// gets the newest state and goes on.
    pub backlog: usize,
}

impl Default for ComfyConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            poll_interval: Duration::from_secs(2),
            min_look_pause: Duration::from_millis(200),
            silence: Duration::from_secs(10),
            event_grace: Duration::from_secs(1),
            history_gap: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            pong_patience: Duration::from_secs(30),
            lease: Duration::from_secs(9),
            answer_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8328)),
            ping_interval: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(300),
            job_wait: Duration::from_secs(30),
            fan_out_threads: 1,
            io_uring: true,
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

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            database: Database::in_memory(),
            connections: 4,
            retention: None,
        }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            workflows: PathBuf::from("comfy_workflows"),
            cleanup_interval: Duration::from_secs(60),
            remember: Duration::from_secs(3_600),
            heartbeat: Duration::from_secs(1),
            publish_interval: Duration::from_millis(100),
            backlog: 64,
        }
    }
}
