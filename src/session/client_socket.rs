//! A WebSocket that speaks ComfyUI's protocol to one of its clients. It is a task: there are few.

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::close_code as close;
use super::context::{Admission, SessionContext};
use super::disconnect::Disconnect;
use crate::relay::{ClientEvents, TapPayload};

/// A message of a client. Only its feature flags have an effect.
#[derive(Deserialize)]
struct FlagsMessage {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: ClientFlags,
}

#[derive(Default, Deserialize)]
struct ClientFlags {
    #[serde(default)]
    supports_preview_metadata: bool,
}

struct ClientSocket<'a> {
    context: &'a SessionContext,
    socket: &'a mut HyperWebsocketStream,
    /// Whether the client reads previews with metadata.
    reads_metadata: bool,
    /// The client has sent a message: only in the first one flags count.
    has_spoken: bool,
}

/// Serves the socket of one of ComfyUI's clients until it is closed.
#[tracing::instrument(name = "comfy_client", skip_all)]
pub(crate) async fn serve_client(
    context: SessionContext,
    socket: HyperWebsocket,
    admission: Admission,
    events: ClientEvents,
) {
    let mut socket = match socket.await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
    };
    let client = ClientSocket {
        context: &context,
        socket: &mut socket,
        reads_metadata: false,
        has_spoken: false,
    };
    let Err(reason) = client.run(&admission, &events).await;
    // Nothing is kept for it while it closes.
    drop(events);
    reason.complete(&mut socket).await;
}

impl ClientSocket<'_> {
    /// Sends until there is a reason to disconnect.
    async fn run(
        mut self,
        admission: &Admission,
        events: &ClientEvents,
    ) -> Result<Infallible, Disconnect> {
        let context = self.context;
        let mut ping = interval(context.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut received_at = Instant::now();
        // Made once, not for each event.
        let mut stopped = pin!(context.stop.cancelled());
        let mut expired = pin!(admission.permissions.expired());
        loop {
            tokio::select! {
                () = &mut stopped => return Err(Disconnect::Close(close::GOING_AWAY, "the relay is being stopped")),
                () = &mut expired => return Err(Disconnect::EXPIRED),
                event = events.next() => {
                    let event = event.ok_or(Disconnect::Close(close::POLICY, "messages are read too slowly"))?;
                    self.pass_on(event.payload).await?;
                }
                frame = self.socket.next() => match frame {
                    Some(Ok(Frame::Close(_))) => return Err(Disconnect::ClosedByClient),
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Disconnect::ConnectionLost),
                    Some(Ok(frame)) => {
                        received_at = Instant::now();
                        if let Frame::Text(text) = &frame {
                            self.read(text).await?;
                        }
                    }
                },
                _ = ping.tick() => {
                    if received_at.elapsed() > context.config.connection_timeout {
                        return Err(Disconnect::ConnectionLost);
                    }
                    self.send(Frame::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// Reads a message of the client. ComfyUI answers flags in the first one with its own.
    async fn read(&mut self, text: &Utf8Bytes) -> Result<(), Disconnect> {
        let is_first = !std::mem::replace(&mut self.has_spoken, true);
        let message = serde_json::from_str::<FlagsMessage>(text).ok();
        let Some(flags) = message.filter(|it| is_first && it.kind == "feature_flags") else {
            return Ok(());
        };
        self.reads_metadata = flags.data.supports_preview_metadata;
        match self.context.relay.server_features() {
            Some(features) => self.send(Frame::Text(features)).await,
            None => Ok(()),
        }
    }

    async fn pass_on(&mut self, payload: TapPayload) -> Result<(), Disconnect> {
        let frame = match payload {
            TapPayload::Text(text) => Frame::Text(text),
            TapPayload::Binary(bytes) => Frame::Binary(bytes),
            TapPayload::Preview(preview) if self.reads_metadata => {
                Frame::Binary(preview.as_sent().clone())
            }
            TapPayload::Preview(preview) => Frame::Binary(preview.plain().clone()),
        };
        self.send(frame).await
    }

    /// A client that accepts nothing for the connection timeout counts as gone.
    async fn send(&mut self, frame: Frame) -> Result<(), Disconnect> {
        let sending = timeout(
            self.context.config.connection_timeout,
            self.socket.send(frame),
        );
        tokio::select! {
            biased;
            sent = sending => match sent {
                Ok(sent) => Ok(sent?),
                Err(_) => Err(Disconnect::ConnectionLost),
            },
            () = self.context.stop.cancelled() => Err(Disconnect::ConnectionLost),
        }
    }
}
