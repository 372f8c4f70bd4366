//! [`ComfyConfig`]: how ComfyUI servers are connected and followed.

use std::time::Duration;

use url::Url;

/// How ComfyUI servers are connected and followed.
#[derive(Debug, Clone, clap::Args)]
pub struct ComfyConfig {
    /// The ComfyUI server, or several with commas between them
    #[arg(
        long = "comfyui-url",
        env = "COMFYUI_URL",
        default_value = "http://127.0.0.1:8188",
        value_delimiter = ',',
        value_parser = comfyui_url,
        value_name = "URL"
    )]
    pub urls: Vec<Url>,

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

    /// How long a whole HTTP response may take. A queue of many megabytes on a busy server takes seconds.
    #[arg(skip = ComfyConfig::default().response_timeout)]
    pub response_timeout: Duration,
}

impl Default for ComfyConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            poll_interval: Duration::from_secs(2),
            min_poll_pause: Duration::from_millis(200),
            max_silence: Duration::from_secs(10),
            event_grace: Duration::from_secs(1),
            history_grace: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(9),
            response_timeout: Duration::from_secs(30),
        }
    }
}

/// Reads the address of a ComfyUI server.
pub fn comfyui_url(text: &str) -> Result<Url, String> {
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
