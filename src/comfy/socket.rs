//! One long-lived WebSocket to a ComfyUI server: connects, announces its feature flags, reads, pings,
//! notices a dead connection, and reconnects.
//!
//! There must never be two sockets with one client id: ComfyUI sends nothing to the first one any more, and
//! when the first one closes, it forgets the second. So the old socket is fully closed before the next one
//! is opened.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Frame, Utf8Bytes};
use url::Url;

use crate::config::ComfyConfig;
use crate::connector::{self, Connector, WebSocket};

/// ComfyUI adds prompt and node to its previews if this is the first message of a client.
const FEATURE_FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

/// How many bytes are read at once. All of them are set to zero before each read: of tungstenite's default of 128 KiB, that
/// takes longer than to read a step.
const READ_BUFFER: usize = 16 << 10;

/// The largest frame that is read, in bytes: previews and outputs of video nodes are many megabytes.
const MAX_FRAME: usize = 64 << 20;

/// How long the closing handshake of the old socket may take before its connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that stays open this long has settled: when it is lost, it is dialled again at once.
const SETTLED: Duration = Duration::from_secs(5);

/// A socket that is open or reconnects.
pub struct Socket {
    url: Url,
    connector: Connector,
    config: ComfyConfig,
    stream: Option<WebSocket>,
    /// The previous socket, until it is fully closed.
    old: Option<WebSocket>,
    backoff: ExponentialBackoff,
    connect_at: Instant,
    /// Cuts the pause before the next attempt short.
    dial_now: Arc<Notify>,
    /// When the newest attempt began.
    dialled_at: Instant,
    /// When the open socket was opened.
    opened_at: Option<Instant>,
    ping: Interval,
    /// When the oldest ping was sent after which nothing has been received.
    unanswered_since: Option<Instant>,
}

/// What [`Socket::next`] returns.
#[derive(Debug)]
pub enum Incoming {
    /// The socket is open: events follow.
    Connected,
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// The socket is closed or could not be opened, for the reason given. [`Socket::next`] reconnects.
    Disconnected(String),
}

impl Socket {
    /// A socket to the server at `base`, not yet connected.
    ///
    /// A notification of `dial_now` cuts the pause before the next attempt to connect short.
    pub fn new(
        base: &Url,
        client_id: &str,
        connector: Connector,
        config: &ComfyConfig,
        dial_now: Arc<Notify>,
    ) -> Self {
        let mut url = base.clone();
        url.set_path(&format!("{}/ws", base.path().trim_end_matches('/')));
        url.set_query(Some(&format!("clientId={client_id}")));
        let mut ping = interval(config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            url,
            connector,
            config: config.clone(),
            stream: None,
            old: None,
            backoff: backoff(config),
            connect_at: Instant::now(),
            dial_now,
            dialled_at: Instant::now(),
            opened_at: None,
            ping,
            unanswered_since: None,
        }
    }

    /// The next frame or change of the connection. Cancel safe: a dropped future loses nothing.
    pub async fn next(&mut self) -> Incoming {
        let Some(stream) = &mut self.stream else {
            return self.connect().await;
        };
        loop {
            let pong_timeout = self.config.pong_timeout;
            let dead_at = self.unanswered_since.map(|since| since + pong_timeout);
            tokio::select! {
                // However late this task runs, it reads what has arrived before it calls the socket dead.
                biased;
                frame = stream.next() => {
                    self.unanswered_since = None;
                    match frame {
                        Some(Ok(Frame::Text(text))) => return Incoming::Text(text),
                        Some(Ok(Frame::Binary(bytes))) => return Incoming::Binary(bytes),
                        Some(Ok(Frame::Close(close))) => {
                            let why = close.map_or_else(String::new, |close| format!(" ({close})"));
                            return self.disconnect(format!("ComfyUI closed the socket{why}"));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return self.disconnect(error.to_string()),
                        None => return self.disconnect("the connection ended".to_owned()),
                    }
                }
                () = reached(dead_at) => {
                    return self.disconnect("pings were not answered".to_owned());
                }
                _ = self.ping.tick() => {
                    self.unanswered_since.get_or_insert_with(Instant::now);
                    // The send buffer is full as long as the peer acknowledges nothing.
                    let ping = Frame::Ping(Bytes::new());
                    match timeout(pong_timeout, stream.send(ping)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return self.disconnect(error.to_string()),
                        Err(_) => return self.disconnect("a ping could not be sent in time".to_owned()),
                    }
                }
            }
        }
    }

    /// When the newest attempt to connect began.
    pub fn dialled_at(&self) -> Instant {
        self.dialled_at
    }

    /// Closes the socket with a closing handshake; [`Socket::next`] opens a new one at once.
    pub async fn redial(&mut self) {
        self.old = self.stream.take().or(self.old.take());
        self.close_old().await;
        self.connect_at = Instant::now();
    }

    /// Until the server has closed its end as well, it could mistake a new socket for the old one.
    async fn close_old(&mut self) {
        let Some(mut old) = self.old.take() else {
            return;
        };
        let close = async {
            old.close(None).await?;
            while let Some(frame) = old.next().await {
                frame?;
            }
            Ok::<(), tungstenite::Error>(())
        };
        match timeout(CLOSE_TIMEOUT, close).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the old socket failed during its closing handshake")
            }
            Err(_) => tracing::debug!("the old socket did not close in time and was dropped"),
        }
    }

    async fn connect(&mut self) -> Incoming {
        self.close_old().await;
        tokio::select! {
            () = sleep_until(self.connect_at) => {}
            () = self.dial_now.notified() => {}
        }
        self.dialled_at = Instant::now();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let connecting = async {
            let mut stream = self.connector.websocket(&self.url, config).await?;
            stream.send(Frame::text(FEATURE_FLAGS)).await?;
            Ok::<_, tungstenite::Error>(stream)
        };
        match timeout(self.config.connect_timeout, connecting).await {
            Ok(Ok(stream)) => {
                self.stream = Some(stream);
                self.opened_at = Some(Instant::now());
                self.unanswered_since = None;
                self.ping.reset();
                Incoming::Connected
            }
            Ok(Err(error)) => {
                let ca_option = "--comfyui-ca-file, COMFYUI_CA_FILE";
                let auth_option = "USER:PASSWORD@ in the URL, or --comfyui-token, COMFYUI_TOKEN";
                self.disconnect(connector::explain(&error, ca_option, auth_option))
            }
            Err(_) => self.disconnect("the server did not accept in time".to_owned()),
        }
    }

    fn disconnect(&mut self, reason: String) -> Incoming {
        self.old = self.stream.take();
        // One that is cut as soon as it is open is dialled ever more seldom.
        let opened_at = self.opened_at.take();
        if opened_at.is_some_and(|at| at.elapsed() >= SETTLED) {
            self.backoff = backoff(&self.config);
        }
        // The backoff never ends.
        let pause = self.backoff.next().unwrap_or(self.config.max_backoff);
        self.connect_at = Instant::now() + pause;
        Incoming::Disconnected(reason)
    }
}

/// Doubles with every failure in a row. The jitter, which adds up to as much again, spreads the
/// reconnections of many relays from the first one on.
fn backoff(config: &ComfyConfig) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(config.min_backoff)
        .with_max_delay((config.max_backoff / 2).max(config.min_backoff))
        .without_max_times()
        .with_jitter()
        .build()
}

/// Waits until `moment`, for ever if there is none.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
