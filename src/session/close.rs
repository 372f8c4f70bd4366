use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use hyper_tungstenite::tungstenite::protocol::frame::Frame as ControlFrame;
use slotmap::DefaultKey as Key;

use super::close_code as close;
use super::codec::WsCodec;
use super::disconnect::{DISCARD_BUFFER, Disconnect};
use super::event_loop::Shard;
use super::message::ServerMessage;
use super::receive::MAX_READS;
use super::subscriber::ConnectionState;
use crate::hub::Frame;

impl Shard {
    /// Ends a socket.
    pub(super) fn disconnect(&mut self, key: Key, end: Disconnect) {
        match end {
            Disconnect::Close(code, reason) => self.begin_close(key, code, reason),
            Disconnect::ConnectionLost => self.remove(key),
            Disconnect::ClosedByClient => {
                self.unsubscribe_all(key);
                if let Some(subscriber) = self.subscribers.get_mut(key) {
                    // Listening on sends the answer to the client's close, and then ends.
                    subscriber.stage = ConnectionState::Closing;
                    self.closes.add(key, Instant::now());
                }
            }
        }
    }

    /// Closes a socket as soon as all is said that has begun.
    pub(super) fn begin_close(&mut self, key: Key, code: u16, reason: &'static str) {
        if !self.is_open(key) {
            return;
        }
        self.unsubscribe_all(key);
        let subscriber = &mut self.subscribers[key];
        subscriber.stage = ConnectionState::ClosePending(code, reason);
        if subscriber.can_send() {
            self.send_close(key);
        }
    }

    /// Does so where a subscriber follows nothing any more.
    pub(super) fn close_if_idle(&mut self, key: Key, code: u16, reason: &'static str) {
        let subscriber = self.subscribers.get(key);
        if subscriber.is_some_and(|it| it.subscriptions.is_empty()) {
            self.begin_close(key, code, reason);
        }
    }

    /// Says goodbye to a subscriber to whom all else is said.
    fn send_close(&mut self, key: Key) {
        let subscriber = &mut self.subscribers[key];
        let ConnectionState::ClosePending(code, reason) = subscriber.stage else {
            return;
        };
        let deflates = subscriber.deflates;
        let codec = subscriber
            .codec
            .get_or_insert_with(|| Box::new(WsCodec::new(deflates, Vec::new())));
        if codec
            .close(&mut subscriber.transport, code, reason)
            .is_err()
        {
            return self.remove(key);
        }
        subscriber.stage = ConnectionState::Closing;
        if codec.is_broken() {
            // The client's answer could not be told from what it sends still.
            subscriber.transport.shut_down_write();
            subscriber.stage = ConnectionState::Discarding;
            self.read_later(key);
        } else if codec.has_unsent() {
            subscriber.mark_stalled();
        }
        self.closes.add(key, Instant::now());
    }

    /// Goes on with a subscriber that takes something again.
    pub(super) fn resume(&mut self, key: Key) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        if subscriber.can_send() {
            return;
        }
        match subscriber.resume() {
            Ok(false) => return,
            // Who takes what it is told is there.
            Ok(true) => subscriber.received_at = Instant::now(),
            Err(end) => return self.disconnect(key, end),
        }
        if matches!(subscriber.stage, ConnectionState::ClosePending(..)) {
            self.send_close(key);
        }
        // It was not listened to meanwhile. First, because what it is told next may be too much again.
        self.read(key);
        self.send_missed(key);
    }

    /// Throws away what a client sends still, such as the rest of a message that is too long: a
    /// connection that is dropped with bytes unread is reset, and the client never sees why.
    pub(super) fn discard_input(&mut self, key: Key) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let mut unread = [0; DISCARD_BUFFER];
        for _ in 0..MAX_READS {
            match subscriber.transport.read(&mut unread) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.remove(key),
            }
        }
        self.read_later(key);
    }

    /// Takes leave of everybody.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let all: Vec<Key> = self.subscribers.keys().collect();
        let now = Instant::now();
        for key in all {
            self.begin_close(key, close::GOING_AWAY, "the relay is being stopped");
            // Also those who do not take what was said before.
            self.closes.add(key, now);
        }
    }

    /// Pings a subscriber, or gives it up.
    pub(super) fn ping(&mut self, key: Key, now: Instant) {
        let config = &self.context.config;
        let limit = silence_limit(config.ping_interval, config.connection_timeout);
        let timeout = config.connection_timeout;
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        if !subscriber.can_send() {
            subscriber.mark_stalled();
        }
        let stalled = subscriber.stalled_since;
        let is_stalled = stalled.is_some_and(|since| now.duration_since(since) > timeout);
        let is_silent = now.duration_since(subscriber.received_at) > limit;
        match subscriber.stage {
            ConnectionState::Closing | ConnectionState::Discarding => return,
            ConnectionState::Open if is_silent => return self.remove(key),
            _ if is_stalled => return self.remove(key),
            _ => {}
        }
        self.pings.add(key, now);
        subscriber.bytes_since_ping = 0;
        if subscriber.stage == ConnectionState::Open && subscriber.can_send() {
            let sent = subscriber.send(&ping_frames());
            if let Err(end) = sent {
                self.disconnect(key, end);
            }
        }
    }

    /// Lets go of a socket.
    pub(super) fn remove(&mut self, key: Key) {
        self.unsubscribe_all(key);
        if let Some(subscriber) = self.subscribers.remove(key) {
            let peer = subscriber.connection.address();
            tracing::debug!(job_id = %subscriber.job, %peer, "subscriber left");
        }
    }

    fn unsubscribe_all(&mut self, key: Key) {
        while let Some(topic) = self
            .subscribers
            .get(key)
            .and_then(|it| Some(it.subscriptions.last()?.topic))
        {
            self.unsubscribe(key, topic);
        }
    }
}

/// The documented message, and the protocol's own ping for clients that do not know it.
fn ping_frames() -> bytes::Bytes {
    let message = Frame::text(&ServerMessage::ping().encode());
    let mut frames = BytesMut::from(&message.plain()[..]).writer();
    ControlFrame::ping(bytes::Bytes::new())
        .format(&mut frames)
        .expect("memory takes what is written to it");
    frames.into_inner().freeze()
}

/// How long a client may be silent when it is its turn to be pinged: so long that it would be too
/// late the next time, but no less than one answer to a ping takes.
fn silence_limit(ping_interval: Duration, timeout: Duration) -> Duration {
    let answer = ping_interval + ping_interval / 2;
    timeout.saturating_sub(ping_interval).max(answer)
}
