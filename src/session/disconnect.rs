use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::error::{CapacityError, Error as SocketError, ProtocolError};
use hyper_tungstenite::tungstenite::protocol::CloseFrame;
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::client_error::ClientError;
use super::close_code as close;
use super::message::ServerMessage;

/// How long either side may take to answer the close of the other.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes are read at a time to be discarded.
pub(super) const DISCARD_BUFFER: usize = 16 << 10;

/// Sends a client the error for which it is not served, and closes the socket: browsers show a page
/// neither the status nor the body of the response to an upgrade. `_held` is dropped when the client
/// is gone.
pub(crate) async fn refuse(
    socket: HyperWebsocket,
    job: String,
    code: u16,
    error: ClientError,
    _held: impl Send,
) {
    let mut socket = match socket.await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
    };
    let greeting = ServerMessage::connection(&job, "Connected; the request is refused").encode();
    let error_message = ServerMessage::error(&job, error.code, &error.message).encode();
    let sending = async {
        for text in [greeting, error_message] {
            socket.send(Frame::Text(text.into())).await?;
        }
        Ok::<_, SocketError>(())
    };
    let reason = match timeout(CLOSE_TIMEOUT, sending).await {
        Ok(Ok(())) => Disconnect::Close(code, error.code),
        Ok(Err(_)) | Err(_) => Disconnect::ConnectionLost,
    };
    reason.complete(&mut socket).await;
}

/// Why a session ends.
#[derive(Debug)]
pub(crate) enum Disconnect {
    /// The server closes it, with this code and reason.
    Close(u16, &'static str),
    /// The client closes it.
    ClosedByClient,
    /// The connection is lost.
    ConnectionLost,
}

impl From<SocketError> for Disconnect {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Capacity(CapacityError::MessageTooLong { .. }) => {
                Self::Close(close::TOO_BIG, "the message is too long")
            }
            SocketError::Utf8(_) => Self::Close(close::INVALID, "a text that is not UTF-8"),
            SocketError::Io(error) if error.kind() == ErrorKind::InvalidData => {
                Self::Close(close::INVALID, "a message that cannot be decompressed")
            }
            SocketError::Io(error) if error.kind() == ErrorKind::QuotaExceeded => {
                Self::Close(close::POLICY, "too many messages")
            }
            SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Self::ConnectionLost
            }
            SocketError::Protocol(_) => {
                Self::Close(close::PROTOCOL, "a violation of the WebSocket protocol")
            }
            _ => Self::ConnectionLost,
        }
    }
}

impl Disconnect {
    /// The client's token has expired.
    pub(super) const EXPIRED: Self = Self::Close(close::UNAUTHENTICATED, "the token has expired");

    /// Ends a session by the closing handshake (RFC 6455, 7.1.2), and waits at most [`CLOSE_TIMEOUT`] for
    /// the client.
    pub(super) async fn complete(self, socket: &mut HyperWebsocketStream) {
        let closing = async {
            match self {
                Self::Close(code, reason) => close(socket, code, reason).await,
                // Reading on sends the reply to the client's close frame, and then ends.
                Self::ClosedByClient => while let Some(Ok(_)) = socket.next().await {},
                Self::ConnectionLost => {}
            }
        };
        if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the client did not answer the close");
        }
    }
}

async fn close(socket: &mut HyperWebsocketStream, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code: code.into(),
        reason: Utf8Bytes::from_static(reason),
    };
    if let Err(error) = socket.close(Some(frame)).await {
        return tracing::debug!(%error, "the connection was lost before the socket was closed");
    }
    let mut is_answered = false;
    while let Some(Ok(frame)) = socket.next().await {
        is_answered |= frame.is_close();
    }
    if !is_answered {
        discard(socket.get_mut()).await;
    }
}

/// Reads and discards what a client still sends, such as the rest of a message that is too long: if a
/// connection is dropped with unread bytes it is reset, and the client never reads the close frame.
async fn discard(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let mut buffer = vec![0; DISCARD_BUFFER];
    let _ = stream.shutdown().await;
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}
