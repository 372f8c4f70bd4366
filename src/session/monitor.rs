use std::convert::Infallible;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::client_error::ClientError;
use super::close_code as close;
use super::context::{Admission, SessionContext};
use super::disconnect::Disconnect;
use super::message::{ClientMessage, ServerMessage};
use crate::auth::AuthError;

/// The shortest time between two messages, as documented.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between two messages, as documented.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// The system monitor: its sockets get the status of the whole relay on every change, at most once a
/// second. The status is encoded once for all of them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    context: SessionContext,
    newest: watch::Sender<Utf8Bytes>,
}

impl Monitor {
    pub(crate) fn new(context: SessionContext) -> Self {
        Self {
            context,
            newest: watch::Sender::default(),
        }
    }

    /// Keeps the status up to date while any socket reads it, until the server is to stop.
    pub(crate) async fn run(self) {
        let mut changes = self.context.relay.changes();
        loop {
            let encoded_at = Instant::now();
            if self.newest.receiver_count() > 0 {
                self.newest.send_replace(self.encode());
            }
            tokio::select! {
                () = self.context.stop.cancelled() => return,
                _ = changes.changed() => {}
                () = sleep_until(encoded_at + MAX_INTERVAL) => {}
            }
            tokio::select! {
                () = self.context.stop.cancelled() => return,
                () = sleep_until(encoded_at + MIN_INTERVAL) => {}
            }
        }
    }

    fn encode(&self) -> Utf8Bytes {
        let status = self.context.relay.system_status();
        serde_json::to_string(&status)
            .expect("the status has string keys and finite numbers only")
            .into()
    }

    /// Serves one socket until it is closed.
    #[tracing::instrument(name = "monitor", skip_all)]
    pub(crate) async fn serve(self, socket: HyperWebsocket, mut admission: Admission) {
        let mut socket = match socket.await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
        };
        let Err(reason) = self.send_changes(&mut socket, &mut admission).await;
        reason.complete(&mut socket).await;
    }

    /// Sends the status on every change until there is a reason to disconnect.
    async fn send_changes(
        &self,
        socket: &mut HyperWebsocketStream,
        admission: &mut Admission,
    ) -> Result<Infallible, Disconnect> {
        let context = &self.context;
        let mut newest = self.newest.subscribe();
        let greeting =
            ServerMessage::connection("monitor", "Connected to the system monitor").encode();
        self.send(socket, Frame::Text(greeting.into())).await?;
        self.send(socket, Frame::Text(self.encode())).await?;
        let mut ping = interval(context.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut received_at = Instant::now();
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return Err(Disconnect::Close(close::GOING_AWAY, "the relay is being stopped")),
                () = admission.permissions.expired() => {
                    self.send(socket, Frame::Text(error_message(&AuthError::Expired.into()))).await?;
                    return Err(Disconnect::EXPIRED);
                }
                changed = newest.changed() => {
                    changed.map_err(|_| Disconnect::ConnectionLost)?;
                    let status = newest.borrow_and_update().clone();
                    self.send(socket, Frame::Text(status)).await?;
                }
                frame = socket.next() => match frame {
                    Some(Ok(Frame::Close(_))) => return Err(Disconnect::ClosedByClient),
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Disconnect::ConnectionLost),
                    Some(Ok(frame)) => {
                        received_at = Instant::now();
                        if let Some(answer) = self.answer(admission, &frame) {
                            self.send(socket, Frame::Text(answer)).await?;
                        }
                    }
                },
                _ = ping.tick() => {
                    if received_at.elapsed() > context.config.connection_timeout {
                        return Err(Disconnect::ConnectionLost);
                    }
                    self.send(socket, Frame::Text(ServerMessage::ping().encode().into())).await?;
                    self.send(socket, Frame::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
    }

    /// The answer to `ping` and `auth`; other messages are ignored.
    fn answer(&self, admission: &mut Admission, frame: &Frame) -> Option<Utf8Bytes> {
        let Frame::Text(text) = frame else {
            return None;
        };
        match ClientMessage::parse(text).ok()? {
            ClientMessage::Ping => Some(ServerMessage::pong().encode().into()),
            ClientMessage::Auth { token } => {
                let renewed = self
                    .context
                    .verifier
                    .renew(&mut admission.permissions, &token);
                Some(renewed.map_or_else(
                    |error| error_message(&error.into()),
                    |()| {
                        let expires_at = admission.permissions.expires_at();
                        ServerMessage::auth(expires_at).encode().into()
                    },
                ))
            }
            _ => None,
        }
    }

    /// Sends a frame, or gives the connection up if that takes longer than the connection timeout.
    async fn send(
        &self,
        socket: &mut HyperWebsocketStream,
        frame: Frame,
    ) -> Result<(), Disconnect> {
        match timeout(self.context.config.connection_timeout, socket.send(frame)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(Disconnect::ConnectionLost),
        }
    }
}

fn error_message(error: &ClientError) -> Utf8Bytes {
    ServerMessage::error("monitor", error.code, &error.message)
        .encode()
        .into()
}
