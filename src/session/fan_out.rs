use std::io::Write;

use bytes::Bytes;
use slotmap::DefaultKey as Key;

use super::batch::SLICE;
use super::close_code as close;
use super::subscriber::{Stage, Subscriber, Taken};
use super::thread::Shard;
use crate::hub::Update;

/// How much of a batch one job may have while others wait.
const SHARE: usize = SLICE / 4;

/// How many followers of one job are looked at in a turn: those who have the news already, or take
/// nothing, cost little, but not nothing.
const MAX_LOOKS: usize = 16 * SHARE;

/// A frame on its way to a subscriber.
struct Parcel {
    who: Key,
    topic: Key,
    news: Update,
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
    pub(super) fn make_due(&mut self, topic: Key) {
        if let Some(it) = self.topics.get_mut(topic)
            && !it.is_due
        {
            it.is_due = true;
            self.due.push_back(topic);
        }
    }

    /// Hands out one batch, to which all jobs that have news add in turn.
    pub(super) fn fan_out(&mut self) {
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut turns = 0;
        while parcels.len() < SLICE && turns < SLICE {
            let Some(topic) = self.due.pop_front() else {
                break;
            };
            turns += 1;
            match self.gather(topic, &mut parcels) {
                Turn::Done => {
                    if let Some(it) = self.topics.get_mut(topic) {
                        it.is_due = false;
                    }
                }
                Turn::Over => self.due.push_back(topic),
                Turn::Clash => {
                    self.due.push_front(topic);
                    break;
                }
            }
        }
        if parcels.is_empty() {
            return;
        }
        let (subscribers, batch) = (&self.subscribers, &mut self.batch);
        let frames: Vec<_> = parcels
            .iter()
            .filter_map(|parcel| Some((subscribers[parcel.who].line.plain()?, &parcel.frame)))
            .collect();
        let mut written = Vec::with_capacity(frames.len());
        batch.write(&frames, &mut written);
        let mut written = written.into_iter();
        for parcel in parcels {
            let subscriber = &mut self.subscribers[parcel.who];
            subscriber.is_in_batch = false;
            let written = match subscriber.line.plain().and_then(|_| written.next()) {
                Some(written) => written,
                None => subscriber.line.write(&parcel.frame),
            };
            match subscriber.settle(&parcel.frame, written) {
                Ok(taken) => self.told(parcel.who, parcel.topic, &parcel.news, taken),
                Err(end) => self.end(parcel.who, end),
            }
        }
    }

    fn gather(&mut self, topic: Key, parcels: &mut Vec<Parcel>) -> Turn {
        let Some(it) = self.topics.get_mut(topic) else {
            return Turn::Done;
        };
        let full = SLICE.min(parcels.len() + SHARE);
        for _ in 0..MAX_LOOKS {
            if parcels.len() == full {
                return Turn::Over;
            }
            let Some((who, news)) = it.next() else {
                return Turn::Done;
            };
            let subscriber = &mut self.subscribers[who];
            if !subscriber.wants(topic, &news) {
                continue;
            }
            if subscriber.is_in_batch {
                it.put_back();
                return Turn::Clash;
            }
            // Who takes nothing now gets the newest state when it takes something again.
            if !subscriber.is_free() || subscriber.stage != Stage::Open {
                continue;
            }
            let frame = it.frame(&news, subscriber.deflates);
            subscriber.is_in_batch = true;
            parcels.push(Parcel {
                who,
                topic,
                news,
                frame,
            });
        }
        Turn::Over
    }

    /// Sends a subscriber the newest of all that it has not seen.
    pub(super) fn catch_up(&mut self, who: Key) {
        while let Some((topic, news)) = self.missing(who) {
            self.deliver(who, topic, &news);
        }
    }

    /// What a subscriber has not seen and could be sent now.
    fn missing(&self, who: Key) -> Option<(Key, Update)> {
        let subscriber = self.subscribers.get(who)?;
        if !subscriber.is_free() || subscriber.stage != Stage::Open {
            return None;
        }
        subscriber.follows.iter().find_map(|follow| {
            let share = &self.topics[follow.topic].share;
            let state = share.newest().map(Update::State);
            let preview = share.preview().map(Update::Preview);
            let mut news = state.into_iter().chain(preview);
            let missing = news.find(|news| subscriber.wants(follow.topic, news))?;
            Some((follow.topic, missing))
        })
    }

    /// Sends news to a subscriber that is free.
    fn deliver(&mut self, who: Key, topic: Key, news: &Update) {
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        let frame = self.topics[topic].frame(news, subscriber.deflates);
        match subscriber.send(&frame) {
            Ok(taken) => self.told(who, topic, news, taken),
            Err(end) => self.end(who, end),
        }
    }

    /// Takes note that a subscriber has been told something. After the last state of its last job it
    /// is to leave.
    pub(super) fn told(&mut self, who: Key, topic: Key, news: &Update, taken: Taken) {
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        let Some(follow) = subscriber
            .follow_of(topic)
            .filter(|_| taken == Taken::Begun)
        else {
            return;
        };
        match news {
            Update::State(publication) => follow.seen = publication.seq,
            Update::Preview(preview) => follow.seen_preview = preview.seq,
        }
        if let Some(wait) = follow.wait.take() {
            wait.abort();
        }
        if news.is_final() {
            self.unfollow(who, topic);
            self.part_if_idle(who, close::NORMAL, "the job has ended");
        }
    }
}

impl Subscriber {
    /// Whether news of a topic is news to it.
    fn wants(&self, topic: Key, news: &Update) -> bool {
        let follow = self.follows.iter().find(|follow| follow.topic == topic);
        follow.is_some_and(|follow| match news {
            Update::State(publication) => publication.seq > follow.seen,
            Update::Preview(preview) => self.wants_previews && preview.seq > follow.seen_preview,
        })
    }
}
