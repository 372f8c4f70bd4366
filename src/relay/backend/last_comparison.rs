use std::sync::Arc;

use crate::comfy::Queue;
use crate::relay::backend::queue_graphs::QueueGraphs;
use crate::relay::estimates::queue_plans::Plans;
use crate::relay::registry::{Changes, DueJobs};

/// What the last comparison has found.
#[derive(Default)]
pub(in crate::relay) struct LastComparison {
    pub(in crate::relay) queue: Option<Arc<Queue>>,
    pub(in crate::relay) graphs: QueueGraphs,
    pub(in crate::relay) plans: Plans,
    /// What it rested on, if every job was in the queue and nothing is left to find out: with the same answer of the queue,
    /// another comparison would find the same.
    pub(in crate::relay) settled: Option<Basis>,
    /// The jobs that are to be looked at, whatever the queue says: they have changed since, or were not in it.
    pub(in crate::relay) due: DueJobs,
    /// The disconnect counter under which the others were seen in it.
    pub(in crate::relay) disconnects: u64,
}

/// What a comparison rests on beside the answer of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct Basis {
    pub(in crate::relay) jobs: Changes,
    /// [`crate::relay::estimates::learning::Learning::revision`].
    pub(in crate::relay) model: u64,
    /// [`crate::relay::backend::images::BackendImages::revision`].
    pub(in crate::relay) images: u64,
    pub(in crate::relay) disconnects: u64,
}

/// What a comparison looks at.
#[derive(Debug)]
pub(in crate::relay) struct DueLook {
    pub(in crate::relay) jobs: DueJobs,
    /// The prompts whose jobs are looked at, too.
    pub(in crate::relay) prompts: Vec<String>,
}

impl LastComparison {
    /// Whether a comparison that rests on this, and gets this answer of the queue, would find what the last one has found.
    pub(in crate::relay) fn repeats(&self, queue: Option<&Arc<Queue>>, basis: Basis) -> bool {
        let is_same =
            matches!((&self.queue, queue), (Some(last), Some(queue)) if Arc::ptr_eq(last, queue));
        is_same && self.settled == Some(basis)
    }

    /// Takes what is to be looked at with this answer of the queue. Until the comparison has ended, that is everything: it
    /// can fail.
    pub(in crate::relay) fn begin(
        &mut self,
        queue: Option<&Arc<Queue>>,
        disconnects: u64,
    ) -> DueLook {
        self.settled = None;
        let before = std::mem::replace(&mut self.queue, queue.cloned());
        let due = std::mem::take(&mut self.due);
        let seen_under = std::mem::replace(&mut self.disconnects, disconnects);
        match (before, queue) {
            (Some(before), Some(queue)) if seen_under == disconnects => {
                let changed = queue.changed_since(&before);
                let prompts = changed.into_iter().map(str::to_owned).collect();
                DueLook { jobs: due, prompts }
            }
            _ => DueLook {
                jobs: DueJobs::All,
                prompts: Vec::new(),
            },
        }
    }
}
