use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::await_job::NotFound;
use super::commands::ShardCommand;
use super::event_loop::Shard;
use super::frame::text_frame;
use super::job_lookup::JobWait;
use super::keys::{SubscriberKey, TopicKey};
use crate::relay::RelayError;

/// Subscribers wait in the shard for jobs that nobody has registered yet. A job is looked for when the first of them
/// comes, and when the wait of one is over: once for all of them, however many wait.
impl Shard {
    /// Has a subscriber wait for the job of a topic. Returns the message that nobody has registered the job, if that
    /// is known already; else it is sent when the job was looked for.
    pub(super) fn await_job(&mut self, key: SubscriberKey, topic: TopicKey) -> Option<Bytes> {
        let now = Instant::now();
        let until = now + self.context.config.job_wait;
        let missed = self.topics[topic].lookup.missed(now);
        let subscription = self.subscribers[key].subscription_to(topic)?;
        subscription.wait = Some(JobWait {
            until,
            is_asking: false,
        });
        self.waits.insert((until, key, topic));
        let Some(error) = missed else {
            self.ask(key, topic);
            return None;
        };
        let message = NotFound::unregistered(until - now, error);
        Some(text_frame(
            &message.message(self.topics[topic].subscription.job()),
        ))
    }

    /// Has the job of a topic looked for, and the result sent to a subscriber.
    fn ask(&mut self, key: SubscriberKey, topic: TopicKey) {
        let Some(it) = self.topics.get_mut(topic) else {
            return;
        };
        let subscriber = self.subscribers.get_mut(key);
        let subscription = subscriber.and_then(|it| it.subscription_to(topic));
        let Some(wait) = subscription.and_then(|it| it.wait.as_mut()) else {
            return;
        };
        if std::mem::replace(&mut wait.is_asking, true) {
            return;
        }
        let (context, runtime, handle) = (&self.context, &self.runtime, &self.handle);
        let job = it.subscription.job();
        it.lookup.ask(key, || {
            let (relay, handle, job) = (context.relay.clone(), handle.clone(), job.clone());
            let task = async move {
                let result = relay.lookup_shared(&job).await;
                handle.send(ShardCommand::LookedUp { topic, result });
            };
            context.tasks.spawn_on(task, runtime).abort_handle()
        });
    }

    /// Sends the result of a look-up to those who asked for it. The job may have been registered since, with its first
    /// state not sent yet.
    pub(super) fn on_looked_up(&mut self, topic: TopicKey, result: &Result<(), Arc<RelayError>>) {
        let now = Instant::now();
        let Some(it) = self.topics.get_mut(topic) else {
            return;
        };
        let is_known = it.subscription.newest().is_some();
        for key in it.lookup.finish(result, now) {
            let subscriber = self.subscribers.get_mut(key);
            let subscription = subscriber.and_then(|it| it.subscription_to(topic));
            let Some(subscription) = subscription else {
                continue;
            };
            let Some(wait) = subscription.wait.as_mut().filter(|wait| wait.is_asking) else {
                continue;
            };
            wait.is_asking = false;
            let left = wait.until.saturating_duration_since(now);
            match result {
                Err(error) if !is_known => self.report_missing(key, topic, error, left),
                // The state comes.
                _ if left.is_zero() => subscription.wait = None,
                _ => {}
            }
        }
    }

    /// Looks once more for the jobs whose subscribers have waited long enough.
    pub(super) fn end_waits(&mut self, now: Instant) {
        while let Some(&(until, key, topic)) = self.waits.first() {
            if until > now {
                return;
            }
            self.waits.pop_first();
            let Some(it) = self.topics.get(topic) else {
                continue;
            };
            match it.lookup.missed(now) {
                // Not if it was registered since, and its state comes.
                Some(error) if it.subscription.newest().is_none() => {
                    self.report_missing(key, topic, &error, Duration::ZERO);
                }
                _ => self.ask(key, topic),
            }
        }
    }

    /// Sends a subscriber that nobody has registered its job. At the end of its wait its subscription ends, too.
    fn report_missing(
        &mut self,
        key: SubscriberKey,
        topic: TopicKey,
        error: &Arc<RelayError>,
        left: Duration,
    ) {
        let result = if left.is_zero() {
            NotFound::Absent(error.clone())
        } else {
            NotFound::unregistered(left, error.clone())
        };
        let message = text_frame(&result.message(self.topics[topic].subscription.job()));
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
}
