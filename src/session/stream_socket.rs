//! A WebSocket that sends what a source has, and reads no more than `ping` and `auth`. It is a task: there are few.

use std::convert::Infallible;

use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::error::Error as SocketError;
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::client_error::ClientError;
use super::close_code as close;
use super::context::{Admission, SessionContext};
use super::disconnect::Disconnect;
use super::message::{ClientMessage, ServerMessage};
use crate::auth::AuthError;

/// What a socket sends.
pub(super) trait MessageSource: Send {
    /// What the socket is of, in messages that name a job otherwise.
    const NAME: &'static str;
    /// The sentence of the greeting.
    const GREETING: &'static str;

    /// Waits for the next messages; `None` if there will be none. May be cancelled at any moment.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Frame>>> + Send;
}

/// A socket with its client.
struct StreamSocket<'a> {
    context: &'a SessionContext,
    socket: &'a mut HyperWebsocketStream,
    admission: &'a mut Admission,
    name: &'static str,
}

/// Serves one socket until it is closed.
pub(super) async fn serve<S: MessageSource>(
    context: &SessionContext,
    socket: HyperWebsocket,
    mut admission: Admission,
    source: S,
) {
    let mut socket = match socket.await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
    };
    let stream = StreamSocket {
        context,
        socket: &mut socket,
        admission: &mut admission,
        name: S::NAME,
    };
    let Err(reason) = stream.run(source).await;
    reason.complete(&mut socket).await;
}

impl StreamSocket<'_> {
    /// Sends until there is a reason to disconnect.
    async fn run<S: MessageSource>(mut self, mut source: S) -> Result<Infallible, Disconnect> {
        let greeting = ServerMessage::connection(S::NAME, S::GREETING).encode();
        self.send(vec![Frame::Text(greeting.into())]).await?;
        let context = self.context;
        let mut ping = interval(context.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut received_at = Instant::now();
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return Err(Disconnect::Close(close::GOING_AWAY, "the relay is being stopped")),
                () = self.admission.permissions.expired() => {
                    let expired = self.error_message(&AuthError::Expired.into());
                    self.send(vec![Frame::Text(expired)]).await?;
                    return Err(Disconnect::EXPIRED);
                }
                messages = source.next() => {
                    self.send(messages.ok_or(Disconnect::ConnectionLost)?).await?;
                }
                frame = self.socket.next() => match frame {
                    Some(Ok(Frame::Close(_))) => return Err(Disconnect::ClosedByClient),
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Disconnect::ConnectionLost),
                    Some(Ok(frame)) => {
                        received_at = Instant::now();
                        if let Some(answer) = self.answer(&frame) {
                            self.send(vec![Frame::Text(answer)]).await?;
                        }
                    }
                },
                _ = ping.tick() => {
                    if received_at.elapsed() > context.config.connection_timeout {
                        return Err(Disconnect::ConnectionLost);
                    }
                    let message = Frame::Text(ServerMessage::ping().encode().into());
                    self.send(vec![message, Frame::Ping(bytes::Bytes::new())]).await?;
                }
            }
        }
    }

    /// The answer to `ping` and `auth`; other messages are ignored.
    fn answer(&mut self, frame: &Frame) -> Option<Utf8Bytes> {
        let Frame::Text(text) = frame else {
            return None;
        };
        match ClientMessage::parse(text).ok()? {
            ClientMessage::Ping => Some(ServerMessage::pong().encode().into()),
            ClientMessage::Auth { token } => {
                let permissions = &mut self.admission.permissions;
                let renewed = self.context.verifier.renew(permissions, &token);
                Some(renewed.map_or_else(
                    |error| self.error_message(&error.into()),
                    |()| {
                        let expires_at = self.admission.permissions.expires_at();
                        ServerMessage::auth(expires_at).encode().into()
                    },
                ))
            }
            _ => None,
        }
    }

    /// Sends frames. A client that accepts nothing for the connection timeout counts as gone; when the server stops,
    /// so does one that accepts nothing at the moment.
    async fn send(&mut self, frames: Vec<Frame>) -> Result<(), Disconnect> {
        let stop = &self.context.stop;
        for frame in frames {
            let sending = in_time(self.context, self.socket.feed(frame));
            tokio::select! {
                biased;
                sent = sending => sent?,
                () = stop.cancelled() => return Err(Disconnect::ConnectionLost),
            }
        }
        tokio::select! {
            biased;
            sent = in_time(self.context, self.socket.flush()) => sent,
            () = stop.cancelled() => Err(Disconnect::ConnectionLost),
        }
    }

    fn error_message(&self, error: &ClientError) -> Utf8Bytes {
        ServerMessage::error(self.name, error.code, &error.message)
            .encode()
            .into()
    }
}

async fn in_time(
    context: &SessionContext,
    sending: impl Future<Output = Result<(), SocketError>>,
) -> Result<(), Disconnect> {
    match timeout(context.config.connection_timeout, sending).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(Disconnect::ConnectionLost),
    }
}
