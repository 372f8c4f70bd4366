//! The task that publishes.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::script::{PublishScript, Published, ScriptArguments};
use crate::broker::JobState;
use crate::broker::message;

/// How many states go to Redis in one write.
const MAX_BATCH: usize = 200;

/// How long the publisher rests after each write: what comes meanwhile goes in one. A write costs more than the states in it.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the newest state of a job that goes on is kept: longer than a job is silent whose owner runs.
const OPEN_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// How long the final state of a job is kept.
const ENDED_KEPT: Duration = Duration::from_secs(3_600);

/// How long sending what waits may take when the relay stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisShared {
    /// Publishes until `stop`, then what waits, if Redis takes it.
    pub(super) async fn keep_publishing(&self, stop: &CancellationToken) {
        let script = PublishScript::new();
        let mut connection = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                error = self.publish_until_lost(&script, &mut connection) => {
                    connection = None;
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = self.publishing.down(&error) => {}
                    }
                }
            }
        }
        if let Some(mut connection) = connection {
            let draining = async {
                loop {
                    let states = self.outbox.take_now(MAX_BATCH);
                    if states.is_empty()
                        || self.send(&script, &mut connection, states).await.is_err()
                    {
                        return;
                    }
                }
            };
            // What is not sent is in the database.
            let _ = timeout(DRAIN_TIMEOUT, draining).await;
        }
    }

    /// Connects, and publishes until the connection fails. Leaves the connection to the caller, which may stop this at any
    /// moment.
    async fn publish_until_lost(
        &self,
        script: &PublishScript,
        kept: &mut Option<MultiplexedConnection>,
    ) -> RedisError {
        let published = async {
            let connection = kept.insert(self.connect().await?);
            script.load().exec_async(connection).await?;
            self.publishing.up();
            loop {
                let taking = timeout(self.config.ping_interval, self.outbox.take(MAX_BATCH));
                match taking.await {
                    Ok(states) => {
                        self.send(script, connection, states).await?;
                        sleep(PAUSE).await;
                    }
                    Err(_) => redis::cmd("PING").exec_async(connection).await?,
                }
            }
        };
        let Err(error): RedisResult<std::convert::Infallible> = published.await;
        error
    }

    /// Sends states. Those that Redis has not confirmed are put back, if it may take them later.
    async fn send(
        &self,
        script: &PublishScript,
        connection: &mut MultiplexedConnection,
        states: Vec<JobState>,
    ) -> RedisResult<()> {
        let sending = Unconfirmed {
            broker: self,
            states,
        };
        let mut pipeline = Pipeline::with_capacity(sending.states.len());
        pipeline.ignore_errors();
        for state in &sending.states {
            pipeline.add_command(self.command(script, state)?);
        }
        let answers: Vec<Value> = pipeline.query_async(connection).await?;
        let states = sending.confirmed();
        let mut needs_script = false;
        let mut failure = None;
        for (state, answer) in states.into_iter().zip(answers) {
            let error = match answer {
                Value::Int(answer) => {
                    self.count(Published::of(answer));
                    continue;
                }
                Value::ServerError(error) => RedisError::from(error),
                _ => continue,
            };
            self.metrics.errors.inc();
            match error.kind() {
                // Redis was restarted behind a proxy, or its scripts were flushed.
                ErrorKind::Server(ServerErrorKind::NoScript) => {
                    needs_script = true;
                    self.outbox.put_back(state);
                }
                ErrorKind::Server(ServerErrorKind::ResponseError) => tracing::debug!(
                    job_id = %state.job,
                    error = &error as &dyn std::error::Error,
                    "redis refuses a state"
                ),
                _ => {
                    self.outbox.put_back(state);
                    failure = Some(error);
                }
            }
        }
        if needs_script {
            script.load().exec_async(connection).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn command(&self, script: &PublishScript, state: &JobState) -> RedisResult<redis::Cmd> {
        let head = message::head(state, &self.owner);
        let head = head.map_err(|error| std::io::Error::other(error.to_string()))?;
        let kept_for = if state.is_final {
            ENDED_KEPT
        } else {
            OPEN_KEPT
        };
        Ok(script.publish(&ScriptArguments {
            key: self.names.state(&state.job),
            created_at: state.created_at.as_millisecond(),
            epoch: state.position.epoch,
            seq: state.position.seq,
            head,
            payload: &state.payload,
            kept_for: kept_for.as_millis().try_into().unwrap_or(u64::MAX),
            progress_channel: self.names.progress(&state.job),
            relays_channel: self.names.relays(&state.job),
        }))
    }

    fn count(&self, published: Published) {
        match published {
            Published::Stale => self.metrics.stale.inc(),
            Published::Again => 0,
            Published::New => self.metrics.published.inc(),
            Published::Unkept => {
                self.metrics.errors.inc();
                self.metrics.published.inc()
            }
        };
    }
}

/// States that are sent. Put back on drop: the connection has failed, or the relay stops.
struct Unconfirmed<'a> {
    broker: &'a RedisShared,
    states: Vec<JobState>,
}

impl Unconfirmed<'_> {
    fn confirmed(mut self) -> Vec<JobState> {
        std::mem::take(&mut self.states)
    }
}

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        for state in self.states.drain(..) {
            self.broker.outbox.put_back(state);
        }
    }
}
