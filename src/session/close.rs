use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use super::close_code as close;
use super::codec::WsCodec;
use super::disconnect::{DISCARD_BUFFER, Disconnect};
use super::event_loop::Shard;
use super::keys::SubscriberKey;
use super::receive::MAX_READS;
use super::subscriber::SocketState;

/// How long the closing of all sockets of a shard takes at most while the server stops.
pub(crate) const DEPARTURE_TIME: Duration = Duration::from_secs(3);

/// The pause between two sockets of a shard that are closed while the server stops: their clients connect again, to another
/// relay, which would otherwise get all of them at once.
const DEPARTURE_PAUSE: Duration = Duration::from_micros(500);

/// When each of so many sockets is closed.
fn departures(now: Instant, sockets: usize) -> impl Iterator<Item = Instant> {
    let sockets = u32::try_from(sockets).unwrap_or(u32::MAX);
    let pause = DEPARTURE_PAUSE.min(DEPARTURE_TIME / sockets.max(1));
    (0..sockets).map(move |before| now + pause * before)
}

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

    /// Closes all sockets, one after another. The event loop ends when the last one is closed.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let now = Instant::now();
        let moments = departures(now, self.subscribers.len());
        self.departures = moments.zip(self.subscribers.keys()).collect();
        self.close_departing(now);
    }

    /// Closes the sockets whose turn it is while the server stops.
    pub(super) fn close_departing(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.departures.front()
            && due <= now
        {
            self.departures.pop_front();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sockets_are_closed_at_once_and_many_over_some_seconds() {
        let now = Instant::now();
        let times = |sockets| departures(now, sockets).map(|at| at.duration_since(now));
        assert_eq!(times(0).count(), 0);
        assert_eq!(times(1).collect::<Vec<_>>(), [Duration::ZERO]);
        assert!(times(100).max() < Some(Duration::from_millis(50)));
        for sockets in [1_000, 10_000, 1_000_000] {
            assert!(times(sockets).is_sorted());
            assert_eq!(times(sockets).count(), sockets);
            assert!(times(sockets).max() < Some(DEPARTURE_TIME));
        }
        assert!(times(10_000).max() > Some(DEPARTURE_TIME * 9 / 10));
    }
}
