use std::io::{ErrorKind, Read};
use std::time::Instant;

use super::close_code as close;
use super::codec::WsCodec;
use super::disconnect::{DISCARD_BUFFER, Disconnect};
use super::event_loop::Shard;
use super::keys::SubscriberKey;
use super::receive::MAX_READS;
use super::subscriber::SocketState;

impl Shard {
    /// Ends a subscriber's session.
    pub(super) fn disconnect(&mut self, key: SubscriberKey, reason: Disconnect) {
        match reason {
            Disconnect::Close(code, reason) => self.begin_close(key, code, reason),
            Disconnect::ConnectionLost => self.remove(key),
            Disconnect::ClosedByClient => {
                self.unsubscribe_all(key);
                if let Some(subscriber) = self.subscribers.get_mut(key) {
                    // Reading on sends the reply to the client's close frame, and then ends.
                    subscriber.state = SocketState::Closing;
                    self.closes.add(key, Instant::now());
                }
            }
        }
    }

    /// Closes a socket as soon as what was sent before is written.
    pub(super) fn begin_close(&mut self, key: SubscriberKey, code: u16, reason: &'static str) {
        if !self.is_open(key) {
            return;
        }
        self.unsubscribe_all(key);
        let subscriber = &mut self.subscribers[key];
        subscriber.state = SocketState::ClosePending(code, reason);
        if subscriber.can_send() {
            self.send_close(key);
        }
    }

    /// Sends the close frame of a subscriber whose close is pending.
    pub(super) fn send_close(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        let SocketState::ClosePending(code, reason) = subscriber.state else {
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
        subscriber.state = SocketState::Closing;
        if codec.is_broken() {
            // The client's reply could not be found in what it still sends.
            subscriber.transport.shut_down_write();
            subscriber.state = SocketState::Discarding;
            self.read_later(key);
        } else if codec.has_unsent() {
            subscriber.mark_stalled();
        }
        self.closes.add(key, Instant::now());
    }

    /// Reads and discards what a client still sends, such as the rest of a message that is too long: if a
    /// connection is dropped with unread bytes it is reset, and the client never reads the close frame.
    pub(super) fn discard_input(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let mut buffer = [0; DISCARD_BUFFER];
        for _ in 0..MAX_READS {
            match subscriber.transport.read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if subscriber.transport.take_paused() {
                        break;
                    }
                    return;
                }
                Ok(0) | Err(_) => return self.remove(key),
            }
        }
        self.read_later(key);
    }

    /// Closes all sockets. The event loop ends when the last one is closed.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let all: Vec<SubscriberKey> = self.subscribers.keys().collect();
        let now = Instant::now();
        for key in all {
            self.begin_close(key, close::GOING_AWAY, "the relay is being stopped");
            // Also those whose socket does not accept what was sent before.
            self.closes.add(key, now);
        }
    }

    /// Removes a subscriber, and drops its connection.
    pub(super) fn remove(&mut self, key: SubscriberKey) {
        self.unsubscribe_all(key);
        if let Some(subscriber) = self.subscribers.remove(key) {
            let peer = subscriber.connection.address();
            tracing::debug!(job_id = %subscriber.job, %peer, "subscriber disconnected");
        }
    }
}
