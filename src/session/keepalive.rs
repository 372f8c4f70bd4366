use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hyper_tungstenite::tungstenite::protocol::frame::Frame as ControlFrame;

use super::event_loop::Shard;
use super::frame::text_frame;
use super::keys::SubscriberKey;
use super::message::ServerMessage;
use super::subscriber::SocketState;

impl Shard {
    /// Pings a subscriber, or removes it if it is silent or accepts nothing for too long.
    pub(super) fn ping(&mut self, key: SubscriberKey, now: Instant) {
        let config = &self.context.config;
        let max_silence = max_silence(config.ping_interval, config.connection_timeout);
        let max_stall = config.connection_timeout;
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        if !subscriber.can_send() {
            subscriber.mark_stalled();
        }
        let stalled = subscriber.stalled_since;
        let is_stalled = stalled.is_some_and(|since| now.duration_since(since) > max_stall);
        let is_silent = now.duration_since(subscriber.received_at) > max_silence;
        match subscriber.state {
            SocketState::Closing | SocketState::Discarding => return,
            SocketState::Open if is_silent => return self.remove(key),
            _ if is_stalled => return self.remove(key),
            _ => {}
        }
        self.pings.add(key, now);
        if subscriber.state == SocketState::Open
            && subscriber.can_send()
            && let Err(reason) = subscriber.send(&ping_frames())
        {
            self.disconnect(key, reason);
        }
    }
}

/// The documented `ping` message, and a ping frame for clients that do not know the message.
fn ping_frames() -> Bytes {
    let mut frames = BytesMut::from(&text_frame(&ServerMessage::ping().encode())[..]).writer();
    ControlFrame::ping(Bytes::new())
        .format(&mut frames)
        .expect("writing to memory does not fail");
    frames.into_inner().freeze()
}

/// How long a client may have been silent when it is pinged: at the next ping `timeout` would have
/// passed. But at least as long as the reply to a ping may take, an interval and a half.
fn max_silence(ping_interval: Duration, timeout: Duration) -> Duration {
    let reply = ping_interval + ping_interval / 2;
    timeout.saturating_sub(ping_interval).max(reply)
}
