use std::io::Write;
use std::time::Instant;

use crate::hub::Frame;
use hyper_tungstenite::tungstenite::Message;
use slotmap::DefaultKey as Key;

use super::client_error::ClientError;
use super::close_code as close;
use super::dialogue::{Dialogue, Heard};
use super::disconnect::Disconnect;
use super::inbox::Word;
use super::message::{ClientMessage, ServerMessage};
use super::subscriber::Stage;
use super::thread::Shard;
use crate::auth::Scope;
use crate::job::JobId;
use crate::relay::RelayError;

/// How many jobs one socket may follow.
const MAX_SUBSCRIPTIONS: usize = 100;

/// How many messages that mean nothing are borne before the socket is closed.
const MAX_BAD_MESSAGES: u32 = 3;

/// How many messages of one client are heard before others have their turn.
pub(super) const MAX_TURN: usize = 32;

impl Shard {
    /// Listens to a client, as far as it may speak: who does not take our answers is not asked for
    /// more.
    pub(super) fn hear(&mut self, who: Key) {
        for _ in 0..MAX_TURN {
            let Some(subscriber) = self.subscribers.get_mut(who) else {
                return;
            };
            match subscriber.stage {
                Stage::Draining => return self.drain(who),
                Stage::Parting(..) => return,
                Stage::Open | Stage::Closing => {}
            }
            if subscriber.line.has_backlog() {
                // Also reading makes one, of which no event tells. What fails here fails again below.
                let _ = subscriber.line.flush();
            }
            let awaits_answer = subscriber.awaits_answer && subscriber.stage == Stage::Open;
            if !subscriber.is_free() || awaits_answer {
                return;
            }
            let deflates = subscriber.deflates;
            let dialogue = subscriber
                .dialogue
                .get_or_insert_with(|| Box::new(Dialogue::new(deflates, Vec::new())));
            match dialogue.listen(&mut subscriber.line, &mut subscriber.heard) {
                Heard::Nothing => {
                    if dialogue.is_speaking() {
                        subscriber.stall();
                    } else if dialogue.is_over() && subscriber.stage == Stage::Open {
                        subscriber.dialogue = None;
                    }
                    return;
                }
                Heard::Message(frame) => {
                    subscriber.heard_at = Instant::now();
                    subscriber.connection.heard();
                    if subscriber.stage == Stage::Open
                        && let Err(end) = self.understand(who, frame)
                    {
                        self.end(who, end);
                    }
                }
                Heard::Disconnect(end) => return self.stop_hearing(who, end),
            }
        }
        self.make_eager(who);
    }

    /// Has a client listened to once more when others have had their turn.
    pub(super) fn make_eager(&mut self, who: Key) {
        if let Some(subscriber) = self.subscribers.get_mut(who)
            && !subscriber.is_eager
        {
            subscriber.is_eager = true;
            self.eager.push_back(who);
        }
    }

    /// What a client sends from now on cannot be understood any more.
    fn stop_hearing(&mut self, who: Key, end: Disconnect) {
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        match (subscriber.stage, end) {
            (_, Disconnect::Gone) => self.remove(who),
            (Stage::Open, end) => self.end(who, end),
            (..) => {
                subscriber.line.finish();
                subscriber.stage = Stage::Draining;
                self.drain(who);
            }
        }
    }

    /// Listens on to those who were interrupted.
    pub(super) fn hear_eager(&mut self) {
        for who in std::mem::take(&mut self.eager) {
            if let Some(subscriber) = self.subscribers.get_mut(who) {
                subscriber.is_eager = false;
                self.hear(who);
            }
        }
    }

    fn understand(&mut self, who: Key, message: Message) -> Result<(), Disconnect> {
        match message {
            Message::Text(text) => match ClientMessage::parse(&text) {
                Ok(message) => self.obey(who, message),
                Err(error) => self.refuse(who, format!("this message means nothing here: {error}")),
            },
            Message::Binary(_) => self.refuse(who, "binary messages mean nothing here".to_owned()),
            Message::Close(_) => Err(Disconnect::Left),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn obey(&mut self, who: Key, message: ClientMessage) -> Result<(), Disconnect> {
        let own = self.subscribers[who].job.clone();
        match message {
            ClientMessage::Auth { token } => self.renew(who, &token),
            ClientMessage::Ping => self.say(who, &ServerMessage::pong()),
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { job_id } => match JobId::parse(&job_id) {
                Ok(job) => self.subscribe_to(who, &job),
                Err(error) => self.refuse(who, error.to_string()),
            },
            ClientMessage::Unsubscribe { job_id } => {
                let job = JobId::parse(&job_id).ok();
                if let Some(&topic) = job.and_then(|job| self.by_job.get(&job)) {
                    self.unfollow(who, topic);
                }
                Ok(())
            }
            ClientMessage::Cancel { job_id } => {
                match job_id.as_deref().map_or(Ok(own), JobId::parse) {
                    Ok(job) => self.cancel(who, job),
                    Err(error) => self.refuse(who, error.to_string()),
                }
            }
        }
    }

    fn subscribe_to(&mut self, who: Key, job: &JobId) -> Result<(), Disconnect> {
        let follows = &self.subscribers[who].follows;
        let topic = self.by_job.get(job);
        if topic.is_some_and(|&topic| follows.iter().any(|follow| follow.topic == topic)) {
            return Ok(());
        }
        if follows.len() >= MAX_SUBSCRIPTIONS {
            let failure = ClientError::new(
                "too_many_subscriptions",
                format!("one socket follows at most {MAX_SUBSCRIPTIONS} jobs"),
            );
            return self.complain(who, job, &failure);
        }
        let permissions = &self.subscribers[who].admission.permissions;
        if let Err(failure) = permissions.check(Scope::Subscribe, Some(job)) {
            return self.complain(who, job, &failure.into());
        }
        self.subscribe(who, job)
    }

    fn cancel(&mut self, who: Key, job: JobId) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[who];
        if let Err(failure) = subscriber
            .admission
            .permissions
            .check(Scope::Cancel, Some(&job))
        {
            return self.complain(who, &job, &failure.into());
        }
        subscriber.awaits_answer = true;
        let (relay, inbox) = (self.context.relay.clone(), self.inbox.clone());
        let task = async move {
            let result = relay.cancel(&job).await;
            inbox.tell(Word::Cancelled { who, job, result });
        };
        self.context.tasks.spawn_on(task, &self.runtime);
        Ok(())
    }

    /// Tells what came of a wish to cancel a job, and listens on.
    pub(super) fn answer(&mut self, who: Key, job: &JobId, result: Result<(), RelayError>) {
        let Some(subscriber) = self.subscribers.get_mut(who) else {
            return;
        };
        subscriber.awaits_answer = false;
        let told = match result {
            Ok(()) => Ok(()),
            Err(error) => self.complain(who, job, &error.into()),
        };
        match told {
            Ok(()) => self.hear(who),
            Err(end) => self.end(who, end),
        }
    }

    fn refuse(&mut self, who: Key, why: String) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[who];
        subscriber.bad_messages += 1;
        let is_too_much = subscriber.bad_messages > MAX_BAD_MESSAGES;
        let job = subscriber.job.clone();
        self.complain(who, &job, &ClientError::new("bad_message", why))?;
        match is_too_much {
            true => Err(Disconnect::Close(
                close::POLICY,
                "too many messages that mean nothing here",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn complain(
        &mut self,
        who: Key,
        job: &JobId,
        failure: &ClientError,
    ) -> Result<(), Disconnect> {
        let error = ServerMessage::error(job.as_str(), failure.code, &failure.message);
        self.say(who, &error)
    }

    pub(super) fn say(&mut self, who: Key, message: &ServerMessage<'_>) -> Result<(), Disconnect> {
        if !self.is_open(who) {
            return Ok(());
        }
        let message = Frame::text(&message.encode());
        self.subscribers[who].say(message.plain().clone())
    }
}
