//! Questions to a backend while its jobs are looked at. An answer of no use is told once in the log
//! and is no answer; only a server that does not answer at all is a failure.

use crate::comfy::{HistoryEntry, Queue, RestError};
use crate::job::JobId;
use crate::relay::Relay;
use crate::relay::backend::Backend;

impl Relay {
    /// Asks for the version, where it is due. Nothing depends on it.
    pub(in crate::relay) async fn fetch_version(&self, backend: &Backend) -> Result<(), RestError> {
        if !backend.state().version_due {
            return Ok(());
        }
        let version = match backend.comfy.rest().version().await {
            Ok(version) => version,
            Err(error) => {
                refuse(error, || true)?;
                None
            }
        };
        let mut state = backend.state();
        (state.version, state.version_due) = (version, false);
        drop(state);
        self.changed();
        Ok(())
    }

    /// Asks for the queue. `None` for an answer of no use.
    pub(in crate::relay) async fn fetch_queue(
        &self,
        backend: &Backend,
    ) -> Result<Option<Queue>, RestError> {
        match backend.comfy.rest().queue().await {
            Ok(queue) => {
                let mut state = backend.state();
                state.complained = false;
                state.set_queue(&queue);
                Ok(Some(queue))
            }
            Err(error) => {
                let first = || !std::mem::replace(&mut backend.state().complained, true);
                refuse(error, first)?;
                Ok(None)
            }
        }
    }

    /// Asks for a prompt's history: its entry, if there is one. `None` for an answer of no use.
    pub(in crate::relay) async fn fetch_history(
        &self,
        backend: &Backend,
        job_id: &JobId,
        prompt_id: &str,
    ) -> Result<Option<Option<HistoryEntry>>, RestError> {
        match backend.comfy.rest().history(prompt_id).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) => {
                let first = || {
                    let mut jobs = self.jobs();
                    let entry = jobs.get_mut(job_id);
                    entry.is_some_and(|entry| !std::mem::replace(&mut entry.complained, true))
                };
                refuse(error, first)?;
                Ok(None)
            }
        }
    }
}

/// Gives back the failure of a server that does not answer. Any other is told, if it is the first.
fn refuse(error: RestError, is_first: impl FnOnce() -> bool) -> Result<(), RestError> {
    if error.is_unreachable() {
        return Err(error);
    }
    if is_first() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "ComfyUI's answer is of no use, going on without it"
        );
    }
    Ok(())
}
