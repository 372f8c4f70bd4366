//! A caller's WebSocket: writes what the state gives it, and listens for little.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use hyper_tungstenite::tungstenite::{Error, Message};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use serde_json::Value;

use super::sockets::Outgoing;
use super::state::SharedState;

/// The largest message that a client may send, in bytes.
pub(super) const MAX_MESSAGE: usize = 64 << 20;

/// How sockets are set up.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Serves one socket until either side closes it.
pub(super) async fn serve(
    state: Arc<SharedState>,
    upgrade: HyperWebsocket,
    client: Option<String>,
) {
    let Ok(mut socket) = upgrade.await else {
        return;
    };
    let (id, mut incoming) = state.join(client);
    let registration = Registration { state, id };
    let mut first = true;
    loop {
        let done = tokio::select! {
            // What was given is written before we listen: the order of frames and goodbyes is the state's.
            biased;
            outgoing = incoming.recv() => write(&mut socket, outgoing).await,
            message = socket.next() => match message {
                Some(Ok(message)) => registration.heard(&mut socket, message, &mut first).await,
                Some(Err(_)) | None => Ok(true),
            },
        };
        if !matches!(done, Ok(false)) {
            return;
        }
    }
}

/// A place in the sockets, given up however the socket ends.
struct Registration {
    state: Arc<SharedState>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.state.leave(self.id);
    }
}

impl Registration {
    /// A message came: true if it was the last. Only the very first can be answered.
    async fn heard(
        &self,
        socket: &mut HyperWebsocketStream,
        message: Message,
        first: &mut bool,
    ) -> Result<bool, Error> {
        match message {
            Message::Close(_) => {
                // The registration goes before the caller knows that the close was heard, and connects again.
                self.state.leave(self.id);
                socket.flush().await?;
                return Ok(true);
            }
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).unwrap_or_default();
                let flags = self.state.feature_flags();
                if let (true, true, Some(flags)) = (*first, event["type"] == "feature_flags", flags)
                {
                    socket.send(Message::text(flags)).await?;
                }
                *first = false;
            }
            Message::Binary(_) => *first = false,
            // Pings are answered by the library, as soon as we write.
            Message::Ping(_) => socket.flush().await?,
            Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(false)
    }
}

/// Does what the state says: true if it was the last.
async fn write(
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
            // The goodbye is answered before the connection goes.
            while let Some(Ok(_)) = socket.next().await {}
            return Ok(true);
        }
        Some(Outgoing::Cut) | None => return Ok(true),
    }
    Ok(false)
}
