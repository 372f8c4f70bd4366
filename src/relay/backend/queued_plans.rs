//! The plans of the prompts in a backend's queue.

use crate::comfy::QueueEntry;
use crate::job::{ImageFile, Plan};
use crate::relay::backend::follower::Follower;
use crate::relay::estimates::queue_plans::QueuedPlans;

impl QueuedPlans for Follower {
    fn version(&self, prompt_id: &str) -> Option<u64> {
        let registry = self.tracker.registry();
        let mut jobs = registry.entries_of_prompt(&self.backend, prompt_id);
        let planned = jobs.find(|entry| !entry.job.plan().is_empty());
        planned.map(|entry| entry.pending_plan.version())
    }

    fn of_job(&self, prompt_id: &str) -> Option<Plan> {
        let registry = self.tracker.registry();
        let mut jobs = registry.entries_of_prompt(&self.backend, prompt_id);
        let planned = jobs.find(|entry| !entry.job.plan().is_empty());
        planned.map(|entry| entry.job.plan().clone())
    }

    fn read(&self, entry: &QueueEntry) -> (Plan, Vec<ImageFile>) {
        let Some(graph) = entry.graph() else {
            return (Plan::default(), Vec::new());
        };
        let _reading = self.backend.lock_plans();
        let plan = self.backend.plan(&graph);
        let awaited = self.tracker.fetch_sizes(&self.backend, &plan);
        (plan, awaited.into_iter().collect())
    }

    fn knows_any(&self, files: &[ImageFile]) -> bool {
        self.backend.images.knows_any(files)
    }
}
