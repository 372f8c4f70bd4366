use std::io::Write;

use bytes::Bytes;
use slotmap::DefaultKey as Key;

use super::close_code as close;
use super::event_loop::Shard;
use super::subscriber::{ConnectionState, Subscriber, WriteProgress};
use super::write_batch::MAX_BATCH;
use crate::hub::Update;

/// How much of a batch one job may have while others wait.
const MAX_PER_TOPIC: usize = MAX_BATCH / 4;

/// How many followers of one job are looked at in a turn: those who have the news already, or take
/// nothing, cost little, but not nothing.
const MAX_VISITS: usize = 16 * MAX_PER_TOPIC;

/// A frame on its way to a subscriber.
struct PendingWrite {
    key: Key,
    topic: Key,
    update: Update,
    frame: Bytes,
}

/// How a topic's turn ends.
enum Turn {
    /// Nothing is left to hand out.
    Done,
    /// There is more.
    Over,
    /// The next follower is in the batch already: for another job that it follows.
    Clash,
}

impl Shard {
    pub(super) fn queue_topic(&mut self, topic: Key) {
        if let Some(it) = self.topics.get_mut(topic)
            && !it.is_queued
        {
            it.is_queued = true;
            self.queued_topics.push_back(topic);
        }
    }

    /// Hands out one batch, to which all jobs that have news add in turn.
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
                        it.is_queued = false;
                    }
                }
                Turn::Over => self.queued_topics.push_back(topic),
                Turn::Clash => {
                    self.queued_topics.push_front(topic);
                    break;
                }
            }
        }
        if batch.is_empty() {
            return;
        }
        let subscribers = &self.subscribers;
        let frames: Vec<_> = batch
            .iter()
            .filter_map(|write| Some((subscribers[write.key].transport.plain()?, &write.frame)))
            .collect();
        let mut written = Vec::with_capacity(frames.len());
        self.writer.write(&frames, &mut written);
        let mut written = written.into_iter();
        for write in batch {
            let subscriber = &mut self.subscribers[write.key];
            subscriber.is_in_batch = false;
            let written = match subscriber.transport.plain().and_then(|_| written.next()) {
                Some(written) => written,
                None => subscriber.transport.write(&write.frame),
            };
            match subscriber.record_write(&write.frame, written) {
                Ok(progress) => self.record_sent(write.key, write.topic, &write.update, progress),
                Err(end) => self.disconnect(write.key, end),
            }
        }
    }

    fn fill_batch(&mut self, topic: Key, batch: &mut Vec<PendingWrite>) -> Turn {
        let Some(it) = self.topics.get_mut(topic) else {
            return Turn::Done;
        };
        let full = MAX_BATCH.min(batch.len() + MAX_PER_TOPIC);
        for _ in 0..MAX_VISITS {
            if batch.len() == full {
                return Turn::Over;
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
                return Turn::Clash;
            }
            // Who takes nothing now gets the newest state when it takes something again.
            if !subscriber.can_send() || subscriber.stage != ConnectionState::Open {
                continue;
            }
            let frame = it.frame(&update, subscriber.deflates);
            subscriber.is_in_batch = true;
            batch.push(PendingWrite {
                key,
                topic,
                update,
                frame,
            });
        }
        Turn::Over
    }

    /// Sends a subscriber the newest of all that it has not seen.
    pub(super) fn send_missed(&mut self, key: Key) {
        while let Some((topic, update)) = self.next_missed(key) {
            self.send_update(key, topic, &update);
        }
    }

    /// What a subscriber has not seen and could be sent now.
    fn next_missed(&self, key: Key) -> Option<(Key, Update)> {
        let subscriber = self.subscribers.get(key)?;
        if !subscriber.can_send() || subscriber.stage != ConnectionState::Open {
            return None;
        }
        subscriber.subscriptions.iter().find_map(|subscription| {
            let topic = subscription.topic;
            let shared = &self.topics[topic].subscription;
            let state = shared.newest().map(Update::State);
            let preview = shared.preview().map(Update::Preview);
            let mut updates = state.into_iter().chain(preview);
            let missed = updates.find(|update| subscriber.wants(topic, update))?;
            Some((topic, missed))
        })
    }

    /// Sends news to a subscriber that is free.
    fn send_update(&mut self, key: Key, topic: Key, update: &Update) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let frame = self.topics[topic].frame(update, subscriber.deflates);
        match subscriber.send(&frame) {
            Ok(progress) => self.record_sent(key, topic, update, progress),
            Err(end) => self.disconnect(key, end),
        }
    }

    /// Takes note that a subscriber has been told something. After the last state of its last job it
    /// is to leave.
    pub(super) fn record_sent(
        &mut self,
        key: Key,
        topic: Key,
        update: &Update,
        progress: WriteProgress,
    ) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let Some(subscription) = subscriber
            .subscription_to(topic)
            .filter(|_| progress == WriteProgress::Started)
        else {
            return;
        };
        match update {
            Update::State(publication) => subscription.seen = publication.seq,
            Update::Preview(preview) => subscription.seen_preview = preview.seq,
        }
        if let Some(wait) = subscription.wait.take() {
            wait.abort();
        }
        if update.is_final() {
            self.unsubscribe(key, topic);
            self.close_if_idle(key, close::NORMAL, "the job has ended");
        }
    }
}

impl Subscriber {
    /// Whether news of a topic is news to it.
    fn wants(&self, topic: Key, update: &Update) -> bool {
        let subscription = self
            .subscriptions
            .iter()
            .find(|subscription| subscription.topic == topic);
        subscription.is_some_and(|subscription| match update {
            Update::State(publication) => publication.seq > subscription.seen,
            Update::Preview(preview) => {
                self.wants_previews && preview.seq > subscription.seen_preview
            }
        })
    }
}
