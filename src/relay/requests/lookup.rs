//! Finds jobs in the store, and prompts on the backends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use crate::job::JobId;
use crate::relay::backend::Backend;
use crate::relay::backend::prompt_lookup::PromptPlace;
use crate::relay::backend_choice::{BackendChoice, is_chosen};
use crate::relay::requests::await_socket::CONNECT_TIMEOUT;
use crate::relay::restore::Known;
use crate::relay::tracker::FoundPrompt;
use crate::relay::{Relay, RelayError};

/// How long a caller waits for a backend to say whether it has a prompt. A ComfyUI that loads a model can take
/// seconds to answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Relay {
    /// Makes a job known: restores it from the store, or registers the prompt that its id names, if a
    /// backend has one, because a job id may be a bare prompt id. A group is followed. Fails if neither succeeds.
    pub async fn lookup(&self, job_id: &JobId) -> Result<(), RelayError> {
        if let Some(name) = job_id.group() {
            return self.lookup_group(job_id, name).await;
        }
        let tracker = &self.0.tracker;
        let not_found = || RelayError::JobNotFound(job_id.clone());
        let is_in_memory = tracker.registry().get(job_id).is_some();
        if !is_in_memory && self.0.unknown_jobs.contains(job_id) {
            return Err(not_found());
        }
        let unreachable = match tracker.restore_from_store(job_id).await {
            Known::Yes | Known::Unread => return Ok(()),
            Known::No => None,
            // It has ended, and only its final state is in memory.
            Known::Unreachable(error) if tracker.registry().ended(job_id).is_some() => {
                return Err(error.into());
            }
            Known::Unreachable(error) => Some(error),
        };
        let found = self.locate(job_id.as_str(), &[]).await;
        let mut registry = tracker.registry();
        // It may have been registered while the backends were asked.
        if registry.get(job_id).is_some() {
            return Ok(());
        }
        match found {
            // A job with this id is being submitted, which may fail yet.
            Ok(_) if !registry.reserve(job_id) => Err(not_found()),
            Ok(prompt) => {
                tracker.register(&mut registry, job_id, &prompt, None);
                Ok(())
            }
            Err(error) if unreachable.is_some() => Err(unreachable.map_or(error, RelayError::from)),
            Err(RelayError::PromptNotFound(_)) => {
                self.0.unknown_jobs.add(job_id.clone());
                Err(not_found())
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Relay::lookup`], for callers of which many may ask for the same job at the same time: it is looked for
    /// once, and the failure is that of them all.
    pub async fn lookup_shared(&self, job_id: &JobId) -> Result<(), Arc<RelayError>> {
        let lookup = self.0.lookups.share(job_id, || {
            let (relay, job_id) = (self.clone(), job_id.clone());
            async move { relay.lookup(&job_id).await }
        });
        lookup.await
    }

    /// Finds the backend that has a prompt in its queue or its history: one of those that are chosen.
    /// All are asked at the same time, and those that are away are dialled at once: they may be back. The first
    /// that has the prompt is the answer. One that another relay follows is asked too: that relay takes the job over.
    pub(in crate::relay) async fn locate(
        &self,
        prompt_id: &str,
        choices: &[BackendChoice],
    ) -> Result<FoundPrompt, RelayError> {
        let mut unknown = None;
        let mut asked = Vec::new();
        for backend in self.0.tracker.backends.iter() {
            if !is_chosen(choices, backend) {
                continue;
            }
            match backend.refusal() {
                Some(refusal) if !matches!(refusal, RelayError::HeldByPeer(_)) => {
                    unknown = Some(refusal);
                }
                Some(_) | None => asked.push(backend),
            }
        }
        let answers = asked.into_iter().map(|backend| async move {
            let disconnects = backend.state().socket.disconnects;
            let place = self.find(backend, prompt_id).await?;
            Ok::<_, RelayError>(place.map(|place| FoundPrompt {
                backend: backend.clone(),
                prompt_id: prompt_id.to_owned(),
                disconnects,
                history: match place {
                    PromptPlace::Queue => None,
                    PromptPlace::History(entry) => Some(entry.history),
                },
                tags: Arc::default(),
            }))
        });
        let mut answers: FuturesUnordered<_> = answers.collect();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => unknown = Some(error),
            }
        }
        Err(unknown.unwrap_or_else(|| RelayError::PromptNotFound(prompt_id.to_owned())))
    }

    async fn find(
        &self,
        backend: &Backend,
        prompt_id: &str,
    ) -> Result<Option<PromptPlace>, RelayError> {
        let pause = self.0.comfy.min_poll_pause;
        let (lookup, rest) = (&backend.lookup, backend.comfy.rest());
        let patience = if backend.state().api.reachable {
            LOOKUP_TIMEOUT
        } else {
            backend.dial_now.notify_one();
            CONNECT_TIMEOUT
        };
        match timeout(patience, lookup.find(rest, prompt_id, pause)).await {
            Ok(answer) => answer
                .inspect(|_| backend.state().api.set_answered())
                .map_err(|error| RelayError::request_failed(backend.name(), error)),
            Err(_) => {
                backend.state().api.unanswered_at = Some(Instant::now());
                Err(RelayError::BackendUnreachable(backend.name().to_owned()))
            }
        }
    }
}
