use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::client_error::ClientError;
use super::close_code as close;
use super::disconnect::Disconnect;
use crate::job::JobId;
use crate::relay::{Relay, RelayError};

/// That a job without a state was looked for in vain.
#[derive(Debug)]
pub(crate) enum NotFound {
    /// No ComfyUI server could be asked; the job may still come.
    Unanswered(RelayError),
    /// The job has not come in time.
    Absent(RelayError),
}

/// Looks for a job that nobody has registered among the prompts of the ComfyUI servers, now and at the
/// end of `wait`. Yields what was not found, and ends.
pub(crate) fn await_job(relay: Relay, job: JobId, wait: Duration) -> BoxStream<'static, NotFound> {
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
    let lookups = stream::once(first).chain(stream::once(last));
    lookups.filter_map(std::future::ready).boxed()
}

impl NotFound {
    /// The error for the client, and how its session ends if it has no other subscription; `None` while
    /// the job may still come.
    pub(crate) fn into_error(self) -> (ClientError, Option<Disconnect>) {
        match self {
            Self::Unanswered(error) => (error.into(), None),
            Self::Absent(error @ RelayError::JobNotFound(_)) => {
                let reason = Disconnect::Close(close::JOB_NOT_FOUND, "there is no such job");
                (error.into(), Some(reason))
            }
            Self::Absent(error) => {
                let reason =
                    Disconnect::Close(close::TRY_LATER, "ComfyUI cannot be asked for the job");
                (error.into(), Some(reason))
            }
        }
    }
}
