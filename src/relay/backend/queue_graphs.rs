//! The graphs of the prompts in a backend's queue, where the queue is read without them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::comfy::{Queue, QueueEntry, Rest, RestError};

/// How many prompts are asked for one by one: more are in the whole queue, read once.
pub(in crate::relay) const MAX_SINGLE: usize = 4;

/// The graphs and the clients of prompts, as long as something waits for them.
#[derive(Debug, Default)]
pub(in crate::relay) struct QueueGraphs {
    /// The newest answer that holds graphs.
    queue: Option<Arc<Queue>>,
    /// Prompts that were asked for alone.
    single: HashMap<String, QueueEntry>,
}

impl QueueGraphs {
    /// The entry of a prompt with its graph, if that was read.
    pub(in crate::relay) fn entry(&self, prompt_id: &str) -> Option<&QueueEntry> {
        let single = self.single.get(prompt_id);
        single.or_else(|| self.queue.as_ref()?.entry(prompt_id))
    }

    /// Keeps the graphs of a queue, if it has them, instead of those before.
    pub(in crate::relay) fn update(&mut self, queue: &Arc<Queue>) {
        if queue.has_graphs() {
            *self = Self {
                queue: Some(queue.clone()),
                single: HashMap::new(),
            };
        }
    }

    /// Whether no graph was read.
    pub(in crate::relay) fn is_empty(&self) -> bool {
        self.queue.is_none() && self.single.is_empty()
    }

    /// Drops all graphs: nothing waits for them.
    pub(in crate::relay) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads the graphs of these prompts, but those that were read before. Returns whether there were any.
    pub(in crate::relay) async fn read(
        &mut self,
        rest: &Rest,
        wanted: Vec<String>,
    ) -> Result<bool, RestError> {
        let is_lacking = |prompt: &String| self.entry(prompt).is_none();
        let lacking: Vec<String> = wanted.into_iter().filter(is_lacking).collect();
        if lacking.is_empty() {
            return Ok(false);
        }
        let is_few = lacking.len() <= MAX_SINGLE;
        if !is_few || !self.read_single(rest, &lacking).await? {
            let queue = Arc::new(rest.queue().await?);
            self.update(&queue);
        }
        Ok(true)
    }

    /// Asks for prompts one by one. Returns whether the server shows their graphs.
    async fn read_single(&mut self, rest: &Rest, prompts: &[String]) -> Result<bool, RestError> {
        for prompt in prompts {
            let Some(entry) = rest.queued_prompt(prompt).await? else {
                return Ok(false);
            };
            self.single.insert(prompt.clone(), entry);
        }
        Ok(true)
    }
}
