//! A client's WebSocket: sends what the replay has for the client. Of what the client sends, only its feature flags
//! have an effect.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use hyper_tungstenite::tungstenite::{Error, Message};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::sockets::Outgoing;
use super::state::SharedState;

/// The largest message that a client may send, in bytes.
pub(super) const MAX_MESSAGE: usize = 64 << 20;

/// The limits of a socket.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Registers a socket, and serves it until either side closes it. ComfyUI registers it as it answers the handshake: a
/// client that has the answer misses nothing, whatever it posts next.
pub(super) fn serve(
    state: Arc<SharedState>,
    upgrade: HyperWebsocket,
    client: Option<String>,
) -> impl Future<Output = ()> {
    let (id, incoming) = state.add_socket(client);
    let registration = Registration { state, id };
    async move {
        if let Ok(socket) = upgrade.await {
            registration.serve(socket, incoming).await;
        }
    }
}

/// The registration of a socket, which ends however the socket ends.
struct Registration {
    state: Arc<SharedState>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.state.remove_socket(self.id);
    }
}

impl Registration {
    async fn serve(
        &self,
        mut socket: HyperWebsocketStream,
        mut incoming: UnboundedReceiver<Outgoing>,
    ) {
        let mut is_first = true;
        loop {
            let is_closed = tokio::select! {
                // Send before reading, so that frames and closes keep the order in which they were queued.
                biased;
                outgoing = incoming.recv() => send(&mut socket, outgoing).await,
                message = socket.next() => match message {
                    Some(Ok(message)) => self.receive(&mut socket, message, &mut is_first).await,
                    Some(Err(_)) | None => Ok(true),
                },
            };
            if !matches!(is_closed, Ok(false)) {
                return;
            }
        }
    }

    /// Handles a message of the client; returns whether it closed the socket. Only feature flags in the first message
    /// are answered.
    async fn receive(
        &self,
        socket: &mut HyperWebsocketStream,
        message: Message,
        is_first: &mut bool,
    ) -> Result<bool, Error> {
        match message {
            Message::Close(_) => {
                // Remove the registration before the close is confirmed: the client may reconnect right after.
                self.state.remove_socket(self.id);
                socket.flush().await?;
                return Ok(true);
            }
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).unwrap_or_default();
                if *is_first
                    && event["type"] == "feature_flags"
                    && let Some(flags) = self.state.feature_flags()
                {
                    socket.send(Message::text(flags)).await?;
                }
                *is_first = false;
            }
            Message::Binary(_) => *is_first = false,
            // tungstenite has queued the pong.
            Message::Ping(_) => socket.flush().await?,
            Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(false)
    }
}

/// Sends what was queued for the socket; returns whether that closed it.
async fn send(
    socket: &mut HyperWebsocketStream,
    outgoing: Option<Outgoing>,
) -> Result<bool, Error> {
    match outgoing {
        Some(Outgoing::Text(text)) => socket.send(Message::text(text)).await?,
        Some(Outgoing::Binary(bytes)) => socket.send(Message::Binary(bytes)).await?,
        Some(Outgoing::Close) => {
            let frame = CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            };
            socket.close(Some(frame)).await?;
            // Wait for the client's close frame before the connection is closed.
            while let Some(Ok(_)) = socket.next().await {}
            return Ok(true);
        }
        Some(Outgoing::Abort) | None => return Ok(true),
    }
    Ok(false)
}
