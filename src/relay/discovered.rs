//! A client registers a prompt that has become a job by itself: what it says of the prompt counts from then on.

use std::sync::Arc;

use super::registry::Registry;
use super::tracker::{FoundPrompt, Tracker};
use super::webhooks::announced::Announced;
use crate::job::{Job, JobId, Tags};

impl Tracker {
    /// Adds the job of a prompt. If the prompt has become a job by itself, under another id, the new one goes on from there, and
    /// the other one is forgotten, unless somebody knows of it: then both follow the prompt to its end.
    pub(super) fn insert_registered(
        &self,
        registry: &mut Registry,
        job_id: &JobId,
        prompt: &FoundPrompt,
    ) {
        let (backend, now) = (&prompt.backend, self.now());
        let Some(before) = registry.discovered_of(backend, &prompt.prompt_id) else {
            let job = Job::new(job_id.clone(), now)
                .on_backend(backend.name(), &prompt.prompt_id)
                .tagged(prompt.tags.clone());
            registry.insert(job, Some(backend.clone()), prompt.disconnects);
            return;
        };
        registry.insert_follower(&before, job_id, now, &prompt.tags);
        self.forget_discovered(registry, &before);
    }

    /// Forgets a job that goes on under another id, unless it is followed here, or others may know of it.
    fn forget_discovered(&self, registry: &mut Registry, id: &JobId) {
        let is_announced = |id| {
            let entry = registry.get(id);
            entry.is_some_and(|entry| entry.publishing.announced.is_any())
        };
        let has_others = self.peers.has_others() || !self.broker.is_alone();
        if has_others || is_announced(id) || !self.hub.forget_unfollowed(id) {
            return;
        }
        registry.remove(id);
        self.recorder.forget(id);
        self.notify_monitors();
    }

    /// Has a job that a prompt has become by itself be what a client says of it. Returns whether it was one.
    pub(super) fn claim_discovered(&self, id: &JobId, tags: Arc<Tags>) -> bool {
        let mut registry = self.registry();
        if !registry.is_discovered(id) {
            return false;
        }
        let Some(entry) = registry.set_tags(id, tags) else {
            return false;
        };
        // A client that subscribes from now on receives what has happened so far.
        entry.publishing.announced = Announced::default();
        if entry.job.status().is_final() {
            // Before its state is made, which names the copy, whether or not that is there yet.
            self.kept.on_ended(&entry.job);
            self.record_again(entry);
        } else {
            self.publish(entry);
        }
        true
    }
}
