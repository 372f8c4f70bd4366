use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::close_code as close;
use super::disconnect::Disconnect;
use super::message::ServerMessage;
use crate::job::JobId;
use crate::relay::{Relay, RelayError};

/// That a job without a state was looked for in vain.
#[derive(Debug)]
pub(crate) enum NotFound {
    /// Nobody has registered it. It may still come within this time. With the reason if ComfyUI could not be
    /// asked for it.
    Unregistered(Duration, Option<Arc<RelayError>>),
    /// The job has not come in time.
    Absent(Arc<RelayError>),
}

/// Looks for a job that nobody has registered among the prompts of the ComfyUI servers, now and at the
/// end of `wait`. Yields what was not found, and ends.
pub(crate) fn await_job(relay: Relay, job: JobId, wait: Duration) -> BoxStream<'static, NotFound> {
    let deadline = Instant::now() + wait;
    let (late_relay, late_job) = (relay.clone(), job.clone());
    let first = async move {
        let error = relay.lookup_shared(&job).await.err()?;
        let left = deadline.saturating_duration_since(Instant::now());
        Some(NotFound::unregistered(left, error))
    };
    let last = async move {
        sleep_until(deadline).await;
        let found = late_relay.lookup_shared(&late_job).await;
        found.err().map(NotFound::Absent)
    };
    let lookups = stream::once(first).chain(stream::once(last));
    lookups.filter_map(std::future::ready).boxed()
}

impl NotFound {
    /// That a look-up has failed with `error` while there is `left` to wait.
    pub(super) fn unregistered(left: Duration, error: Arc<RelayError>) -> Self {
        let is_unknown = matches!(*error, RelayError::JobNotFound(_));
        Self::Unregistered(left, (!is_unknown).then_some(error))
    }

    /// The message for the client, as JSON. It is no error while the job may still come.
    pub(crate) fn message(&self, job: &JobId) -> String {
        match self {
            Self::Unregistered(left, error) => {
                // Rounded: the servers were asked in less than a second.
                let seconds = left.as_secs_f64().round() as u64;
                let mut message =
                    format!("Nobody has registered this job yet; waiting {seconds} s more");
                if let Some(error) = error {
                    message += &format!(". {error}");
                }
                ServerMessage::unregistered(job.as_str(), &message, seconds).encode()
            }
            Self::Absent(error) => {
                ServerMessage::error(job.as_str(), error.code(), &error.to_string()).encode()
            }
        }
    }

    /// Whether there certainly is no such job.
    pub(crate) fn is_not_found(&self) -> bool {
        let Self::Absent(error) = self else {
            return false;
        };
        matches!(**error, RelayError::JobNotFound(_))
    }

    /// How the client's session ends if it has no other subscription; `None` while the job may still come.
    pub(crate) fn disconnect(&self) -> Option<Disconnect> {
        match self {
            Self::Unregistered(..) => None,
            Self::Absent(_) if self.is_not_found() => Some(Disconnect::Close(
                close::JOB_NOT_FOUND,
                "there is no such job",
            )),
            Self::Absent(_) => Some(Disconnect::Close(
                close::TRY_LATER,
                "ComfyUI cannot be asked for the job",
            )),
        }
    }
}
