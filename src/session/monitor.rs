//! The system monitor's socket: the relay as a whole, on every change, but at most once a second.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::SessionContext;
use super::admission::Admission;
use super::client_error::ClientError;
use super::close_code as close;
use super::disconnect::Disconnect;
use super::message::{ClientMessage, ServerMessage};
use crate::auth::AuthError;

/// The least time between two messages, as documented.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The most time between two messages, as documented.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// The newest status, encoded once for all monitors. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct MonitorFeed(watch::Sender<Utf8Bytes>);

/// Keeps the feed up to date while anybody reads it.
pub(crate) async fn watch(context: SessionContext) {
    let mut changes = context.relay.changes();
    loop {
        let encoded_at = Instant::now();
        if context.monitor.0.receiver_count() > 0 {
            context.monitor.0.send_replace(encode(&context));
        }
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = changes.changed() => {}
            () = sleep_until(encoded_at + MAX_INTERVAL) => {}
        }
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = sleep_until(encoded_at + MIN_INTERVAL) => {}
        }
    }
}

fn encode(context: &SessionContext) -> Utf8Bytes {
    let status = context.relay.system_status();
    serde_json::to_string(&status)
        .expect("the status has string keys and finite numbers only")
        .into()
}

/// Serves one monitor.
#[tracing::instrument(name = "monitor", skip_all)]
pub(crate) async fn serve(
    context: SessionContext,
    socket: HyperWebsocket,
    mut admission: Admission,
) {
    let mut socket = match socket.await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
    };
    let Err(end) = follow(&context, &mut socket, &mut admission).await;
    end.carry_out(&mut socket).await;
}

/// Sends until the socket is to end.
async fn follow(
    context: &SessionContext,
    socket: &mut HyperWebsocketStream,
    admission: &mut Admission,
) -> Result<Infallible, Disconnect> {
    let mut feed = context.monitor.0.subscribe();
    let greeting = ServerMessage::connection("monitor", "Connected to the system monitor").encode();
    send(context, socket, Frame::Text(greeting.into())).await?;
    send(context, socket, Frame::Text(encode(context))).await?;
    let mut ping = interval(context.config.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut heard_at = Instant::now();
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return Err(Disconnect::Close(close::GOING_AWAY, "the relay is being stopped")),
            () = admission.permissions.expired() => {
                send(context, socket, Frame::Text(refusal(&AuthError::Expired.into()))).await?;
                return Err(Disconnect::EXPIRED);
            }
            changed = feed.changed() => {
                changed.map_err(|_| Disconnect::Gone)?;
                let status = feed.borrow_and_update().clone();
                send(context, socket, Frame::Text(status)).await?;
            }
            frame = socket.next() => match frame {
                Some(Ok(Frame::Close(_))) => return Err(Disconnect::Left),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Disconnect::Gone),
                Some(Ok(frame)) => {
                    heard_at = Instant::now();
                    if let Some(answer) = answer(context, admission, &frame) {
                        send(context, socket, Frame::Text(answer)).await?;
                    }
                }
            },
            _ = ping.tick() => {
                if heard_at.elapsed() > context.config.connection_timeout {
                    return Err(Disconnect::Gone);
                }
                send(context, socket, Frame::Text(ServerMessage::ping().encode().into())).await?;
                send(context, socket, Frame::Ping(bytes::Bytes::new())).await?;
            }
        }
    }
}

/// A monitor may say `ping`, or send a newer token; whatever else it says has no meaning here.
fn answer(context: &SessionContext, admission: &mut Admission, frame: &Frame) -> Option<Utf8Bytes> {
    let Frame::Text(text) = frame else {
        return None;
    };
    match ClientMessage::parse(text).ok()? {
        ClientMessage::Ping => Some(ServerMessage::pong().encode().into()),
        ClientMessage::Auth { token } => Some(
            match admission.permissions.renew(&context.verifier, &token) {
                Ok(()) => ServerMessage::auth(admission.permissions.expires_at())
                    .encode()
                    .into(),
                Err(error) => refusal(&error.into()),
            },
        ),
        _ => None,
    }
}

fn refusal(failure: &ClientError) -> Utf8Bytes {
    ServerMessage::error("monitor", failure.code, &failure.message)
        .encode()
        .into()
}

/// A monitor that does not read is given up in the end.
async fn send(
    context: &SessionContext,
    socket: &mut HyperWebsocketStream,
    frame: Frame,
) -> Result<(), Disconnect> {
    match timeout(context.config.connection_timeout, socket.send(frame)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(Disconnect::Gone),
    }
}
