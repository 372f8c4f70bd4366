//! [`RelaySocket`]: a WebSocket of a relay, and why it ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::StatusCode;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::api_client::{ApiClient, ApiRefusal, CA_OPTION, explain_status};
use crate::connector::{self, WebSocket};

/// What a proxy answers while the relay behind it restarts.
const PROXY_FAILURES: [StatusCode; 3] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// The close code of a relay that needs another token.
const UNAUTHENTICATED: u16 = 4401;

/// The close codes after which reconnecting is useless: bad request (1008), try again later (1013), not authenticated,
/// not allowed (4403).
const REFUSALS: [u16; 4] = [1008, 1013, UNAUTHENTICATED, 4403];

/// After so long without a sign of the relay, which sends a ping every 30 seconds, the connection counts as lost: nothing else
/// reports that a network is gone.
const SILENCE: Duration = Duration::from_secs(90);

/// A connection that receives the messages of one job or of many.
#[derive(Debug)]
pub(super) struct RelaySocket {
    socket: WebSocket,
    heard_at: Instant,
    /// The reason that the relay sends before it closes the socket.
    pub(super) last_error: Option<String>,
}

/// What is received.
#[derive(Debug)]
pub(super) enum Received {
    /// A message, one JSON object.
    Text(Utf8Bytes),
    /// A preview, where they were asked for.
    Preview(Bytes),
}

/// Why a connection ended, or was not made.
#[derive(Debug)]
pub(super) enum SocketEnd {
    /// The relay refuses it.
    Refused(String),
    /// The relay went away, or was not there.
    Lost(String),
}

impl SocketEnd {
    /// What follows for a socket from the failure of a request that belongs to it: the relay may have gone away after the socket
    /// was opened, or be back before its database. Fails with what it refuses for good.
    pub(super) fn of_request(error: anyhow::Error) -> anyhow::Result<Self> {
        match error.downcast_ref::<ApiRefusal>() {
            Some(refusal) if !refusal.passes() => Err(error),
            _ => Ok(Self::Lost(format!("{error:#}"))),
        }
    }
}

impl RelaySocket {
    /// Connects to a path below `ws/`.
    pub(super) async fn connect(
        relay: &ApiClient,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Self, SocketEnd> {
        match relay.socket(path, query).await {
            Ok(socket) => Ok(Self {
                socket,
                heard_at: Instant::now(),
                last_error: None,
            }),
            Err(tungstenite::Error::Http(response)) => {
                let status = response.status();
                if PROXY_FAILURES.contains(&status) {
                    let why = format!("{status}, perhaps of a proxy before it");
                    return Err(SocketEnd::Lost(why));
                }
                let why = explain_status(&format!("the relay answers {status}"), status);
                Err(SocketEnd::Refused(why))
            }
            Err(error) => Err(match connector::explain_certificate(&error, CA_OPTION) {
                Some(why) => SocketEnd::Refused(why),
                None => SocketEnd::Lost(error.to_string()),
            }),
        }
    }

    /// Receives the next text message. Cancel safe: no message is lost.
    pub(super) async fn receive(&mut self) -> Result<Utf8Bytes, SocketEnd> {
        loop {
            if let Received::Text(text) = self.receive_any().await? {
                return Ok(text);
            }
        }
    }

    /// Receives the next message or preview. Cancel safe: none is lost.
    pub(super) async fn receive_any(&mut self) -> Result<Received, SocketEnd> {
        loop {
            let next = timeout_at(self.heard_at + SILENCE, self.socket.next());
            let Ok(next) = next.await else {
                let why = format!("nothing has come for {} s", SILENCE.as_secs());
                return Err(SocketEnd::Lost(why));
            };
            self.heard_at = Instant::now();
            match next {
                Some(Ok(Message::Text(text))) => return Ok(Received::Text(text)),
                Some(Ok(Message::Binary(bytes))) => return Ok(Received::Preview(bytes)),
                Some(Ok(Message::Close(Some(close)))) if REFUSALS.contains(&close.code.into()) => {
                    let reason = self.last_error.take().unwrap_or_else(|| close.to_string());
                    let status = match close.code.into() {
                        UNAUTHENTICATED => StatusCode::UNAUTHORIZED,
                        _ => StatusCode::FORBIDDEN,
                    };
                    return Err(SocketEnd::Refused(explain_status(&reason, status)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(SocketEnd::Lost(error.to_string())),
                None => return Err(SocketEnd::Lost("the connection ended".to_owned())),
            }
        }
    }
}
