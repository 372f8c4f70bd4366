//! The task that receives.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::Future;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::{Msg, RedisError, RedisResult};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::connect::timed_out;
use super::kept::MAX_KEYS;
use crate::broker::job_state::ReceivedState;
use crate::broker::message::{self, MessageError};
use crate::job::JobId;

impl RedisShared {
    /// Receives until `stop`.
    pub(super) async fn keep_receiving(&self, stop: &CancellationToken) {
        let receiving = async {
            loop {
                let Err(error) = self.receive_until_lost().await;
                self.receiving.down(&error).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = receiving => {}
        }
    }

    /// Connects, follows what is to be followed, and receives until a connection fails.
    async fn receive_until_lost(&self) -> RedisResult<Infallible> {
        let (mut sink, mut messages) = self.connect_for_messages().await?.split();
        let mut connection = self.connect().await?;
        let mut subscribed = HashSet::new();
        let mut ping = interval(self.config.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // At once after connecting, and then whenever it changes.
            self.sync(&mut sink, &mut connection, &mut subscribed)
                .await?;
            self.receiving.up();
            loop {
                tokio::select! {
                    message = messages.next() => match message {
                        Some(message) => self.receive(&message),
                        None => return Err(closed()),
                    },
                    () = self.followed_changed.notified() => break,
                    _ = ping.tick() => {
                        let pinging = sink.ping::<redis::Value>();
                        self.in_time(pinging).await?;
                    }
                }
            }
        }
    }

    /// Subscribes to the channels of jobs that are followed, and leaves the others. Subscribes first, and reads the kept
    /// states after: no state falls between them.
    async fn sync(
        &self,
        sink: &mut PubSubSink,
        connection: &mut MultiplexedConnection,
        subscribed: &mut HashSet<JobId>,
    ) -> RedisResult<()> {
        let (added, left): (Vec<JobId>, Vec<JobId>) = {
            let followed = self.followed();
            let added = followed.difference(subscribed).cloned().collect();
            let left = subscribed.difference(&followed).cloned().collect();
            (added, left)
        };
        for jobs in added.chunks(MAX_KEYS) {
            self.in_time(sink.subscribe(self.channels(jobs))).await?;
            for (job, state) in self.kept(connection, jobs).await? {
                self.take_in(job, state);
            }
            subscribed.extend(jobs.iter().cloned());
        }
        for jobs in left.chunks(MAX_KEYS) {
            self.in_time(sink.unsubscribe(self.channels(jobs))).await?;
            for job in jobs {
                subscribed.remove(job);
            }
        }
        Ok(())
    }

    fn channels(&self, jobs: &[JobId]) -> Vec<String> {
        jobs.iter().map(|job| self.names.relays(job)).collect()
    }

    fn receive(&self, message: &Msg) {
        let Some(job) = self.names.job(message.get_channel_name()) else {
            return;
        };
        self.take_in(&job, message::read(&job, message.get_payload_bytes()));
    }

    /// Passes a state on to the relay. Its own states come back to it where it follows what it has taken over.
    fn take_in(&self, job: &JobId, state: Result<ReceivedState, MessageError>) {
        match state {
            Ok(state) if state.stored.owner.as_ref() == Some(&self.owner) => {}
            Ok(state) => {
                self.metrics.received.inc();
                self.inbox.put(state);
            }
            Err(error) => {
                self.metrics.rejected.inc();
                tracing::debug!(job_id = %job, %error, "a message of Redis is no state");
            }
        }
    }

    /// Waits for an answer on the connection for messages, which has no limit of its own.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let answered = timeout(self.config.timeout, answer).await;
        answered.unwrap_or_else(|_| Err(timed_out()))
    }
}

/// The error of a server that has closed a connection for messages.
pub(super) fn closed() -> RedisError {
    std::io::Error::new(
        std::io::ErrorKind::ConnectionAborted,
        "the server has closed the connection",
    )
    .into()
}
