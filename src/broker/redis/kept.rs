//! The newest states of jobs, which Redis keeps beside their channels.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, cmd, from_redis_value};
use tokio::time::timeout;

use super::connect::{connect, timed_out};
use super::node::RedisNode;
use super::{RedisBroker, RedisShared};
use crate::broker::job_state::ReceivedState;
use crate::broker::message::{self, MessageError};
use crate::job::JobId;

/// How many keys or channels are named in one write.
pub(super) const MAX_KEYS: usize = 500;

/// What is kept of one job: its head and its state.
type KeptState = (Option<Vec<u8>>, Option<Vec<u8>>);

impl RedisBroker {
    /// The newest states of these jobs, as far as Redis has them and answers in time.
    pub(in crate::broker) async fn newest(&self, jobs: &[JobId]) -> HashMap<JobId, ReceivedState> {
        let mut known = self.0.nodes.subscribe();
        let knowing = known.wait_for(|nodes| !nodes.all().is_empty());
        let _ = timeout(self.0.config.timeout, knowing).await;
        let held = self.0.by_node(jobs);
        let reading = held.iter().map(|(node, jobs)| self.0.newest_at(node, jobs));
        join_all(reading).await.into_iter().flatten().collect()
    }
}

impl RedisShared {
    /// Which of these jobs each server holds.
    fn by_node(&self, jobs: &[JobId]) -> Vec<(Arc<RedisNode>, Vec<JobId>)> {
        let nodes = self.nodes();
        let mut held: Vec<(Arc<RedisNode>, Vec<JobId>)> = Vec::new();
        for job in jobs {
            let Some(node) = nodes.of(&self.names, job) else {
                continue;
            };
            match held.iter_mut().find(|(it, _)| Arc::ptr_eq(it, node)) {
                Some((_, jobs)) => jobs.push(job.clone()),
                None => held.push((node.clone(), vec![job.clone()])),
            }
        }
        held
    }

    /// The newest states of jobs that one server holds.
    async fn newest_at(&self, node: &RedisNode, jobs: &[JobId]) -> HashMap<JobId, ReceivedState> {
        let mut newest = HashMap::new();
        let reading = async {
            let mut connection = connect(&node.config).await?;
            for jobs in jobs.chunks(MAX_KEYS) {
                let kept = self.kept(node, &mut connection, jobs).await?;
                let states = kept.into_iter().filter_map(|(_, state)| state.ok());
                newest.extend(states.map(|state| (state.stored.id.clone(), state)));
            }
            Ok(())
        };
        let read = timeout(node.config.timeout, reading).await;
        let read: RedisResult<()> = read.unwrap_or_else(|_| Err(timed_out()));
        if let Err(error) = read {
            let error = &error as &dyn Error;
            tracing::debug!(error, "cannot read the newest states of jobs from Redis");
        }
        newest
    }

    /// What is kept of jobs, of those of which something is.
    pub(super) async fn kept<'a>(
        &self,
        node: &RedisNode,
        connection: &mut MultiplexedConnection,
        jobs: &'a [JobId],
    ) -> RedisResult<Vec<(&'a JobId, Result<ReceivedState, MessageError>)>> {
        let reading = jobs.iter().map(|job| {
            let mut read = cmd("HMGET");
            read.arg(self.names.state(job)).arg("head").arg("state");
            read
        });
        let reading: Vec<Cmd> = reading.collect();
        let answers = self.query(node, connection, reading, None).await?;
        let mut read = Vec::new();
        for (job, answer) in jobs.iter().zip(answers) {
            let kept: RedisResult<KeptState> = answer
                .extract_error()
                .and_then(|kept| Ok(from_redis_value(kept)?));
            match kept {
                Ok((Some(head), Some(state))) => {
                    read.push((job, message::read_parts(job, &head, &state)));
                }
                Ok(_) => {}
                // The slot moves to a node that cannot be reached: its other jobs can be read.
                Err(error) if error.redirect_node().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}
