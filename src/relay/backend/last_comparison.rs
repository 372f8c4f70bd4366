use std::sync::Arc;

use crate::comfy::Queue;
use crate::relay::backend::queue_graphs::QueueGraphs;
use crate::relay::estimates::queue_plans::Plans;
use crate::relay::registry::Changes;

/// What the last comparison has found.
#[derive(Default)]
pub(in crate::relay) struct LastComparison {
    pub(in crate::relay) queue: Option<Arc<Queue>>,
    pub(in crate::relay) graphs: QueueGraphs,
    pub(in crate::relay) plans: Plans,
    /// What it rested on, if every job was in the queue and nothing is left to find out: with the same answer of the queue,
    /// another comparison would find the same.
    pub(in crate::relay) settled: Option<Basis>,
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

impl LastComparison {
    /// Whether a comparison that rests on this, and gets this answer of the queue, would find what the last one has found.
    /// Keeps the answer.
    pub(in crate::relay) fn repeats(&mut self, queue: Option<&Arc<Queue>>, basis: Basis) -> bool {
        let last = std::mem::replace(&mut self.queue, queue.cloned());
        let is_same =
            matches!((last, queue), (Some(last), Some(queue)) if Arc::ptr_eq(&last, queue));
        is_same && self.settled == Some(basis)
    }
}
