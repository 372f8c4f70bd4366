use std::io::Write;
use std::time::Instant;

use bytes::Bytes;

use super::event_loop::Shard;
use super::keys::{SubscriberKey, TopicKey};
use super::subscriber::{SocketState, WriteProgress};
use super::write_batch::MAX_BATCH;
use crate::hub::Update;

/// How many frames of a batch may be of one job while other jobs wait.
const MAX_PER_TOPIC: usize = MAX_BATCH / 4;

/// How many subscribers of one job are visited in a turn: those that have the update already, or accept
/// nothing, cost little, but not nothing.
const MAX_VISITS: usize = 16 * MAX_PER_TOPIC;

/// A frame that is to be written to a subscriber's socket.
struct PendingWrite {
    key: SubscriberKey,
    topic: TopicKey,
    update: Update,
    frame: Bytes,
}

/// How a topic's turn ends.
enum Turn {
    /// The topic has nothing more to send.
    Done,
    /// The topic has more to send.
    Unfinished,
    /// The topic's next subscriber is in the batch already, for another of its jobs.
    Conflict,
}

impl Shard {
    /// Writes one batch, to which all topics that have something to send add in turn.
    pub(super) fn broadcast(&mut self) {
        let mut batch: Vec<PendingWrite> = Vec::new();
        let mut turns = 0;
        while batch.len() < MAX_BATCH && turns < MAX_BATCH {
            let Some(topic) = self.queued_topics.pop_front() else {
                break;
            };
            turns += 1;
            match self.fill_batch(topic, &mut batch) {
                Turn::Done => {
                    if let Some(it) = self.topics.get_mut(topic) {
                        it.finish_turn();
                    }
                }
                Turn::Unfinished => self.queued_topics.push_back(topic),
                Turn::Conflict => {
                    self.queued_topics.push_front(topic);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            self.write_batch(batch);
        }
    }

    fn fill_batch(&mut self, topic: TopicKey, batch: &mut Vec<PendingWrite>) -> Turn {
        let Some(it) = self.topics.get_mut(topic) else {
            return Turn::Done;
        };
        let limit = MAX_BATCH.min(batch.len() + MAX_PER_TOPIC);
        for _ in 0..MAX_VISITS {
            if batch.len() == limit {
                return Turn::Unfinished;
            }
            let Some((key, update)) = it.next() else {
                return Turn::Done;
            };
            let subscriber = &mut self.subscribers[key];
            if !subscriber.wants(topic, &update) {
                continue;
            }
            if subscriber.is_in_batch {
                it.step_back();
                return Turn::Conflict;
            }
            // It gets the newest state when its socket accepts something again.
            if !subscriber.can_send() || subscriber.state != SocketState::Open {
                self.context.fan_out.skip(&update);
                continue;
            }
            let frame = it.frame(&update, subscriber.deflates, &mut self.deflater);
            subscriber.is_in_batch = true;
            batch.push(PendingWrite {
                key,
                topic,
                update,
                frame,
            });
        }
        Turn::Unfinished
    }

    fn write_batch(&mut self, batch: Vec<PendingWrite>) {
        let subscribers = &self.subscribers;
        let frames: Vec<_> = batch
            .iter()
            .filter_map(|write| Some((subscribers[write.key].transport.plain()?, &write.frame)))
            .collect();
        let mut written = Vec::with_capacity(frames.len());
        self.writer.write(&frames, &mut written);
        let mut written = written.into_iter();
        let fan_out = self.context.fan_out.clone();
        let mut sent = fan_out.written();
        for write in batch {
            let subscriber = &mut self.subscribers[write.key];
            subscriber.is_in_batch = false;
            let written = match subscriber.transport.plain().and_then(|_| written.next()) {
                Some(written) => written,
                None => subscriber.transport.write(&write.frame),
            };
            match subscriber.record_write(&write.frame, written) {
                Ok(progress) => {
                    match progress {
                        WriteProgress::Started => sent.add(&write.update, write.frame.len()),
                        WriteProgress::Blocked => fan_out.skip(&write.update),
                    }
                    self.record_sent(write.key, write.topic, &write.update, progress);
                }
                Err(reason) => self.disconnect(write.key, reason),
            }
        }
    }

    /// Continues with a subscriber whose socket accepts something again.
    pub(super) fn resume_sending(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        if subscriber.can_send() {
            return;
        }
        match subscriber.flush() {
            Ok(false) => return,
            // A client that accepts what was sent is alive.
            Ok(true) => subscriber.received_at = Instant::now(),
            Err(reason) => return self.disconnect(key, reason),
        }
        if matches!(subscriber.state, SocketState::ClosePending(..)) {
            self.send_close(key);
        }
        // Nothing was read meanwhile. Read first: what is sent next may block the socket again.
        self.read(key);
        self.send_missed(key);
    }

    /// Sends a subscriber the newest updates that it has missed.
    pub(super) fn send_missed(&mut self, key: SubscriberKey) {
        while let Some((topic, update)) = self.next_missed(key) {
            self.send_update(key, topic, &update);
        }
    }

    /// An update that a subscriber has missed, if it can be sent now.
    fn next_missed(&self, key: SubscriberKey) -> Option<(TopicKey, Update)> {
        let subscriber = self.subscribers.get(key)?;
        if !subscriber.can_send() || subscriber.state != SocketState::Open {
            return None;
        }
        subscriber.subscriptions.iter().find_map(|subscription| {
            let topic = subscription.topic;
            let shared = &self.topics[topic].subscription;
            let state = shared.newest().map(Update::State);
            let preview = shared.preview().map(Update::Preview);
            let mut newest = state.into_iter().chain(preview);
            let missed = newest.find(|update| subscriber.wants(topic, update))?;
            Some((topic, missed))
        })
    }

    fn send_update(&mut self, key: SubscriberKey, topic: TopicKey, update: &Update) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let frame = self.topics[topic].frame(update, subscriber.deflates, &mut self.deflater);
        match subscriber.send(&frame) {
            Ok(progress) => self.record_sent(key, topic, update, progress),
            Err(reason) => self.disconnect(key, reason),
        }
    }

    /// Records that a subscriber was sent an update.
    pub(super) fn record_sent(
        &mut self,
        key: SubscriberKey,
        topic: TopicKey,
        update: &Update,
        progress: WriteProgress,
    ) {
        if progress == WriteProgress::Blocked {
            return;
        }
        let Some(subscription) = self
            .subscribers
            .get_mut(key)
            .and_then(|subscriber| subscriber.subscription_to(topic))
        else {
            return;
        };
        match update {
            Update::State(publication) => subscription.last_seq = publication.seq,
            Update::Preview(preview) => subscription.last_preview_seq = preview.seq,
        }
        if let Some(wait) = subscription.wait.take() {
            self.waits.remove(&(wait.until, key, topic));
        }
        if update.is_final() {
            self.end_subscription(key, topic);
        }
    }
}
