use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use mio::Interest;
use slotmap::DefaultKey as Key;

use super::await_job::{NotFound, await_job};
use super::close_code as close;
use super::codec::WsCodec;
use super::commands::Command;
use super::disconnect::Disconnect;
use super::event_loop::{Shard, token};
use super::message::ServerMessage;
use super::subscriber::{
    ConnectionState, JobSubscription, NewSubscriber, Subscriber, WriteProgress,
};
use super::topic::{Topic, snapshot};
use super::transport::Handover;
use crate::hub::{Frame, Publication, Update};
use crate::job::JobId;

impl Shard {
    /// Takes a client in: it is greeted, and told the newest state of its job, where there is one.
    pub(super) fn add_subscriber(&mut self, handover: Handover, client: NewSubscriber) {
        let Handover {
            transport,
            answer,
            early,
        } = handover;
        let now = Instant::now();
        tracing::debug!(job_id = %client.job, peer = %client.address, "subscriber came");
        let known = self.by_job.get_key_value(&client.job);
        let job = known.map_or(&client.job, |(job, _)| job).clone();
        let deflates = client.deflates;
        let subscriber = Subscriber::new(transport, client, job.clone(), now);
        let key = self.subscribers.insert(subscriber);
        let subscriber = &mut self.subscribers[key];
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut subscriber.transport, token(key), interest) {
            tracing::warn!(%error, "a subscriber's socket cannot be watched");
            return self.remove(key);
        }
        // Decrypted bytes that nobody has read make no event either.
        let is_early = !early.is_empty() || subscriber.transport.plain().is_none();
        if !early.is_empty() {
            subscriber.codec = Some(Box::new(WsCodec::new(deflates, early)));
        }
        if self.is_stopping {
            self.closes.add(key, now);
            if let Err(end) = self.subscribers[key].send_all(answer.freeze()) {
                return self.disconnect(key, end);
            }
            return self.begin_close(key, close::GOING_AWAY, "the relay is being stopped");
        }
        self.pings.add(key, now);
        self.schedule_token_check(key, now);
        // Who has read the greeting misses nothing that happens afterwards.
        let newest = self.subscribe(key, &job);
        let greeting = format!("Connected to job {job}");
        let greeting = ServerMessage::connection(job.as_str(), &greeting).encode();
        let mut frames = answer;
        frames.extend_from_slice(Frame::text(&greeting).plain());
        if let Some(newest) = &newest {
            frames.extend_from_slice(&snapshot(newest, deflates));
        }
        if let Err(end) = self.subscribers[key].send_all(frames.freeze()) {
            return self.disconnect(key, end);
        }
        if let Some(newest) = newest {
            self.record_snapshot(key, &job, newest);
        }
        self.send_missed(key);
        if is_early {
            self.read(key);
        }
    }

    /// Lets a subscriber follow one more job.
    pub(super) fn subscribe_and_send(&mut self, key: Key, job: &JobId) -> Result<(), Disconnect> {
        if let Some(newest) = self.subscribe(key, job) {
            let frame = snapshot(&newest, self.subscribers[key].deflates);
            self.subscribers[key].send_all(frame)?;
            self.record_snapshot(key, job, newest);
        }
        self.send_missed(key);
        Ok(())
    }

    /// Takes note that a subscriber has been told the state in which it found a job.
    fn record_snapshot(&mut self, key: Key, job: &JobId, newest: Arc<Publication>) {
        if let Some(&topic) = self.by_job.get(job) {
            self.record_sent(key, topic, &Update::State(newest), WriteProgress::Started);
        }
    }

    /// Lets a subscriber follow a job. Returns its newest state.
    fn subscribe(&mut self, key: Key, job: &JobId) -> Option<Arc<Publication>> {
        let topic = self.topic(job);
        let it = &mut self.topics[topic];
        let subscriber = &mut self.subscribers[key];
        let newest = it.subscription.newest();
        let wait = match newest {
            Some(_) => None,
            None => {
                let wait = self.context.config.job_wait;
                let (handle, job) = (self.handle.clone(), job.clone());
                let looks = await_job(self.context.relay.clone(), job.clone(), wait);
                let task = async move {
                    let mut looks = pin!(looks);
                    while let Some(missed) = looks.next().await {
                        let job = job.clone();
                        handle.send(Command::NotFound { key, job, missed });
                    }
                };
                let task = self.context.tasks.spawn_on(task, &self.runtime);
                Some(task.abort_handle())
            }
        };
        subscriber.subscriptions.push(JobSubscription {
            topic,
            place: it.add(key),
            connection_id: it
                .subscription
                .add_connection(subscriber.connection.clone()),
            seen: 0,
            seen_preview: 0,
            wait,
        });
        newest
    }

    fn topic(&mut self, job: &JobId) -> Key {
        if let Some(&topic) = self.by_job.get(job) {
            return topic;
        }
        let mailbox = self.handle.mailbox().clone();
        let subscription = self.context.relay.subscribe_shared(job, mailbox);
        let topic = self.topics.insert(Topic::new(subscription));
        self.by_job.insert(job.clone(), topic);
        topic
    }

    pub(super) fn unsubscribe(&mut self, key: Key, topic: Key) {
        let subscriber = &mut self.subscribers[key];
        let mut subscriptions = subscriber.subscriptions.iter();
        let Some(index) = subscriptions.position(|subscription| subscription.topic == topic) else {
            return;
        };
        let subscription = subscriber.subscriptions.swap_remove(index);
        if let Some(wait) = subscription.wait {
            wait.abort();
        }
        let it = &mut self.topics[topic];
        it.subscription
            .remove_connection(subscription.connection_id);
        let subscribers = &mut self.subscribers;
        it.remove(subscription.place, |key, place| {
            if let Some(subscription) = subscribers[key].subscription_to(topic) {
                subscription.place = place;
            }
        });
        if it.has_no_subscribers() {
            self.by_job.remove(it.subscription.job());
            self.topics.remove(topic);
        }
    }

    /// A job that is waited for was not found. It may have been registered by now, with its first
    /// state on the way.
    pub(super) fn on_not_found(&mut self, key: Key, job: &JobId, missed: NotFound) {
        let Some(&topic) = self.by_job.get(job) else {
            return;
        };
        let is_known = self.topics[topic].subscription.newest().is_some();
        let subscriber = self.subscribers.get_mut(key);
        let waits = subscriber.is_some_and(|it| it.subscription_to(topic).is_some());
        if is_known || !waits {
            return;
        }
        let (failure, end) = missed.into_error();
        if let Err(end) = self.send_error(key, job, &failure) {
            return self.disconnect(key, end);
        }
        if let Some(end) = end {
            self.unsubscribe(key, topic);
            if self.subscribers[key].subscriptions.is_empty() {
                self.disconnect(key, end);
            }
        }
    }

    /// Whether there is such a subscriber, and it is not on its way out.
    pub(super) fn is_open(&self, key: Key) -> bool {
        let subscriber = self.subscribers.get(key);
        subscriber.is_some_and(|it| it.stage == ConnectionState::Open)
    }
}
