use std::io::Write;
use std::time::Instant;

use crate::hub::Frame;
use hyper_tungstenite::tungstenite::Message;
use slotmap::DefaultKey as Key;

use super::client_error::ClientError;
use super::close_code as close;
use super::codec::{ReadOutcome, WsCodec};
use super::commands::Command;
use super::disconnect::Disconnect;
use super::event_loop::Shard;
use super::message::{ClientMessage, ServerMessage};
use super::subscriber::ConnectionState;
use crate::auth::Scope;
use crate::job::JobId;
use crate::relay::RelayError;

/// How many jobs one socket may follow.
const MAX_SUBSCRIPTIONS: usize = 100;

/// How many messages that mean nothing are borne before the socket is closed.
const MAX_BAD_MESSAGES: u32 = 3;

/// How many messages of one client are heard before others have their turn.
pub(super) const MAX_READS: usize = 32;

impl Shard {
    /// Listens to a client, as far as it may speak: who does not take our answers is not asked for
    /// more.
    pub(super) fn read(&mut self, key: Key) {
        for _ in 0..MAX_READS {
            let Some(subscriber) = self.subscribers.get_mut(key) else {
                return;
            };
            match subscriber.stage {
                ConnectionState::Discarding => return self.discard_input(key),
                ConnectionState::ClosePending(..) => return,
                ConnectionState::Open | ConnectionState::Closing => {}
            }
            if subscriber.transport.has_unsent() {
                // Also reading makes one, of which no event tells. What fails here fails again below.
                let _ = subscriber.transport.flush();
            }
            let awaits_answer =
                subscriber.awaits_answer && subscriber.stage == ConnectionState::Open;
            if !subscriber.can_send() || awaits_answer {
                return;
            }
            let deflates = subscriber.deflates;
            let codec = subscriber
                .codec
                .get_or_insert_with(|| Box::new(WsCodec::new(deflates, Vec::new())));
            match codec.read(&mut subscriber.transport, &mut subscriber.bytes_since_ping) {
                ReadOutcome::Blocked => {
                    if codec.has_unsent() {
                        subscriber.mark_stalled();
                    } else if codec.is_idle() && subscriber.stage == ConnectionState::Open {
                        subscriber.codec = None;
                    }
                    return;
                }
                ReadOutcome::Message(frame) => {
                    subscriber.received_at = Instant::now();
                    subscriber.connection.record_received();
                    if subscriber.stage == ConnectionState::Open
                        && let Err(end) = self.handle_message(key, frame)
                    {
                        self.disconnect(key, end);
                    }
                }
                ReadOutcome::Disconnect(end) => return self.stop_reading(key, end),
            }
        }
        self.read_later(key);
    }

    /// Has a client listened to once more when others have had their turn.
    pub(super) fn read_later(&mut self, key: Key) {
        if let Some(subscriber) = self.subscribers.get_mut(key)
            && !subscriber.is_queued_for_reading
        {
            subscriber.is_queued_for_reading = true;
            self.unfinished_reads.push_back(key);
        }
    }

    /// What a client sends from now on cannot be understood any more.
    fn stop_reading(&mut self, key: Key, end: Disconnect) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        match (subscriber.stage, end) {
            (_, Disconnect::ConnectionLost) => self.remove(key),
            (ConnectionState::Open, end) => self.disconnect(key, end),
            (..) => {
                subscriber.transport.shut_down_write();
                subscriber.stage = ConnectionState::Discarding;
                self.discard_input(key);
            }
        }
    }

    /// Listens on to those who were interrupted.
    pub(super) fn resume_reading(&mut self) {
        for key in std::mem::take(&mut self.unfinished_reads) {
            if let Some(subscriber) = self.subscribers.get_mut(key) {
                subscriber.is_queued_for_reading = false;
                self.read(key);
            }
        }
    }

    fn handle_message(&mut self, key: Key, message: Message) -> Result<(), Disconnect> {
        match message {
            Message::Text(text) => match ClientMessage::parse(&text) {
                Ok(message) => self.handle_client_message(key, message),
                Err(error) => {
                    self.reject_message(key, format!("this message means nothing here: {error}"))
                }
            },
            Message::Binary(_) => {
                self.reject_message(key, "binary messages mean nothing here".to_owned())
            }
            Message::Close(_) => Err(Disconnect::ClosedByClient),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn handle_client_message(
        &mut self,
        key: Key,
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
                    Ok(job) => self.cancel(key, job),
                    Err(error) => self.reject_message(key, error.to_string()),
                }
            }
        }
    }

    fn handle_subscribe(&mut self, key: Key, job: &JobId) -> Result<(), Disconnect> {
        let subscriptions = &self.subscribers[key].subscriptions;
        let topic = self.by_job.get(job);
        if topic.is_some_and(|&topic| {
            subscriptions
                .iter()
                .any(|subscription| subscription.topic == topic)
        }) {
            return Ok(());
        }
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let failure = ClientError::new(
                "too_many_subscriptions",
                format!("one socket subscriptions at most {MAX_SUBSCRIPTIONS} jobs"),
            );
            return self.send_error(key, job, &failure);
        }
        let permissions = &self.subscribers[key].admission.permissions;
        if let Err(failure) = permissions.check(Scope::Subscribe, Some(job)) {
            return self.send_error(key, job, &failure.into());
        }
        self.subscribe_and_send(key, job)
    }

    fn cancel(&mut self, key: Key, job: JobId) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[key];
        if let Err(failure) = subscriber
            .admission
            .permissions
            .check(Scope::Cancel, Some(&job))
        {
            return self.send_error(key, &job, &failure.into());
        }
        subscriber.awaits_answer = true;
        let (relay, handle) = (self.context.relay.clone(), self.handle.clone());
        let task = async move {
            let result = relay.cancel(&job).await;
            handle.send(Command::Cancelled { key, job, result });
        };
        self.context.tasks.spawn_on(task, &self.runtime);
        Ok(())
    }

    /// Tells what came of a wish to cancel a job, and listens on.
    pub(super) fn on_cancelled(&mut self, key: Key, job: &JobId, result: Result<(), RelayError>) {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        subscriber.awaits_answer = false;
        let told = match result {
            Ok(()) => Ok(()),
            Err(error) => self.send_error(key, job, &error.into()),
        };
        match told {
            Ok(()) => self.read(key),
            Err(end) => self.disconnect(key, end),
        }
    }

    fn reject_message(&mut self, key: Key, why: String) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[key];
        subscriber.bad_messages += 1;
        let is_too_much = subscriber.bad_messages > MAX_BAD_MESSAGES;
        let job = subscriber.job.clone();
        self.send_error(key, &job, &ClientError::new("bad_message", why))?;
        match is_too_much {
            true => Err(Disconnect::Close(
                close::POLICY,
                "too many messages that mean nothing here",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn send_error(
        &mut self,
        key: Key,
        job: &JobId,
        failure: &ClientError,
    ) -> Result<(), Disconnect> {
        let error = ServerMessage::error(job.as_str(), failure.code, &failure.message);
        self.send_message(key, &error)
    }

    pub(super) fn send_message(
        &mut self,
        key: Key,
        message: &ServerMessage<'_>,
    ) -> Result<(), Disconnect> {
        if !self.is_open(key) {
            return Ok(());
        }
        let message = Frame::text(&message.encode());
        self.subscribers[key].send_all(message.plain().clone())
    }
}
