use std::io::Write;
use std::time::{Duration, Instant};

use hyper_tungstenite::tungstenite::Message;

use super::client_error::ClientError;
use super::close_code as close;
use super::codec::{ReadOutcome, WsCodec};
use super::commands::ShardCommand;
use super::disconnect::Disconnect;
use super::event_loop::Shard;
use super::frame::text_frame;
use super::keys::SubscriberKey;
use super::message::{ClientMessage, ServerMessage};
use super::subscriber::SocketState;
use crate::auth::Scope;
use crate::job::JobId;
use crate::relay::RelayError;

/// How many jobs a client may subscribe to on one socket.
const MAX_SUBSCRIPTIONS: usize = 100;

/// How many invalid messages a client may send before its socket is closed.
const MAX_BAD_MESSAGES: u32 = 3;

/// How many messages of one client are read before other clients have their turn.
pub(super) const MAX_READS: usize = 32;

impl Shard {
    /// Reads and handles what a client has sent. A client that does not accept the replies is not read
    /// from.
    pub(super) fn read(&mut self, key: SubscriberKey) {
        let now = self.started_at.elapsed();
        for _ in 0..MAX_READS {
            let Some(subscriber) = self.subscribers.get_mut(key) else {
                return;
            };
            match subscriber.state {
                SocketState::Discarding => return self.discard_input(key),
                SocketState::ClosePending(..) => return,
                SocketState::Open | SocketState::Closing => {}
            }
            if subscriber.transport.has_unsent() {
                // Reading, too, can leave bytes to be sent (of TLS), for which there is no event. An
                // error occurs again below.
                let _ = subscriber.transport.flush();
            }
            let awaits_answer = subscriber.awaits_answer && subscriber.state == SocketState::Open;
            if !subscriber.can_send() || awaits_answer {
                return;
            }
            let deflates = subscriber.deflates;
            let codec = subscriber
                .codec
                .get_or_insert_with(|| Box::new(WsCodec::new(deflates, Vec::new())));
            subscriber.allowance.refill(now);
            let received = &mut subscriber.allowance.used;
            match codec.read(&mut subscriber.transport, received) {
                ReadOutcome::Blocked => {
                    let is_paused = subscriber.transport.take_paused();
                    if codec.has_unsent() {
                        subscriber.mark_stalled();
                    } else if codec.is_idle() && subscriber.state == SocketState::Open {
                        subscriber.codec = None;
                    }
                    if is_paused {
                        self.read_later(key);
                    }
                    return;
                }
                ReadOutcome::Message(message) => {
                    subscriber.received_at = Instant::now();
                    subscriber.connection.record_received();
                    if subscriber.state == SocketState::Open
                        && let Err(reason) = self.handle_message(key, message)
                    {
                        self.disconnect(key, reason);
                    }
                }
                ReadOutcome::Disconnect(reason) => return self.stop_reading(key, reason),
            }
        }
        self.read_later(key);
    }

    /// Has a client read from again when other clients have had their turn.
    pub(super) fn read_later(&mut self, key: SubscriberKey) {
        if let Some(subscriber) = self.subscribers.get_mut(key)
            && !subscriber.is_queued_for_reading
        {
            subscriber.is_queued_for_reading = true;
            self.unfinished_reads.push_back(key);
        }
    }

    /// Reads from the clients that [`Shard::read_later`] has queued.
    pub(super) fn resume_reading(&mut self) {
        for key in std::mem::take(&mut self.unfinished_reads) {
            if let Some(subscriber) = self.subscribers.get_mut(key) {
                subscriber.is_queued_for_reading = false;
                self.read(key);
            }
        }
    }

    /// Handles that no message of a client can be parsed any more.
    fn stop_reading(&mut self, key: SubscriberKey, reason: Disconnect) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        match (subscriber.state, reason) {
            (_, Disconnect::ConnectionLost) => self.remove(key),
            (SocketState::Open, reason) => self.disconnect(key, reason),
            (..) => {
                subscriber.transport.shut_down_write();
                subscriber.state = SocketState::Discarding;
                self.discard_input(key);
            }
        }
    }

    fn handle_message(&mut self, key: SubscriberKey, message: Message) -> Result<(), Disconnect> {
        match message {
            Message::Text(text) => match ClientMessage::parse(&text) {
                Ok(message) => self.handle_client_message(key, message),
                Err(error) => {
                    self.reject_message(key, format!("not a message of this protocol: {error}"))
                }
            },
            Message::Binary(_) => self.reject_message(
                key,
                "binary messages are not part of this protocol".to_owned(),
            ),
            Message::Close(_) => Err(Disconnect::ClosedByClient),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn handle_client_message(
        &mut self,
        key: SubscriberKey,
        message: ClientMessage,
    ) -> Result<(), Disconnect> {
        let own = self.subscribers[key].job.clone();
        match message {
            ClientMessage::Auth { token } => self.renew_token(key, &token),
            ClientMessage::Ping => self.send_message(key, &ServerMessage::pong()),
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { job_id } => match JobId::parse(&job_id) {
                Ok(job) => self.handle_subscribe(key, &job),
                Err(error) => self.reject_message(key, error.to_string()),
            },
            ClientMessage::Unsubscribe { job_id } => {
                let job = JobId::parse(&job_id).ok();
                if let Some(&topic) = job.and_then(|job| self.by_job.get(&job)) {
                    self.unsubscribe(key, topic);
                }
                Ok(())
            }
            ClientMessage::Cancel { job_id } => {
                match job_id.as_deref().map_or(Ok(own), JobId::parse) {
                    Ok(job) => self.handle_cancel(key, job),
                    Err(error) => self.reject_message(key, error.to_string()),
                }
            }
        }
    }

    fn handle_subscribe(&mut self, key: SubscriberKey, job: &JobId) -> Result<(), Disconnect> {
        self.drop_ended_subscription(key);
        let subscriptions = &self.subscribers[key].subscriptions;
        let topic = self.by_job.get(job);
        if topic.is_some_and(|&topic| subscriptions.iter().any(|it| it.topic == topic)) {
            return Ok(());
        }
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let error = ClientError::new(
                "too_many_subscriptions",
                format!("a socket can subscribe to at most {MAX_SUBSCRIPTIONS} jobs"),
            );
            return self.send_error(key, job, &error);
        }
        let permissions = &self.subscribers[key].admission.permissions;
        if let Err(error) = permissions.check(Scope::Subscribe, Some(job)) {
            return self.send_error(key, job, &error.into());
        }
        if let Err(wait) = self.count_lookup(key, job) {
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            let error = format!("too many jobs that are not known; try again in {seconds} s");
            return self.send_error(key, job, &ClientError::new("too_many_requests", error));
        }
        self.add_subscription(key, job)
    }

    /// Counts a job that is not known against the limit of requests, because the database and the ComfyUI servers
    /// are asked for it. Fails with the time after which the next is possible.
    fn count_lookup(&self, key: SubscriberKey, job: &JobId) -> Result<(), Duration> {
        let (context, subscriber) = (&self.context, &self.subscribers[key]);
        let address = subscriber.connection.address();
        let is_exempt = address.is_loopback() && !context.config.limits.loopback;
        if is_exempt || context.relay.knows(job) {
            return Ok(());
        }
        let sub = subscriber.admission.permissions.sub();
        context.requests.count(address, sub)
    }

    fn handle_cancel(&mut self, key: SubscriberKey, job: JobId) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[key];
        let permissions = &subscriber.admission.permissions;
        if let Err(error) = permissions.check(Scope::Cancel, Some(&job)) {
            return self.send_error(key, &job, &error.into());
        }
        subscriber.awaits_answer = true;
        let (relay, handle) = (self.context.relay.clone(), self.handle.clone());
        let task = async move {
            let result = relay.cancel(&job).await.map(|_| ());
            handle.send(ShardCommand::Cancelled { key, job, result });
        };
        self.context.tasks.spawn_on(task, &self.runtime);
        Ok(())
    }

    /// Answers a request to cancel a job, and reads on.
    pub(super) fn on_cancelled(
        &mut self,
        key: SubscriberKey,
        job: &JobId,
        result: Result<(), RelayError>,
    ) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        subscriber.awaits_answer = false;
        let sent = match result {
            Ok(()) => Ok(()),
            Err(error) => self.send_error(key, job, &error.into()),
        };
        match sent {
            Ok(()) => self.read(key),
            Err(reason) => self.disconnect(key, reason),
        }
    }

    fn reject_message(&mut self, key: SubscriberKey, error: String) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[key];
        subscriber.bad_messages += 1;
        let is_too_many = subscriber.bad_messages > MAX_BAD_MESSAGES;
        let job = subscriber.job.clone();
        self.send_error(key, &job, &ClientError::new("bad_message", error))?;
        if is_too_many {
            return Err(Disconnect::Close(
                close::POLICY,
                "too many invalid messages",
            ));
        }
        Ok(())
    }

    pub(super) fn send_error(
        &mut self,
        key: SubscriberKey,
        job: &JobId,
        error: &ClientError,
    ) -> Result<(), Disconnect> {
        let message = ServerMessage::error(job.as_str(), error.code, &error.message);
        self.send_message(key, &message)
    }

    pub(super) fn send_message(
        &mut self,
        key: SubscriberKey,
        message: &ServerMessage<'_>,
    ) -> Result<(), Disconnect> {
        if !self.is_open(key) {
            return Ok(());
        }
        self.subscribers[key].send_all(text_frame(&message.encode()))
    }
}
