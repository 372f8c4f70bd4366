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

use crate::config::ComfyConfig;

/// What the first message must be for previews that name their prompt and node.
const FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

/// The largest frame that is taken: previews and outputs of video nodes are many megabytes.
const MAX_FRAME: usize = 64 << 20;

/// How long the old socket's closing handshake may take before it is simply dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that is always there, or on its way back.
pub struct Socket {
    url: Url,
    config: ComfyConfig,
    stream: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    /// The one before, until it is fully closed.
    old: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    failures: u32,
    dial_at: Instant,
    ping: Interval,
    /// When the oldest ping was sent since which nothing was heard.
    unanswered_since: Option<Instant>,
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
    pub fn new(base: &Url, client_id: &str, config: &ComfyConfig) -> Self {
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
        let mut ping = interval(config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            url,
            config: config.clone(),
            stream: None,
            old: None,
            failures: 0,
            dial_at: Instant::now(),
            ping,
            unanswered_since: None,
        }
    }

    /// What comes next. May be dropped while it waits; nothing is lost.
    pub async fn next(&mut self) -> Incoming {
        let Some(stream) = &mut self.stream else {
            return self.dial().await;
        };
        loop {
            let given_up = self
                .unanswered_since
                .map(|since| since + self.config.pong_timeout);
            tokio::select! {
                // What has come is heard before the line is called dead, however late we are.
                biased;
                frame = stream.next() => {
                    self.unanswered_since = None;
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
                () = reached(given_up) => {
                    return self.lose("pings were not answered".to_owned());
                }
                _ = self.ping.tick() => {
                    self.unanswered_since.get_or_insert_with(Instant::now);
                    // A line that takes nothing is as dead as one that brings nothing.
                    let sent = timeout(self.config.pong_timeout, stream.send(Frame::Ping(Bytes::new())));
                    match sent.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return self.lose(error.to_string()),
                        Err(_) => return self.lose("a ping could not be sent in time".to_owned()),
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
        let dialled = timeout(self.config.connect_timeout, async {
            let dialling = connect_async_with_config(self.url.as_str(), Some(config), true);
            let (mut stream, _) = dialling.await?;
            stream.send(Frame::text(FLAGS)).await?;
            Ok::<_, tungstenite::Error>(stream)
        });
        match dialled.await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.failures = 0;
                self.unanswered_since = None;
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
        let doubled = self
            .config
            .min_backoff
            .saturating_mul(2 << self.failures.min(16));
        let backoff = doubled.min(self.config.max_backoff);
        backoff
            .mul_f64(rand::rng().random_range(0.5..=1.0))
            .max(self.config.min_backoff)
    }
}

/// Until a moment that may never come.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
