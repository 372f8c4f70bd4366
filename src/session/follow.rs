use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use mio::Interest;
use slotmap::DefaultKey as Key;

use super::Arrival;
use super::await_job::{NotFound, await_job};
use super::close_code as close;
use super::dialogue::Dialogue;
use super::disconnect::Disconnect;
use super::inbox::Word;
use super::line::Handover;
use super::message::ServerMessage;
use super::subscriber::{Follow, Stage, Subscriber, Taken};
use super::thread::{Shard, token};
use super::topic::{Topic, snapshot};
use crate::hub::{Frame, Publication, Update};
use crate::job::JobId;

impl Shard {
    /// Takes a client in: it is greeted, and told the newest state of its job, where there is one.
    pub(super) fn welcome(&mut self, handover: Handover, arrival: Arrival) {
        let Handover {
            line,
            answer,
            early,
        } = handover;
        let now = Instant::now();
        tracing::debug!(job_id = %arrival.job, peer = %arrival.address, "subscriber came");
        let known = self.by_job.get_key_value(&arrival.job);
        let job = known.map_or(&arrival.job, |(job, _)| job).clone();
        let deflates = arrival.deflates;
        let subscriber = Subscriber::new(line, arrival, job.clone(), now);
        let who = self.subscribers.insert(subscriber);
        let subscriber = &mut self.subscribers[who];
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut subscriber.line, token(who), interest) {
            tracing::warn!(%error, "a subscriber's socket cannot be watched");
            return self.remove(who);
        }
        // Decrypted bytes that nobody has read make no event either.
        let is_early = !early.is_empty() || subscriber.line.plain().is_none();
        if !early.is_empty() {
            subscriber.dialogue = Some(Box::new(Dialogue::new(deflates, early)));
        }
        if self.is_stopping {
            self.goodbyes.add(who, now);
            if let Err(end) = self.subscribers[who].say(answer.freeze()) {
                return self.end(who, end);
            }
            return self.part(who, close::GOING_AWAY, "the relay is being stopped");
        }
        self.pings.add(who, now);
        self.watch_expiry(who, now);
        // Who has read the greeting misses nothing that happens afterwards.
        let newest = self.follow(who, &job);
        let greeting = format!("Connected to job {job}");
        let greeting = ServerMessage::connection(job.as_str(), &greeting).encode();
        let mut frames = answer;
        frames.extend_from_slice(Frame::text(&greeting).plain());
        if let Some(newest) = &newest {
            frames.extend_from_slice(&snapshot(newest, deflates));
        }
        if let Err(end) = self.subscribers[who].say(frames.freeze()) {
            return self.end(who, end);
        }
        if let Some(newest) = newest {
            self.introduced(who, &job, newest);
        }
        self.catch_up(who);
        if is_early {
            self.hear(who);
        }
    }

    /// Lets a subscriber follow one more job.
    pub(super) fn subscribe(&mut self, who: Key, job: &JobId) -> Result<(), Disconnect> {
        if let Some(newest) = self.follow(who, job) {
            let frame = snapshot(&newest, self.subscribers[who].deflates);
            self.subscribers[who].say(frame)?;
            self.introduced(who, job, newest);
        }
        self.catch_up(who);
        Ok(())
    }

    /// Takes note that a subscriber has been told the state in which it found a job.
    fn introduced(&mut self, who: Key, job: &JobId, newest: Arc<Publication>) {
        if let Some(&topic) = self.by_job.get(job) {
            self.told(who, topic, &Update::State(newest), Taken::Begun);
        }
    }

    /// Lets a subscriber follow a job. Returns its newest state.
    fn follow(&mut self, who: Key, job: &JobId) -> Option<Arc<Publication>> {
        let topic = self.topic(job);
        let it = &mut self.topics[topic];
        let subscriber = &mut self.subscribers[who];
        let newest = it.share.newest();
        let wait = match newest {
            Some(_) => None,
            None => {
                let wait = self.context.config.job_wait;
                let (inbox, job) = (self.inbox.clone(), job.clone());
                let looks = await_job(self.context.relay.clone(), job.clone(), wait);
                let task = async move {
                    let mut looks = pin!(looks);
                    while let Some(missed) = looks.next().await {
                        let job = job.clone();
                        inbox.tell(Word::NotFound { who, job, missed });
                    }
                };
                let task = self.context.tasks.spawn_on(task, &self.runtime);
                Some(task.abort_handle())
            }
        };
        subscriber.follows.push(Follow {
            topic,
            place: it.add(who),
            booked: it.share.enter(subscriber.connection.clone()),
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
        let outlet = self.inbox.outlet().clone();
        let share = self.context.relay.subscribe_shared(job, outlet);
        let topic = self.topics.insert(Topic::new(share));
        self.by_job.insert(job.clone(), topic);
        topic
    }

    pub(super) fn unfollow(&mut self, who: Key, topic: Key) {
        let subscriber = &mut self.subscribers[who];
        let mut follows = subscriber.follows.iter();
        let Some(index) = follows.position(|follow| follow.topic == topic) else {
            return;
        };
        let follow = subscriber.follows.swap_remove(index);
        if let Some(wait) = follow.wait {
            wait.abort();
        }
        let it = &mut self.topics[topic];
        it.share.leave(follow.booked);
        let subscribers = &mut self.subscribers;
        it.remove(follow.place, |who, place| {
            if let Some(follow) = subscribers[who].follow_of(topic) {
                follow.place = place;
            }
        });
        if it.is_deserted() {
            self.by_job.remove(it.share.job());
            self.topics.remove(topic);
        }
    }

    /// A job that is waited for was not found. It may have been registered by now, with its first
    /// state on the way.
    pub(super) fn miss(&mut self, who: Key, job: &JobId, missed: NotFound) {
        let Some(&topic) = self.by_job.get(job) else {
            return;
        };
        let is_known = self.topics[topic].share.newest().is_some();
        let subscriber = self.subscribers.get_mut(who);
        let waits = subscriber.is_some_and(|it| it.follow_of(topic).is_some());
        if is_known || !waits {
            return;
        }
        let (failure, end) = missed.tell();
        if let Err(end) = self.complain(who, job, &failure) {
            return self.end(who, end);
        }
        if let Some(end) = end {
            self.unfollow(who, topic);
            if self.subscribers[who].follows.is_empty() {
                self.end(who, end);
            }
        }
    }

    /// Whether there is such a subscriber, and it is not on its way out.
    pub(super) fn is_open(&self, who: Key) -> bool {
        let subscriber = self.subscribers.get(who);
        subscriber.is_some_and(|it| it.stage == Stage::Open)
    }
}
