//! How a socket ends.

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

/// How long a client may take to answer a close, or we to answer its own.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is read at once of what nobody wants to know any more.
pub(super) const DISCARD_BUFFER: usize = 16 << 10;

/// Tells a client why it is not served, and closes: browsers show their pages neither the status nor
/// the body of an upgrade that was refused. `_held` is dropped when the client is gone.
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
    let greeting = ServerMessage::connection(&job, "Connected, but not let in").encode();
    let refusal = ServerMessage::error(&job, error.code, &error.message).encode();
    let telling = async {
        for text in [greeting, refusal] {
            socket.send(Frame::Text(text.into())).await?;
        }
        Ok::<_, SocketError>(())
    };
    let end = match timeout(CLOSE_TIMEOUT, telling).await {
        Ok(Ok(())) => Disconnect::Close(code, error.code),
        Ok(Err(_)) | Err(_) => Disconnect::ConnectionLost,
    };
    end.complete(&mut socket).await;
}

/// Why a socket ends.
#[derive(Debug)]
pub(crate) enum Disconnect {
    /// We close, with this code and reason.
    Close(u16, &'static str),
    /// The client closes.
    ClosedByClient,
    /// The client can no longer be reached.
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
                Self::Close(close::INVALID, "a message that cannot be inflated")
            }
            SocketError::Io(error) if error.kind() == ErrorKind::QuotaExceeded => {
                Self::Close(close::POLICY, "too many messages")
            }
            SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Self::ConnectionLost
            }
            SocketError::Protocol(_) => Self::Close(close::PROTOCOL, "a breach of the protocol"),
            _ => Self::ConnectionLost,
        }
    }
}

impl Disconnect {
    /// The client's token has expired.
    pub(super) const EXPIRED: Self = Self::Close(close::UNAUTHENTICATED, "the token has expired");

    /// Ends a socket in good manner, but waits only a moment for the client.
    pub(super) async fn complete(self, socket: &mut HyperWebsocketStream) {
        let goodbye = async {
            match self {
                Self::Close(code, reason) => close(socket, code, reason).await,
                // Reading on sends the answer to the client's close, and then ends.
                Self::ClosedByClient => while let Some(Ok(_)) = socket.next().await {},
                Self::ConnectionLost => {}
            }
        };
        if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
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
        return tracing::debug!(%error, "the socket broke off before it was closed");
    }
    let mut is_answered = false;
    while let Some(Ok(frame)) = socket.next().await {
        is_answered |= frame.is_close();
    }
    if !is_answered {
        discard(socket.get_mut()).await;
    }
}

/// Reads what a client sends still, such as the rest of a message that is too long: a connection
/// that is dropped with bytes unread is reset, and the client never sees why it was closed.
async fn discard(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let mut unread = vec![0; DISCARD_BUFFER];
    let _ = stream.shutdown().await;
    while matches!(stream.read(&mut unread).await, Ok(1..)) {}
}
