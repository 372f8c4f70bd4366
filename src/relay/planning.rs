//! Which nodes of a job will run, and on images of which size: its plan is read again when the server
//! shows which outputs it executes, and when the size of an image or the node classes become known.
//!
//! None of this is on the path of an event: graphs can be megabytes, and sizes are fetched.

use std::collections::HashSet;
use std::sync::Arc;

use super::backend::Backend;
use super::tracker::Tracker;
use crate::job::{Event, ImageFile, JobId, Plan, PromptGraph};

impl Tracker {
    /// Reads the plan of a job from the graph that the server's queue or history shows, which names the
    /// outputs that it executes.
    pub(super) fn confirm_graph(self: &Arc<Self>, id: &JobId, graph: PromptGraph) {
        self.registry().confirm_plan(id, graph);
        self.read_plan(id);
    }

    /// Reads the plan of a job at the sizes that are known, and fetches those that are not.
    pub(super) fn read_plan(self: &Arc<Self>, id: &JobId) {
        let backend = self
            .registry()
            .get(id)
            .and_then(|entry| entry.backend.clone());
        let Some(backend) = backend else {
            return;
        };
        // A plan that was read earlier must not replace one that was read later.
        let _reading = backend.lock_plans();
        let graph = self
            .registry()
            .get(id)
            .and_then(|entry| entry.pending_plan.graph());
        let Some(graph) = graph else {
            return;
        };
        let plan = backend.plan(&graph);
        let awaited = self.fetch_sizes(&backend, &plan);
        let mut registry = self.registry();
        self.ingest_locked(&mut registry, id, Event::Planned(plan));
        if let Some(entry) = registry.get_mut(id) {
            entry.pending_plan.planned(awaited);
        }
    }

    /// Marks the partner nodes in the plans of open jobs: the node classes of their server have become known.
    pub(super) fn mark_partners(self: &Arc<Self>, backend: &Backend) {
        let Some(classes) = backend.node_classes() else {
            return;
        };
        let partners = classes.partners();
        let _reading = backend.lock_plans();
        let mut registry = self.registry();
        let open = registry.open(backend);
        let lacking = open.filter(|entry| entry.job.plan().lacks_partners(partners));
        let lacking: Vec<JobId> = lacking.map(|entry| entry.job.id().clone()).collect();
        for id in lacking {
            let Some(entry) = registry.get_mut(&id) else {
                continue;
            };
            entry.pending_plan.revised();
            let plan = entry.job.plan().clone().with_partners(partners);
            self.ingest_locked(&mut registry, &id, Event::Planned(plan));
        }
    }

    /// Fetches the sizes of a plan's images that are not known. Returns the files whose sizes are to come.
    pub(super) fn fetch_sizes(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        plan: &Plan,
    ) -> HashSet<ImageFile> {
        let files = plan.files().iter();
        let awaited = files.filter(|file| {
            if backend.images.begin_request(file) {
                let fetching = self.clone().fetch_size(backend.clone(), (*file).clone());
                self.tasks.spawn(fetching);
                return true;
            }
            backend.images.is_awaited(file)
        });
        awaited.cloned().collect()
    }

    async fn fetch_size(self: Arc<Self>, backend: Arc<Backend>, file: ImageFile) {
        let fetched = tokio::select! {
            () = self.stop.cancelled() => return,
            fetched = backend.images.fetch(backend.comfy.rest(), &file) => fetched,
        };
        let (is_known, waiting) = {
            // A plan that is being read waits for this file, or has its size.
            let _reading = backend.lock_plans();
            let is_known = backend.images.record(&file, fetched);
            (is_known, self.jobs_awaiting(&backend, &file, is_known))
        };
        for id in waiting {
            self.read_plan(&id);
        }
        if is_known {
            // Prompts of other clients may wait for it.
            backend.reconcile_soon.notify_one();
        }
    }

    /// The jobs whose plans change with a size that has become known. If it has not, none wait any longer.
    fn jobs_awaiting(&self, backend: &Backend, file: &ImageFile, is_known: bool) -> Vec<JobId> {
        let mut registry = self.registry();
        let open = registry
            .open(backend)
            .filter(|entry| entry.pending_plan.awaits(file));
        let waiting: Vec<JobId> = open.map(|entry| entry.job.id().clone()).collect();
        if is_known {
            return waiting;
        }
        for id in &waiting {
            if let Some(entry) = registry.get_mut(id) {
                entry.pending_plan.give_up(file);
            }
        }
        Vec::new()
    }
}
