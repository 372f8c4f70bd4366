use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use hyper_tungstenite::tungstenite::protocol::frame::Frame as ControlFrame;
use slotmap::DefaultKey as Key;

use super::close_code as close;
use super::dialogue::Dialogue;
use super::disconnect::{DISCARD_BUFFER, Disconnect};
use super::hearing::MAX_TURN;
use super::message::ServerMessage;
use super::subscriber::Stage;
use super::thread::Shard;
use crate::hub::Frame;

impl Shard {
    /// Ends a socket.
    pub(super) fn end(&mut self, who: Key, end: Disconnect) {
        match end {
            Disconnect::Close(code, reason) => self.part(who, code, reason),
            Disconnect::Gone => self.remove(who),
            Disconnect::Left => {
                self.unfollow_all(who);
                if let Some(subscriber) = self.subscribers.get_mut(who) {
                    // Listening on sends the answer to the client's close, and then ends.
                    subscriber.stage = Stage::Closing;
                    self.goodbyes.add(who, Instant::now());
                }
            }
        }
    }

    /// Closes a socket as soon as all is said that has begun.
    pub(super) fn part(&mut self, who: Key, code: u16, reason: &'static str) {
        if !self.is_open(who) {
            return;
        }
        self.unfollow_all(who);
        let subscriber = &mut self.subscribers[who];
        subscriber.stage = Stage::Parting(code, reason);
        if subscriber.is_free() {
            self.close(who);
        }
    }

    /// Does so where a subscriber follows nothing any more.
    pub(super) fn part_if_idle(&mut self, who: Key, code: u16, reason: &'static str) {
        let subscriber = self.subscribers.get(who);
        if subscriber.is_some_and(|it| it.follows.is_empty()) {
            self.part(who, code, reason);
        }
    }

    /// Says goodbye to a subscriber to whom all else is said.
    fn close(&mut self, who: Key) {
        let subscriber = &mut self.subscribers[who];
        let Stage::Parting(code, reason) = subscriber.stage else {
            return;
        };
        let deflates = subscriber.deflates;
        let dialogue = subscriber
            .dialogue
            .get_or_insert_with(|| Box::new(Dialogue::new(deflates, Vec::new())));
        if dialogue.close(&mut subscriber.line, code, reason).is_err() {
            return self.remove(who);
        }
        subscriber.stage = Stage::Closing;
        if dialogue.is_broken() {
            // The client's answer could not be told from what it sends still.
            subscriber.line.finish();
            subscriber.stage = Stage::Draining;
            self.make_eager(who);
        } else if dialogue.is_speaking() {
            subscriber.stall();
        }
        self.goodbyes.add(who, Instant::now());
    }

    /// Goes on with a subscriber that takes something again.
    pub(super) fn resume(&mut self, who: Key) {
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        if subscriber.is_free() {
            return;
        }
        match subscriber.resume() {
            Ok(false) => return,
            // Who takes what it is told is there.
            Ok(true) => subscriber.heard_at = Instant::now(),
            Err(end) => return self.end(who, end),
        }
        if matches!(subscriber.stage, Stage::Parting(..)) {
            self.close(who);
        }
        // It was not listened to meanwhile. First, because what it is told next may be too much again.
        self.hear(who);
        self.catch_up(who);
    }

    /// Throws away what a client sends still, such as the rest of a message that is too long: a
    /// connection that is dropped with bytes unread is reset, and the client never sees why.
    pub(super) fn drain(&mut self, who: Key) {
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        let mut unread = [0; DISCARD_BUFFER];
        for _ in 0..MAX_TURN {
            match subscriber.line.read(&mut unread) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.remove(who),
            }
        }
        self.make_eager(who);
    }

    /// Takes leave of everybody.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let all: Vec<Key> = self.subscribers.keys().collect();
        let now = Instant::now();
        for who in all {
            self.part(who, close::GOING_AWAY, "the relay is being stopped");
            // Also those who do not take what was said before.
            self.goodbyes.add(who, now);
        }
    }

    /// Pings a subscriber, or gives it up.
    pub(super) fn ping(&mut self, who: Key, now: Instant) {
        let config = &self.context.config;
        let limit = silence_limit(config.ping_interval, config.connection_timeout);
        let timeout = config.connection_timeout;
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        if !subscriber.is_free() {
            subscriber.stall();
        }
        let stalled = subscriber.stalled_since;
        let is_stalled = stalled.is_some_and(|since| now.duration_since(since) > timeout);
        let is_silent = now.duration_since(subscriber.heard_at) > limit;
        match subscriber.stage {
            Stage::Closing | Stage::Draining => return,
            Stage::Open if is_silent => return self.remove(who),
            _ if is_stalled => return self.remove(who),
            _ => {}
        }
        self.pings.add(who, now);
        subscriber.heard = 0;
        if subscriber.stage == Stage::Open && subscriber.is_free() {
            let sent = subscriber.send(&ping_frames());
            if let Err(end) = sent {
                self.end(who, end);
            }
        }
    }

    /// Lets go of a socket.
    pub(super) fn remove(&mut self, who: Key) {
        self.unfollow_all(who);
        if let Some(subscriber) = self.subscribers.remove(who) {
            let peer = subscriber.connection.address();
            tracing::debug!(job_id = %subscriber.job, %peer, "subscriber left");
        }
    }

    fn unfollow_all(&mut self, who: Key) {
        while let Some(topic) = self
            .subscribers
            .get(who)
            .and_then(|it| Some(it.follows.last()?.topic))
        {
            self.unfollow(who, topic);
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
