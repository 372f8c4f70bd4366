//! Compares the images that jobs have saved with their plans, and corrects what is planned of the next ones.
//!
//! None of this is on the path of an event: the heads of files are fetched by tasks of their own.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;

use super::backend::Backend;
use super::registry::Entry;
use super::tracker::Tracker;
use crate::job::{ImageFile, JobId, Output, Plan, SavedImages, SizeFinding};

/// The images that one node of a job has saved.
struct SavedFiles {
    planned: SavedImages,
    first: ImageFile,
    /// How many there are.
    count: usize,
    /// The files that the job loads.
    loaded: Vec<ImageFile>,
}

impl Tracker {
    /// Has the sizes of the images fetched that a job has just saved, where they can correct its plan. It had so
    /// many outputs before.
    pub(super) fn check_saved_images(self: &Arc<Self>, entry: &Entry, before: usize) {
        let Some(backend) = &entry.backend else {
            return;
        };
        let saved = entry.job.outputs()[before..].iter();
        let saved = saved.filter(|output| !output.is_shown_text());
        let mut nodes = HashSet::new();
        for output in saved.clone().filter(|output| nodes.insert(&output.node)) {
            let plan = entry.job.plan();
            let Some(planned) = plan.node(&output.node).and_then(|node| node.saved) else {
                continue;
            };
            let is_alike = |other: &&Output| other.node == output.node && other.kind == output.kind;
            let files = SavedFiles {
                planned,
                first: output.file(),
                count: saved.clone().filter(is_alike).count(),
                loaded: plan.files().to_vec(),
            };
            self.tasks
                .spawn(self.clone().check_files(backend.clone(), files));
        }
    }

    async fn check_files(self: Arc<Self>, backend: Arc<Backend>, files: SavedFiles) {
        let fetched = tokio::select! {
            () = self.stop.cancelled() => return,
            fetched = backend.images.fetch(backend.comfy.rest(), &files.first) => fetched,
        };
        let size = match fetched {
            Ok(Some(size)) => size,
            Ok(None) => return,
            Err(error) => {
                let (file, error) = (files.first.name, &error as &dyn Error);
                tracing::debug!(
                    file,
                    error,
                    "cannot read the size of an image that was saved"
                );
                return;
            }
        };
        match files.planned.compare(size, files.count) {
            SizeFinding::AsPlanned => {}
            SizeFinding::Observed(key, size) => {
                if backend.images.observe(key, size) {
                    let saves = |plan: &Plan| {
                        let mut saved = plan.nodes().filter_map(|(_, node)| node.saved);
                        saved.any(|saved| saved.key() == Some(key))
                    };
                    self.plan_again(&backend, saves);
                }
            }
            SizeFinding::FileChanged => self.fetch_changed(&backend, &files.loaded).await,
        }
    }

    /// Fetches again what was written under its old name.
    async fn fetch_changed(self: &Arc<Self>, backend: &Arc<Backend>, files: &[ImageFile]) {
        for file in files {
            let before = backend.images.sizes([file]);
            let fetched = tokio::select! {
                () = self.stop.cancelled() => return,
                fetched = backend.images.fetch(backend.comfy.rest(), file) => fetched,
            };
            backend.images.record(file, fetched);
            if backend.images.sizes([file]) != before {
                self.plan_again(backend, |plan| plan.files().contains(file));
            }
        }
    }

    /// Reads the plans of the open jobs again that a size concerns.
    fn plan_again(self: &Arc<Self>, backend: &Arc<Backend>, concerns: impl Fn(&Plan) -> bool) {
        let concerned: Vec<JobId> = {
            let mut registry = self.registry();
            let open = registry
                .open(backend)
                .filter(|entry| concerns(entry.job.plan()));
            let concerned: Vec<JobId> = open.map(|entry| entry.job.id().clone()).collect();
            for id in &concerned {
                registry.reopen_plan(id);
            }
            concerned
        };
        for id in &concerned {
            self.read_plan(id);
        }
        if !concerned.is_empty() {
            // The queue has the graphs that were dropped.
            backend.reconcile_now.notify_one();
        }
    }
}
