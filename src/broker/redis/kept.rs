//! The newest states of jobs, which Redis keeps beside their channels.

use std::collections::HashMap;
use std::error::Error;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult};
use tokio::time::timeout;

use super::connect::timed_out;
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
        let mut newest = HashMap::new();
        let reading = async {
            let mut connection = self.0.connect().await?;
            for jobs in jobs.chunks(MAX_KEYS) {
                let kept = self.0.kept(&mut connection, jobs).await?;
                let states = kept.into_iter().filter_map(|(_, state)| state.ok());
                newest.extend(states.map(|state| (state.stored.id.clone(), state)));
            }
            Ok(())
        };
        let read = timeout(self.0.config.timeout, reading).await;
        let read: RedisResult<()> = read.unwrap_or_else(|_| Err(timed_out()));
        if let Err(error) = read {
            let error = &error as &dyn Error;
            tracing::debug!(error, "cannot read the newest states of jobs from Redis");
        }
        newest
    }
}

impl RedisShared {
    /// What is kept of jobs, of those of which something is.
    pub(super) async fn kept<'a>(
        &self,
        connection: &mut MultiplexedConnection,
        jobs: &'a [JobId],
    ) -> RedisResult<Vec<(&'a JobId, Result<ReceivedState, MessageError>)>> {
        let mut pipeline = Pipeline::with_capacity(jobs.len());
        for job in jobs {
            let read = pipeline.cmd("HMGET").arg(self.names.state(job));
            read.arg("head").arg("state");
        }
        let kept: Vec<KeptState> = pipeline.query_async(connection).await?;
        let read = jobs.iter().zip(kept).filter_map(|(job, kept)| {
            let (head, state) = (kept.0?, kept.1?);
            Some((job, message::read_parts(job, &head, &state)))
        });
        Ok(read.collect())
    }
}
