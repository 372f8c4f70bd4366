//! The plans of the prompts in a backend's queue.

use crate::comfy::QueueEntry;
use crate::job::{ImageFile, Plan};
use crate::relay::backend::follower::Follower;
use crate::relay::backend::queue_graphs::QueueGraphs;
use crate::relay::estimates::queue_plans::{PlanRevision, QueuedPlans};

/// The plans of jobs, and those of the graphs that were read.
pub(in crate::relay) struct PlanSource<'a> {
    pub(in crate::relay) follower: &'a Follower,
    pub(in crate::relay) graphs: &'a QueueGraphs,
}

impl QueuedPlans for PlanSource<'_> {
    fn revision(&self) -> PlanRevision {
        let Follower {
            backend, tracker, ..
        } = self.follower;
        let changes = tracker.registry().changes(backend);
        (changes.plans, backend.images.revision())
    }

    fn version(&self, prompt_id: &str) -> Option<u64> {
        let registry = self.follower.tracker.registry();
        let mut jobs = registry.entries_of_prompt(&self.follower.backend, prompt_id);
        let planned = jobs.find(|entry| !entry.job.plan().is_empty());
        planned.map(|entry| entry.pending_plan.version())
    }

    fn of_job(&self, prompt_id: &str) -> Option<Plan> {
        let registry = self.follower.tracker.registry();
        let mut jobs = registry.entries_of_prompt(&self.follower.backend, prompt_id);
        let planned = jobs.find(|entry| !entry.job.plan().is_empty());
        planned.map(|entry| entry.job.plan().clone())
    }

    fn graph(&self, prompt_id: &str) -> Option<&QueueEntry> {
        self.graphs.entry(prompt_id)
    }

    fn read(&self, entry: &QueueEntry) -> (Plan, Vec<ImageFile>) {
        let Some(graph) = entry.graph() else {
            return (Plan::default(), Vec::new());
        };
        let Follower {
            backend, tracker, ..
        } = self.follower;
        let _reading = backend.lock_plans();
        let plan = backend.plan(&graph);
        let awaited = tracker.fetch_sizes(backend, &plan);
        (plan, awaited.into_iter().collect())
    }

    fn knows_any(&self, files: &[ImageFile]) -> bool {
        self.follower.backend.images.knows_any(files)
    }
}
