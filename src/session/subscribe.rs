use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mio::Interest;

use super::close_code as close;
use super::codec::WsCodec;
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

/// What a client gets as soon as it subscribes to a job.
enum FirstFrame {
    /// The state that the job has.
    State {
        topic: TopicKey,
        state: Arc<Publication>,
        frame: Bytes,
    },
    /// That nobody has registered the job yet.
    Notice(Bytes),
    /// Nothing: the job is being looked for.
    None,
}

impl FirstFrame {
    fn frame(&self) -> Option<&Bytes> {
        match self {
            Self::State { frame, .. } | Self::Notice(frame) => Some(frame),
            Self::None => None,
        }
    }
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
        let first = self.subscribe(key, &job);
        let greeting = format!("Connected to job {job}");
        let greeting = ServerMessage::connection(job.as_str(), &greeting).encode();
        let mut frames = response;
        frames.extend_from_slice(&text_frame(&greeting));
        if let Some(frame) = first.frame() {
            frames.extend_from_slice(frame);
        }
        if let Err(reason) = self.subscribers[key].send_all(frames.freeze()) {
            return self.disconnect(key, reason);
        }
        self.record_first(key, first);
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
        let first = self.subscribe(key, job);
        if let Some(frame) = first.frame() {
            self.subscribers[key].send_all(frame.clone())?;
        }
        self.record_first(key, first);
        Ok(())
    }

    fn record_first(&mut self, key: SubscriberKey, first: FirstFrame) {
        if let FirstFrame::State { topic, state, .. } = first {
            self.record_sent(key, topic, &Update::State(state), WriteProgress::Started);
        }
        self.send_missed(key);
    }

    /// Subscribes a client to a job. While the job has no state, the client waits for it.
    fn subscribe(&mut self, key: SubscriberKey, job: &JobId) -> FirstFrame {
        let topic = self.topic(job);
        let it = &mut self.topics[topic];
        let subscriber = &mut self.subscribers[key];
        let newest = it.subscription.newest();
        subscriber.subscriptions.push(JobSubscription {
            topic,
            index: it.add(key),
            connection_id: it
                .subscription
                .add_connection(subscriber.connection.clone()),
            last_seq: 0,
            last_preview_seq: 0,
            wait: None,
        });
        match newest {
            Some(state) => FirstFrame::State {
                topic,
                frame: it.state_frame(&state, subscriber.deflates, &mut self.deflater),
                state,
            },
            None => match self.await_job(key, topic) {
                Some(notice) => FirstFrame::Notice(notice),
                None => FirstFrame::None,
            },
        }
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
        if let Some(wait) = subscription.wait {
            self.waits.remove(&(wait.until, key, topic));
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

    /// Whether the subscriber is there, and its socket is open and not about to be closed.
    pub(super) fn is_open(&self, key: SubscriberKey) -> bool {
        let subscriber = self.subscribers.get(key);
        subscriber.is_some_and(|it| it.state == SocketState::Open)
    }
}
