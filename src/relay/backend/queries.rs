//! Requests to a backend while its jobs are compared. An answer that cannot be read is logged once and
//! counts as no answer; only a server that does not answer at all is a failure.

use std::error::Error;
use std::sync::Arc;

use crate::comfy::{HistoryEntry, Queue, RestError};
use crate::job::JobId;
use crate::relay::backend::apply::QueueAnswer;
use crate::relay::backend::follower::Follower;

impl Follower {
    /// Fetches the version, if it is due. Nothing depends on it.
    pub(in crate::relay) async fn fetch_version(&self) -> Result<(), RestError> {
        if !self.backend.state().api.version_due {
            return Ok(());
        }
        let version = match self.backend.comfy.rest().version().await {
            Ok(version) => version,
            Err(error) => {
                log_unreadable(error, || true)?;
                None
            }
        };
        {
            let api = &mut self.backend.state().api;
            (api.version, api.version_due) = (version, false);
        }
        self.refresh_node_classes();
        self.clear_faults_of_restarted().await?;
        self.tracker.notify_monitors();
        Ok(())
    }

    /// Forgets the faults of the graphics card if the server was restarted since.
    async fn clear_faults_of_restarted(&self) -> Result<(), RestError> {
        let disconnects = {
            let state = self.backend.state();
            if !state.device.has_faults() {
                return Ok(());
            }
            state.device.disconnects
        };
        if !self.is_same_server(disconnects).await? {
            self.backend.state().device.on_restart();
        }
        Ok(())
    }

    /// Fetches the queue. `None` if the answer cannot be read. `last` is the last answer.
    pub(in crate::relay) async fn fetch_queue(
        &self,
        last: Option<Arc<Queue>>,
    ) -> Result<Option<Arc<Queue>>, RestError> {
        match self.backend.comfy.rest().positions(last).await {
            Ok(queue) => {
                let now = self.tracker.now();
                let mut state = self.backend.state();
                state.api.failure_logged = false;
                state.api.set_answered();
                state.queue.set(&queue, now);
                drop(state);
                self.tracker.queue.wake();
                Ok(Some(queue))
            }
            Err(error) => {
                self.log_unreadable_queue(error)?;
                Ok(None)
            }
        }
    }

    /// Whether the server has a prompt in its queue that its list of jobs has left out: a job ends for good. Also if the queue
    /// cannot be read. `whole` is the queue, once it was read in this comparison.
    pub(in crate::relay) async fn has_unlisted(
        &self,
        prompt_id: &str,
        answer: &QueueAnswer,
        whole: &mut Option<Queue>,
    ) -> Result<bool, RestError> {
        if answer.queue.as_ref().is_none_or(|queue| queue.has_graphs()) {
            return Ok(false);
        }
        let rest = self.backend.comfy.rest();
        if whole.is_none() {
            match rest.queue().await {
                Ok(queue) => *whole = Some(queue),
                Err(error) => self.log_unreadable_queue(error)?,
            }
        }
        let Some(queue) = whole else {
            return Ok(true);
        };
        let is_queued = queue.position(prompt_id).is_some();
        if is_queued {
            rest.distrust_list();
        }
        Ok(is_queued)
    }

    /// Returns the failure of a server that does not answer for its queue. Logs any other failure, if it is the first.
    pub(in crate::relay) fn log_unreadable_queue(&self, error: RestError) -> Result<(), RestError> {
        let is_first = || !std::mem::replace(&mut self.backend.state().api.failure_logged, true);
        log_unreadable(error, is_first)
    }

    /// Fetches a prompt's entry in the history: `Some(None)` if there is none, `None` if the answer cannot
    /// be read.
    pub(in crate::relay) async fn fetch_history(
        &self,
        job_id: &JobId,
        prompt_id: &str,
    ) -> Result<Option<Option<HistoryEntry>>, RestError> {
        match self.backend.comfy.rest().history(prompt_id).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) => {
                let is_first = || {
                    let mut registry = self.tracker.registry();
                    let entry = registry.get_mut(job_id);
                    entry.is_some_and(|entry| {
                        !std::mem::replace(&mut entry.comparison.failure_logged, true)
                    })
                };
                log_unreadable(error, is_first)?;
                Ok(None)
            }
        }
    }

    /// Whether the server that answers now is the one that had a prompt, not restarted since: the socket
    /// was never lost since then, or a prompt that was in its history by then is there still.
    ///
    /// `disconnects_when_seen` is the disconnect counter when the server last had the prompt.
    pub(in crate::relay) async fn is_same_server(
        &self,
        disconnects_when_seen: u64,
    ) -> Result<bool, RestError> {
        let seen = {
            let state = self.backend.state();
            if disconnects_when_seen == state.socket.disconnects {
                return Ok(true);
            }
            let seen = state.api.seen_history.until(disconnects_when_seen);
            seen.map(str::to_owned)
        };
        let Some(prompt_id) = seen else {
            return Ok(false);
        };
        match self.backend.comfy.rest().history(&prompt_id).await {
            Ok(entry) => Ok(entry.is_some()),
            Err(error) if error.is_unreachable() => Err(error),
            Err(_) => Ok(false),
        }
    }
}

/// Returns the failure of a server that does not answer. Logs any other failure, if it is the first.
fn log_unreadable(error: RestError, is_first: impl FnOnce() -> bool) -> Result<(), RestError> {
    if error.is_unreachable() {
        return Err(error);
    }
    if is_first() {
        tracing::warn!(
            error = &error as &dyn Error,
            "cannot read ComfyUI's answer, continuing without it"
        );
    }
    Ok(())
}
