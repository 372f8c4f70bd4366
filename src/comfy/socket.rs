//! One long-lived WebSocket to a ComfyUI server: dials, says its flags, reads, pings, notices
//! silence, and dials again.
//!
//! There is never more than one socket with a client id: a second one makes the first go silent,
//! and when the first closes, the server forgets the second. So the old one is fully closed before
//! the next one is dialled.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Frame, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use crate::config::UpstreamConfig;

/// What the first message must be for previews that name their prompt and node.
const FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

/// The largest frame that is taken: previews and outputs of video nodes are many megabytes.
const MAX_FRAME: usize = 64 << 20;

/// How long a server may take to accept the socket. Its event loop can stand still for seconds.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the old socket's closing handshake may take before it is simply dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the server is pinged: proxies cut what is silent for a minute, and it pings nobody.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a ping may go unanswered: pongs come late while the server's event loop is starved.
const PONG_PATIENCE: Duration = Duration::from_secs(30);

/// A socket that is always there, or on its way back.
pub struct Socket {
    url: Url,
    min_backoff: Duration,
    max_backoff: Duration,
    stream: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    /// The one before, until it is fully closed.
    old: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    failures: u32,
    dial_at: Instant,
    ping: Interval,
    heard_at: Instant,
}

/// What comes of waiting on a [`Socket`].
#[derive(Debug)]
pub enum Incoming {
    /// The socket is open: from here on, events come.
    Connected,
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// There is no socket, for the reason given. It is dialled again on its own.
    Disconnected(String),
}

impl Socket {
    /// A socket to the server at `base`, not yet dialled.
    pub fn new(base: &Url, client_id: &str, config: &UpstreamConfig) -> Self {
        let mut url = base.clone();
        let path = format!("{}/ws", base.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(Some(&format!("clientId={client_id}")));
        let scheme = if base.scheme() == "https" {
            "wss"
        } else {
            "ws"
        };
        // A change between these schemes is always allowed.
        let _ = url.set_scheme(scheme);
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            url,
            min_backoff: config.min_backoff,
            max_backoff: config.max_backoff,
            stream: None,
            old: None,
            failures: 0,
            dial_at: Instant::now(),
            ping,
            heard_at: Instant::now(),
        }
    }

    /// What comes next. May be dropped while it waits; nothing is lost.
    pub async fn next(&mut self) -> Incoming {
        let Some(stream) = &mut self.stream else {
            return self.dial().await;
        };
        loop {
            tokio::select! {
                frame = stream.next() => {
                    self.heard_at = Instant::now();
                    match frame {
                        Some(Ok(Frame::Text(text))) => return Incoming::Text(text),
                        Some(Ok(Frame::Binary(bytes))) => return Incoming::Binary(bytes),
                        Some(Ok(Frame::Close(close))) => {
                            let why = close.map_or_else(String::new, |close| format!(" ({close})"));
                            return self.lose(format!("ComfyUI closed the socket{why}"));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return self.lose(error.to_string()),
                        None => return self.lose("the connection ended".to_owned()),
                    }
                }
                _ = self.ping.tick() => {
                    if self.heard_at.elapsed() > PING_INTERVAL + PONG_PATIENCE {
                        return self.lose("pings were not answered".to_owned());
                    }
                    if let Err(error) = stream.send(Frame::Ping(Bytes::new())).await {
                        return self.lose(error.to_string());
                    }
                }
            }
        }
    }

    /// Closes the socket in good manner; [`Socket::next`] dials a new one at once.
    pub async fn redial(&mut self) {
        self.old = self.stream.take().or(self.old.take());
        self.close_old().await;
        self.dial_at = Instant::now();
    }

    /// Until the server has closed its end as well, it could take a new socket for the old one.
    async fn close_old(&mut self) {
        let Some(mut old) = self.old.take() else {
            return;
        };
        let goodbye = async {
            old.close(None).await?;
            while let Some(frame) = old.next().await {
                frame?;
            }
            Ok::<(), tungstenite::Error>(())
        };
        match timeout(CLOSE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the old socket broke off while it was closed")
            }
            Err(_) => tracing::debug!("the old socket did not close in time and was dropped"),
        }
    }

    async fn dial(&mut self) -> Incoming {
        self.close_old().await;
        sleep_until(self.dial_at).await;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let dialled = timeout(DIAL_TIMEOUT, async {
            let dialling = connect_async_with_config(self.url.as_str(), Some(config), true);
            let (mut stream, _) = dialling.await?;
            stream.send(Frame::text(FLAGS)).await?;
            Ok::<_, tungstenite::Error>(stream)
        });
        match dialled.await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.failures = 0;
                self.heard_at = Instant::now();
                self.ping.reset();
                Incoming::Connected
            }
            Ok(Err(error)) => self.lose(error.to_string()),
            Err(_) => self.lose("the server did not accept in time".to_owned()),
        }
    }

    fn lose(&mut self, reason: String) -> Incoming {
        self.old = self.stream.take();
        self.dial_at = Instant::now() + self.backoff();
        self.failures = self.failures.saturating_add(1);
        Incoming::Disconnected(reason)
    }

    /// Doubles with every failure in a row, and is jittered from the first one on, so that many
    /// relays do not come at once: at first between once and twice the least pause.
    fn backoff(&self) -> Duration {
        let doubled = self.min_backoff.saturating_mul(2 << self.failures.min(16));
        let backoff = doubled.min(self.max_backoff);
        backoff
            .mul_f64(rand::rng().random_range(0.5..=1.0))
            .max(self.min_backoff)
    }
}
