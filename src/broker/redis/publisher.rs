//! The task that publishes to one server.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::RedisShared;
use super::connect::connect;
use super::node::RedisNode;
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

/// What is sent to one server, by which script.
struct NodePublisher<'a> {
    shared: &'a RedisShared,
    node: &'a RedisNode,
    script: PublishScript,
}

impl RedisShared {
    /// Publishes until the node leaves, then, if the relay stops, what waits, if Redis takes it.
    pub(super) async fn keep_publishing(&self, node: &RedisNode, stop: &CancellationToken) {
        let publisher = NodePublisher {
            shared: self,
            node,
            script: PublishScript::new(self.config.has_sharded_channels),
        };
        let mut connection = None;
        loop {
            tokio::select! {
                biased;
                () = node.left.cancelled() => break,
                error = publisher.run_until_lost(&mut connection) => {
                    connection = None;
                    self.topology_changed.notify_one();
                    tokio::select! {
                        () = node.left.cancelled() => break,
                        () = node.publishing.down(&error) => {}
                    }
                }
            }
        }
        if let Some(mut connection) = connection.filter(|_| stop.is_cancelled()) {
            let draining = async {
                loop {
                    let states = node.outbox.take_now(MAX_BATCH);
                    if states.is_empty() || publisher.send(&mut connection, states).await.is_err() {
                        return;
                    }
                }
            };
            // What is not sent is in the database.
            let _ = timeout(DRAIN_TIMEOUT, draining).await;
        }
    }
}

impl NodePublisher<'_> {
    /// Connects, and publishes until the connection fails. Leaves the connection to the caller, which may stop this at any
    /// moment.
    async fn run_until_lost(&self, kept: &mut Option<MultiplexedConnection>) -> RedisError {
        let node = self.node;
        let published = async {
            let connection = kept.insert(connect(&node.config).await?);
            self.script.load().exec_async(connection).await?;
            // A node of a cluster that is not usable, or holds other slots, takes the script and refuses the states. What
            // waits shows it: until it is sent, the pauses between attempts grow.
            let mut is_in_use = node.outbox.backlog().0 == 0;
            if is_in_use {
                self.take_into_use();
            }
            loop {
                let taking = timeout(node.config.ping_interval, node.outbox.take(MAX_BATCH));
                match taking.await {
                    Ok(states) => self.send(connection, states).await?,
                    Err(_) => redis::cmd("PING").exec_async(connection).await?,
                }
                if !is_in_use {
                    is_in_use = true;
                    self.take_into_use();
                }
                sleep(PAUSE).await;
            }
        };
        let Err(error): RedisResult<std::convert::Infallible> = published.await;
        error
    }

    /// The server takes states. It may have lost what was published before.
    fn take_into_use(&self) {
        self.node.publishing.up();
        self.shared.connected.notify_one();
    }

    /// Sends states. Those that Redis has not confirmed are put back, if it may take them later.
    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        states: Vec<JobState>,
    ) -> RedisResult<()> {
        let (shared, outbox) = (self.shared, &self.node.outbox);
        let sending = Unconfirmed {
            node: self.node,
            states,
        };
        let commands = sending.states.iter().map(|state| self.command(state));
        let commands: Vec<Cmd> = commands.collect::<RedisResult<_>>()?;
        let load = self.script.load();
        let answers = shared.query(self.node, connection, commands, Some(&load));
        let answers = answers.await?;
        let states = sending.confirmed();
        let mut needs_script = false;
        let mut failure = None;
        for (state, answer) in states.into_iter().zip(answers) {
            let error = match answer {
                Value::Int(answer) => {
                    shared.count(Published::of(answer));
                    continue;
                }
                Value::ServerError(error) => RedisError::from(error),
                _ => continue,
            };
            shared.metrics.errors.inc();
            match error.kind() {
                // Redis was restarted behind a proxy, or its scripts were flushed.
                ErrorKind::Server(ServerErrorKind::NoScript) => {
                    needs_script = true;
                    outbox.put_back(state);
                }
                ErrorKind::Server(ServerErrorKind::ResponseError) => tracing::debug!(
                    job_id = %state.job,
                    error = &error as &dyn std::error::Error,
                    "redis refuses a state"
                ),
                _ => {
                    outbox.put_back(state);
                    failure = Some(error);
                }
            }
        }
        if needs_script {
            load.exec_async(connection).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn command(&self, state: &JobState) -> RedisResult<Cmd> {
        let names = &self.shared.names;
        let head = message::head(state, &self.shared.owner);
        let head = head.map_err(|error| std::io::Error::other(error.to_string()))?;
        let kept_for = if state.is_final {
            ENDED_KEPT
        } else {
            OPEN_KEPT
        };
        Ok(self.script.publish(&ScriptArguments {
            key: names.state(&state.job),
            created_at: state.created_at.as_millisecond(),
            epoch: state.position.epoch,
            seq: state.position.seq,
            head,
            payload: &state.payload,
            kept_for: kept_for.as_millis().try_into().unwrap_or(u64::MAX),
            progress_channel: names.progress(&state.job),
            relays_channel: names.relays(&state.job),
        }))
    }
}

impl RedisShared {
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
    node: &'a RedisNode,
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
            self.node.outbox.put_back(state);
        }
    }
}
