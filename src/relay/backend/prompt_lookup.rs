//! Looks for prompts that no job follows in a backend's queue and history, at a bounded cost for the backend.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::comfy::{HistoryEntry, Rest, RestError};

/// How many entries of the history are looked up at the same time.
const MAX_HISTORY_LOOKUPS: usize = 4;

/// Looks for prompts: one request for the queue answers every caller that waits meanwhile, and its failure is
/// theirs, too.
pub(in crate::relay) struct PromptLookup {
    newest: Mutex<Option<QueueRequest>>,
    history: Semaphore,
}

/// Where a backend has a prompt.
#[derive(Debug)]
pub(in crate::relay) enum PromptPlace {
    /// It waits or runs.
    Queue,
    /// It has ended.
    History(Box<HistoryEntry>),
}

/// The prompts in the queue, for all who asked.
type QueuedPrompts = Result<Arc<HashSet<String>>, Arc<RestError>>;

/// A request for the queue, which may have been answered.
#[derive(Clone)]
struct QueueRequest {
    /// When it is sent.
    sent_at: Instant,
    answer: Shared<BoxFuture<'static, QueuedPrompts>>,
}

impl PromptLookup {
    pub(in crate::relay) fn new() -> Self {
        Self {
            newest: Mutex::default(),
            history: Semaphore::new(MAX_HISTORY_LOOKUPS),
        }
    }

    /// Where the backend has a prompt, if it has it. The queue is read first: a prompt goes from there to the history, never
    /// back. Two requests for the queue are at least `pause` apart.
    pub(in crate::relay) async fn find(
        &self,
        rest: &Rest,
        prompt_id: &str,
        pause: Duration,
    ) -> Result<Option<PromptPlace>, Arc<RestError>> {
        let called_at = Instant::now();
        // A queue that was requested before this call may be too old to hold the prompt, but if it holds it, the
        // backend has it.
        if let Some(earlier) = self.newest().filter(|newest| newest.sent_at < called_at) {
            let was_answered = earlier.answer.peek().is_some();
            match earlier.answer.await {
                Ok(prompts) if prompts.contains(prompt_id) => return Ok(Some(PromptPlace::Queue)),
                Err(error) if !was_answered => return Err(error),
                _ => {}
            }
        }
        let prompts = self.requested_since(called_at, rest, pause).answer.await?;
        if prompts.contains(prompt_id) {
            return Ok(Some(PromptPlace::Queue));
        }
        // The semaphore is never closed.
        let _permit = self.history.acquire().await;
        let entry = rest.history(prompt_id).await?;
        Ok(entry.map(|entry| PromptPlace::History(Box::new(entry))))
    }

    fn newest(&self) -> Option<QueueRequest> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.clone()
    }

    /// The request that is sent at this time or later; a new one if there is none yet.
    fn requested_since(&self, called_at: Instant, rest: &Rest, pause: Duration) -> QueueRequest {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = newest.as_ref().map(|newest| newest.sent_at);
        match &*newest {
            Some(request) if request.sent_at >= called_at => request.clone(),
            _ => {
                let sent_at = earlier.map_or(called_at, |earlier| called_at.max(earlier + pause));
                let rest = rest.clone();
                let answer = async move {
                    sleep_until(sent_at).await;
                    let queue = rest.positions(None).await?;
                    Ok(Arc::new(queue.prompt_ids().map(str::to_owned).collect()))
                };
                let answer = answer.boxed().shared();
                newest.insert(QueueRequest { sent_at, answer }).clone()
            }
        }
    }
}

impl fmt::Debug for PromptLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptLookup").finish_non_exhaustive()
    }
}
