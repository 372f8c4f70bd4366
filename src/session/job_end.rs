use std::cmp::Reverse;
use std::time::Instant;

use super::close_code as close;
use super::event_loop::Shard;
use super::keys::{SubscriberKey, TopicKey};

/// Why a socket is closed with 1000.
const REASON: &str = "the job has ended";

impl Shard {
    /// Ends a subscription whose final state was sent.
    ///
    /// The socket of a subscriber whose last job has ended stays open, with pings, until the client leaves
    /// or `connection_timeout` has passed: clients of the system before connect again after every close,
    /// and would come back for ever. A client that asks for it is disconnected at once.
    pub(super) fn end_subscription(&mut self, key: SubscriberKey, topic: TopicKey) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        let mut others = subscriber.subscriptions.iter();
        let has_others = others.any(|other| other.topic != topic);
        if has_others {
            // It makes room: a client may follow one job after the other on the same socket.
            return self.unsubscribe(key, topic);
        }
        if subscriber.closes_at_end {
            return self.begin_close(key, close::NORMAL, REASON);
        }
        // The record of its connection stays, so that the status shows every open socket.
        if let Some(subscription) = subscriber.subscription_to(topic) {
            subscription.end();
        }
        let now = Instant::now();
        subscriber.ended_at = Some(now);
        // At most one entry for each subscriber, however many jobs it follows one after the other.
        if !std::mem::replace(&mut subscriber.is_queued_for_end, true) {
            let due = now + self.context.config.connection_timeout;
            self.ends.push(Reverse((due, key)));
        }
    }

    /// Removes the subscription that has ended, because the client subscribes to a job.
    pub(super) fn drop_ended_subscription(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        subscriber.ended_at = None;
        let ended = subscriber.subscriptions.iter().find(|it| it.has_ended());
        if let Some(topic) = ended.map(|it| it.topic) {
            self.unsubscribe(key, topic);
        }
    }

    /// Closes the sockets of subscribers whose jobs ended `connection_timeout` ago.
    pub(super) fn close_ended(&mut self, now: Instant) {
        let after = self.context.config.connection_timeout;
        while let Some(&Reverse((due, key))) = self.ends.peek()
            && due <= now
        {
            self.ends.pop();
            let Some(subscriber) = self.subscribers.get_mut(key) else {
                continue;
            };
            subscriber.is_queued_for_end = false;
            let Some(ended_at) = subscriber.ended_at else {
                continue;
            };
            if ended_at + after <= now {
                self.begin_close(key, close::NORMAL, REASON);
            } else {
                // It has followed another job meanwhile.
                subscriber.is_queued_for_end = true;
                self.ends.push(Reverse((ended_at + after, key)));
            }
        }
    }
}
