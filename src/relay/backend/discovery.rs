//! Prompts that other clients hand to ComfyUI become jobs by themselves: those that run, and the next ones.
//!
//! Of the others nothing is asked before somebody follows them: thousands may wait, and a job costs what it holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::comfy::{Queue, QueueEntry, RestError};
use crate::job::{Event, JobId, Tags};
use crate::relay::backend::follower::Follower;
use crate::relay::backend::queue_graphs::MAX_SINGLE;
use crate::relay::restore::Known;
use crate::relay::tracker::FoundPrompt;

/// How many prompts a queue has at most that is read with all its graphs to learn whose its prompts are.
const MAX_READ_WHOLE: usize = 100;

/// How many of the prompts that wait in such a queue become jobs: the next ones.
const MAX_WAITING: usize = 20;

/// How many jobs are followed at most while each of them is looked for in the queue.
const MAX_FOLLOWED: usize = 1_000;

/// What is known of the prompts in a backend's queue that no job follows.
#[derive(Debug, Default)]
pub(in crate::relay) struct Discovery {
    /// When each was first seen, of those that may become jobs.
    first_seen: HashMap<String, Instant>,
    /// Those that never do: the relay has handed them in, or they are known under another id.
    passed_over: HashSet<Arc<str>>,
}

/// What a look at the queue has shown.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::relay) struct Discoveries {
    /// Whether prompts have become jobs.
    pub(in crate::relay) has_found: bool,
    /// When the next prompt may, at the latest.
    pub(in crate::relay) next_in: Option<Duration>,
}

impl Follower {
    /// Whether the queue may have prompts that no job follows, as far as messages have shown.
    pub(in crate::relay) fn may_discover(&self) -> bool {
        let state = self.backend.state();
        let is_restored = self.tracker.has_learned.load(Ordering::Relaxed);
        self.config.discovery
            && is_restored
            && !state.operation.is_removal()
            && state.queue.remaining.is_some_and(|remaining| remaining > 0)
    }

    /// Has prompts of other clients become jobs. `disconnects` is the disconnect counter before the queue was asked.
    pub(in crate::relay) async fn discover(
        &self,
        queue: &Arc<Queue>,
        disconnects: u64,
        discovery: &mut Discovery,
    ) -> Result<Discoveries, RestError> {
        if !self.may_discover() {
            *discovery = Discovery::default();
            return Ok(Discoveries::default());
        }
        let (due, next_in) = self.due_prompts(queue, discovery);
        let mut found = Discoveries {
            has_found: false,
            next_in,
        };
        let entries = self.with_clients(queue, &due).await?;
        let mut is_left = !entries.is_empty() && entries.len() < due.len();
        for entry in entries {
            let known = match self.new_id(&entry) {
                Some(id) => Some((self.tracker.restore_from_store(&id).await, id)),
                None => None,
            };
            match known {
                Some((Known::No, id)) => {
                    found.has_found |= self.add_discovered(&id, &entry, disconnects);
                }
                Some((Known::Unreachable(_), _)) => is_left = true,
                Some((Known::Yes | Known::Unread, _)) | None => {
                    discovery.passed_over.insert(entry.prompt_id);
                }
            }
        }
        if is_left {
            let next_in = found.next_in.unwrap_or(Duration::MAX);
            found.next_in = Some(next_in.min(self.config.poll_interval));
        }
        Ok(found)
    }

    /// The prompts that become jobs now, and in what time the next one may.
    fn due_prompts(
        &self,
        queue: &Queue,
        discovery: &mut Discovery,
    ) -> (Vec<String>, Option<Duration>) {
        let is_short = queue.prompt_ids().take(MAX_READ_WHOLE + 1).count() <= MAX_READ_WHOLE;
        let waiting = if is_short {
            MAX_WAITING
        } else {
            MAX_SINGLE - 1
        };
        let first = queue
            .running()
            .iter()
            .chain(queue.pending().iter().take(waiting));
        let followed = self.tracker.hub.followed(MAX_FOLLOWED).unwrap_or_default();
        let followed = followed.iter().map(|id| id.as_str().to_owned());
        let awaited: HashSet<String> = followed.filter(|id| queue.position(id).is_some()).collect();
        let ids: Vec<String> = {
            let registry = self.tracker.registry();
            let ids = first.map(|entry| entry.prompt_id.as_ref());
            let ids = ids.chain(awaited.iter().map(String::as_str));
            let is_new = |id: &&str| registry.of_prompt(&self.backend, id).is_empty();
            ids.filter(is_new).map(str::to_owned).collect()
        };
        discovery.look(queue, ids, &awaited, self.config.discovery_grace)
    }

    /// The entries of prompts with the clients that have submitted them. Those of which the server shows no client without a
    /// long queue are left out.
    async fn with_clients(
        &self,
        queue: &Arc<Queue>,
        due: &[String],
    ) -> Result<Vec<QueueEntry>, RestError> {
        let entry = |queue: &Queue, id: &String| queue.entry(id).cloned();
        if queue.has_graphs() {
            return Ok(due.iter().filter_map(|id| entry(queue, id)).collect());
        }
        let rest = self.backend.comfy.rest();
        let mut entries = Vec::new();
        for id in due.iter().take(MAX_SINGLE) {
            match rest.queued_prompt(id).await? {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        let is_short = queue.prompt_ids().take(MAX_READ_WHOLE + 1).count() <= MAX_READ_WHOLE;
        if entries.is_empty() && is_short {
            let whole = rest.queue().await?;
            entries = due.iter().filter_map(|id| entry(&whole, id)).collect();
        }
        Ok(entries)
    }

    /// The id of the job that a prompt becomes; `None` if it never does. One under the relay's own client id is that of a job,
    /// or was.
    fn new_id(&self, entry: &QueueEntry) -> Option<JobId> {
        let id = JobId::parse(&entry.prompt_id).ok();
        let id = id.filter(|id| id.check_job().is_ok());
        id.filter(|_| !self.is_own_client(entry))
    }

    /// Adds the job of a prompt, unless a client is adding it. Returns whether it is there.
    fn add_discovered(&self, id: &JobId, entry: &QueueEntry, disconnects: u64) -> bool {
        {
            let mut registry = self.tracker.registry();
            let is_followed = !registry
                .of_prompt(&self.backend, &entry.prompt_id)
                .is_empty();
            if is_followed || !registry.reserve(id) {
                return false;
            }
            let prompt = FoundPrompt {
                backend: self.backend.clone(),
                prompt_id: entry.prompt_id.to_string(),
                disconnects,
                history: None,
                tags: Arc::new(Tags::discovered()),
            };
            self.tracker.register(&mut registry, id, &prompt, None);
            if self.is_hidden(entry) {
                self.tracker
                    .ingest_locked(&mut registry, id, Event::StepsHidden);
            }
        }
        if let Some(graph) = entry.graph() {
            self.tracker.confirm_graph(id, graph);
        }
        true
    }
}

impl Discovery {
    /// Those of these prompts that may become jobs now, and in what time the next one may. Those that somebody awaits need not be
    /// left to be registered.
    fn look(
        &mut self,
        queue: &Queue,
        ids: Vec<String>,
        awaited: &HashSet<String>,
        grace: Duration,
    ) -> (Vec<String>, Option<Duration>) {
        self.passed_over.retain(|id| queue.position(id).is_some());
        let before = std::mem::take(&mut self.first_seen);
        let (mut due, mut next_in) = (Vec::new(), None);
        for id in ids {
            if self.passed_over.contains(id.as_str()) || self.first_seen.contains_key(&id) {
                continue;
            }
            let since = before.get(&id).copied().unwrap_or_else(Instant::now);
            let left = grace.saturating_sub(since.elapsed());
            if left.is_zero() || awaited.contains(&id) {
                due.push(id.clone());
            } else {
                next_in = Some(next_in.map_or(left, |next: Duration| next.min(left)));
            }
            self.first_seen.insert(id, since);
        }
        (due, next_in)
    }
}
