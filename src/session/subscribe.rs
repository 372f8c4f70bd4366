use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use mio::Interest;

use super::await_job::{NotFound, await_job};
use super::close_code as close;
use super::codec::WsCodec;
use super::commands::ShardCommand;
use super::disconnect::Disconnect;
use super::event_loop::Shard;
use super::frame::text_frame;
use super::keys::{SubscriberKey, TopicKey};
use super::message::ServerMessage;
use super::subscriber::{JobSubscription, NewSubscriber, SocketState, Subscriber, WriteProgress};
use super::topic::ShardTopic;
use super::transport::Handover;
use crate::hub::{Publication, Update};
use crate::job::JobId;

/// The state that a job has when a client subscribes.
struct Snapshot {
    topic: TopicKey,
    state: Arc<Publication>,
    frame: Bytes,
}

impl Shard {
    /// Adds a client: it gets the greeting, and the newest state of its job, if there is one.
    pub(super) fn add_subscriber(&mut self, handover: Handover, client: NewSubscriber) {
        let Handover {
            transport,
            response,
            early,
        } = handover;
        let now = Instant::now();
        tracing::debug!(job_id = %client.job, peer = %client.address, "subscriber connected");
        let known = self.by_job.get_key_value(&client.job);
        let job = known.map_or(&client.job, |(job, _)| job).clone();
        let mut subscriber = Subscriber::new(transport, client, job.clone(), now);
        // There is no event for bytes that were read already, or decrypted and not read.
        let has_early_bytes = !early.is_empty() || subscriber.transport.plain().is_none();
        if !early.is_empty() {
            subscriber.codec = Some(Box::new(WsCodec::new(subscriber.deflates, early)));
        }
        let key = self.subscribers.insert(subscriber);
        let transport = &mut self.subscribers[key].transport;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(transport, key.token(), interest) {
            tracing::warn!(%error, "cannot poll a subscriber's socket");
            return self.remove(key);
        }
        if self.is_stopping {
            self.closes.add(key, now);
            if let Err(reason) = self.subscribers[key].send_all(response.freeze()) {
                return self.disconnect(key, reason);
            }
            return self.begin_close(key, close::GOING_AWAY, "the relay is being stopped");
        }
        self.pings.add(key, now);
        self.schedule_token_check(key, now);
        // Subscribed before the greeting is sent: a client that has read it misses nothing that happens
        // afterwards.
        let snapshot = self.subscribe(key, &job);
        let greeting = format!("Connected to job {job}");
        let greeting = ServerMessage::connection(job.as_str(), &greeting).encode();
        let mut frames = response;
        frames.extend_from_slice(&text_frame(&greeting));
        if let Some(snapshot) = &snapshot {
            frames.extend_from_slice(&snapshot.frame);
        }
        if let Err(reason) = self.subscribers[key].send_all(frames.freeze()) {
            return self.disconnect(key, reason);
        }
        self.record_snapshot(key, snapshot);
        if has_early_bytes {
            self.read(key);
        }
    }

    /// Subscribes a client to a further job, and sends it the job's newest state.
    pub(super) fn add_subscription(
        &mut self,
        key: SubscriberKey,
        job: &JobId,
    ) -> Result<(), Disconnect> {
        let snapshot = self.subscribe(key, job);
        if let Some(snapshot) = &snapshot {
            self.subscribers[key].send_all(snapshot.frame.clone())?;
        }
        self.record_snapshot(key, snapshot);
        Ok(())
    }

    fn record_snapshot(&mut self, key: SubscriberKey, snapshot: Option<Snapshot>) {
        if let Some(Snapshot { topic, state, .. }) = snapshot {
            self.record_sent(key, topic, &Update::State(state), WriteProgress::Started);
        }
        self.send_missed(key);
    }

    /// Subscribes a client to a job. While the job has no state, a task looks for it.
    fn subscribe(&mut self, key: SubscriberKey, job: &JobId) -> Option<Snapshot> {
        let topic = self.topic(job);
        let it = &mut self.topics[topic];
        let subscriber = &mut self.subscribers[key];
        let newest = it.subscription.newest();
        let lookup = if newest.is_none() {
            let lookups = await_job(
                self.context.relay.clone(),
                job.clone(),
                self.context.config.job_wait,
            );
            let (handle, job) = (self.handle.clone(), job.clone());
            let task = async move {
                let mut lookups = pin!(lookups);
                while let Some(result) = lookups.next().await {
                    let job = job.clone();
                    handle.send(ShardCommand::NotFound { key, job, result });
                }
            };
            let task = self.context.tasks.spawn_on(task, &self.runtime);
            Some(task.abort_handle())
        } else {
            None
        };
        subscriber.subscriptions.push(JobSubscription {
            topic,
            index: it.add(key),
            connection_id: it
                .subscription
                .add_connection(subscriber.connection.clone()),
            last_seq: 0,
            last_preview_seq: 0,
            lookup,
        });
        newest.map(|state| Snapshot {
            topic,
            frame: it.state_frame(&state, subscriber.deflates, &mut self.deflater),
            state,
        })
    }

    fn topic(&mut self, job: &JobId) -> TopicKey {
        if let Some(&topic) = self.by_job.get(job) {
            return topic;
        }
        let mailbox = self.handle.mailbox().clone();
        let subscription = self.context.relay.subscribe_shared(job, mailbox);
        let topic = self.topics.insert(ShardTopic::new(subscription));
        self.by_job.insert(job.clone(), topic);
        topic
    }

    pub(super) fn unsubscribe(&mut self, key: SubscriberKey, topic: TopicKey) {
        let subscriptions = &mut self.subscribers[key].subscriptions;
        let Some(index) = subscriptions.iter().position(|it| it.topic == topic) else {
            return;
        };
        let subscription = subscriptions.swap_remove(index);
        if let Some(lookup) = subscription.lookup {
            lookup.abort();
        }
        let it = &mut self.topics[topic];
        it.subscription
            .remove_connection(subscription.connection_id);
        let subscribers = &mut self.subscribers;
        it.remove(subscription.index, |moved, index| {
            if let Some(subscription) = subscribers[moved].subscription_to(topic) {
                subscription.index = index;
            }
        });
        if it.has_no_subscribers() {
            self.by_job.remove(it.subscription.job());
            self.topics.remove(topic);
        }
    }

    pub(super) fn unsubscribe_all(&mut self, key: SubscriberKey) {
        while let Some(topic) = self
            .subscribers
            .get(key)
            .and_then(|it| Some(it.subscriptions.last()?.topic))
        {
            self.unsubscribe(key, topic);
        }
    }

    /// Handles that a job was not found. It may have been registered since, with its first state not
    /// sent yet.
    pub(super) fn on_not_found(&mut self, key: SubscriberKey, job: &JobId, result: NotFound) {
        let Some(&topic) = self.by_job.get(job) else {
            return;
        };
        let is_known = self.topics[topic].subscription.newest().is_some();
        let subscriber = self.subscribers.get_mut(key);
        let is_subscribed = subscriber.is_some_and(|it| it.subscription_to(topic).is_some());
        if is_known || !is_subscribed {
            return;
        }
        let message = text_frame(&result.message(job));
        if self.is_open(key)
            && let Err(reason) = self.subscribers[key].send_all(message)
        {
            return self.disconnect(key, reason);
        }
        if let Some(reason) = result.disconnect() {
            self.unsubscribe(key, topic);
            if self.subscribers[key].subscriptions.is_empty() {
                self.disconnect(key, reason);
            }
        }
    }

    /// Whether the subscriber is there, and its socket is open and not about to be closed.
    pub(super) fn is_open(&self, key: SubscriberKey) -> bool {
        let subscriber = self.subscribers.get(key);
        subscriber.is_some_and(|it| it.state == SocketState::Open)
    }
}
