//! The system monitor's socket: the relay as a whole, on every change, but at most once a second.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::ServerState;
use super::ending::End;
use super::error::{ApiError, close};
use super::guard::Access;
use super::message::{ClientMessage, ServerMessage};

/// The least time between two messages, as documented.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The most time between two messages, as documented.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// The newest status, encoded once for all monitors. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed(watch::Sender<Utf8Bytes>);

/// Keeps the feed up to date while anybody reads it.
pub(super) async fn watch(edge: ServerState) {
    let mut changes = edge.relay.changes();
    loop {
        let encoded_at = Instant::now();
        if edge.monitor.0.receiver_count() > 0 {
            edge.monitor.0.send_replace(encode(&edge));
        }
        tokio::select! {
            () = edge.stop.cancelled() => return,
            _ = changes.changed() => {}
            () = sleep_until(encoded_at + MAX_INTERVAL) => {}
        }
        tokio::select! {
            () = edge.stop.cancelled() => return,
            () = sleep_until(encoded_at + MIN_INTERVAL) => {}
        }
    }
}

fn encode(edge: &ServerState) -> Utf8Bytes {
    let status = edge.relay.system_status();
    serde_json::to_string(&status)
        .expect("the status has string keys and finite numbers only")
        .into()
}

/// Serves one monitor.
#[tracing::instrument(name = "monitor", skip_all)]
pub(super) async fn serve(edge: ServerState, socket: HyperWebsocket, mut access: Access) {
    let mut socket = match socket.await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "the handshake was not finished"),
    };
    let Err(end) = follow(&edge, &mut socket, &mut access).await;
    end.carry_out(&mut socket).await;
}

/// Sends until the socket is to end.
async fn follow(
    edge: &ServerState,
    socket: &mut HyperWebsocketStream,
    access: &mut Access,
) -> Result<Infallible, End> {
    let mut feed = edge.monitor.0.subscribe();
    let greeting = ServerMessage::connection("monitor", "Connected to the system monitor").encode();
    send(edge, socket, Frame::Text(greeting.into())).await?;
    send(edge, socket, Frame::Text(encode(edge))).await?;
    let mut ping = interval(edge.config.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut heard_at = Instant::now();
    loop {
        tokio::select! {
            () = edge.stop.cancelled() => return Err(End::Close(close::GOING_AWAY, "the relay is being stopped")),
            () = access.expired() => {
                send(edge, socket, Frame::Text(refusal(&ApiError::expired()))).await?;
                return Err(End::EXPIRED);
            }
            changed = feed.changed() => {
                changed.map_err(|_| End::Gone)?;
                let status = feed.borrow_and_update().clone();
                send(edge, socket, Frame::Text(status)).await?;
            }
            frame = socket.next() => match frame {
                Some(Ok(Frame::Close(_))) => return Err(End::Left),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(End::Gone),
                Some(Ok(frame)) => {
                    heard_at = Instant::now();
                    if let Some(answer) = answer(edge, access, &frame) {
                        send(edge, socket, Frame::Text(answer)).await?;
                    }
                }
            },
            _ = ping.tick() => {
                if heard_at.elapsed() > edge.config.connection_timeout {
                    return Err(End::Gone);
                }
                send(edge, socket, Frame::Text(ServerMessage::ping().encode().into())).await?;
                send(edge, socket, Frame::Ping(bytes::Bytes::new())).await?;
            }
        }
    }
}

/// A monitor may say `ping`, or send a newer token; whatever else it says has no meaning here.
fn answer(edge: &ServerState, access: &mut Access, frame: &Frame) -> Option<Utf8Bytes> {
    let Frame::Text(text) = frame else {
        return None;
    };
    match ClientMessage::parse(text).ok()? {
        ClientMessage::Ping => Some(ServerMessage::pong().encode().into()),
        ClientMessage::Auth { token } => Some(match access.renew(&edge.guard, &token) {
            Ok(()) => ServerMessage::auth(access.expires_at()).encode().into(),
            Err(failure) => refusal(&failure),
        }),
        _ => None,
    }
}

fn refusal(failure: &ApiError) -> Utf8Bytes {
    ServerMessage::error("monitor", failure.code, &failure.message)
        .encode()
        .into()
}

/// A monitor that does not read is given up in the end.
async fn send(
    edge: &ServerState,
    socket: &mut HyperWebsocketStream,
    frame: Frame,
) -> Result<(), End> {
    match timeout(edge.config.connection_timeout, socket.send(frame)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(End::Gone),
    }
}
