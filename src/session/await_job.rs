//! Waiting for a job that nobody has registered yet.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::client_error::ClientError;
use super::close_code as close;
use super::disconnect::Disconnect;
use crate::job::JobId;
use crate::relay::{Relay, RelayError};

/// A wait for a job. Ends silently when the job is known.
pub(crate) type Wait = BoxStream<'static, NotFound>;

/// What comes of a wait.
#[derive(Debug)]
pub(crate) enum NotFound {
    /// No server could tell whether there is such a job; it is waited for still.
    Unanswered(RelayError),
    /// The job did not come.
    Absent(RelayError),
}

/// Looks for a job among the prompts of the servers, now and at the end of the wait.
pub(crate) fn await_job(relay: Relay, job: JobId, wait: Duration) -> Wait {
    let deadline = Instant::now() + wait;
    let (late_relay, late_job) = (relay.clone(), job.clone());
    let first = async move {
        match relay.lookup(&job).await {
            Ok(()) | Err(RelayError::JobNotFound(_)) => None,
            Err(error) => Some(NotFound::Unanswered(error)),
        }
    };
    let last = async move {
        sleep_until(deadline).await;
        let found = late_relay.lookup(&late_job).await;
        found.err().map(NotFound::Absent)
    };
    let looks = stream::once(first).chain(stream::once(last));
    looks.filter_map(std::future::ready).boxed()
}

impl NotFound {
    /// What the client is told, and how its socket ends where it follows nothing else. It goes on
    /// where there is still hope.
    pub(crate) fn into_error(self) -> (ClientError, Option<Disconnect>) {
        match self {
            Self::Unanswered(error) => (error.into(), None),
            Self::Absent(error @ RelayError::JobNotFound(_)) => {
                let end = Disconnect::Close(close::JOB_NOT_FOUND, "there is no such job");
                (error.into(), Some(end))
            }
            Self::Absent(error) => {
                let end = Disconnect::Close(
                    close::TRY_LATER,
                    "nobody can tell whether there is such a job",
                );
                (error.into(), Some(end))
            }
        }
    }
}
