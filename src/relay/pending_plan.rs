//! The graph of a job, as long as its plan may change.

use std::collections::HashSet;
use std::sync::Arc;

use crate::job::{ImageFile, PromptGraph};

/// The graph of a job, kept as long as its plan may change: the server has not shown yet which outputs it
/// executes, or sizes of images are still to come.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingPlan {
    graph: Option<Arc<PromptGraph>>,
    /// The server's queue or history has shown the prompt.
    is_confirmed: bool,
    /// The files whose sizes are to come.
    awaited: HashSet<ImageFile>,
    /// How often the plan was read.
    version: u64,
}

impl PendingPlan {
    /// The graph, unless the plan is final.
    pub(super) fn graph(&self) -> Option<Arc<PromptGraph>> {
        self.graph.clone()
    }

    /// Whether the graph is known, unless the plan is final.
    pub(super) fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// Whether the server has shown which outputs it executes.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Whether the plan depends on the size of a file that is to come.
    pub(super) fn awaits(&self, file: &ImageFile) -> bool {
        self.awaited.contains(file)
    }

    /// Changes with each plan.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Records the graph that was submitted.
    pub(super) fn submit(&mut self, graph: PromptGraph) {
        self.graph = Some(Arc::new(graph));
    }

    /// Records the graph as the server's queue or history shows it. One without outputs replaces none.
    pub(super) fn confirm(&mut self, graph: PromptGraph) {
        self.is_confirmed = true;
        if graph.has_outputs() || self.graph.is_none() {
            self.graph = Some(Arc::new(graph));
        }
    }

    /// Records that a plan was read, and what it waits for.
    pub(super) fn planned(&mut self, awaited: HashSet<ImageFile>) {
        self.version += 1;
        self.awaited = awaited;
        self.drop_final_graph();
    }

    /// Records that the plan was changed without its graph.
    pub(super) fn revised(&mut self) {
        self.version += 1;
    }

    /// Records that a file shows no size.
    pub(super) fn give_up(&mut self, file: &ImageFile) {
        self.awaited.remove(file);
        self.drop_final_graph();
    }

    /// Records that a size has become known that the plan depends on: it is read again when the server shows the
    /// graph again, if it was dropped.
    pub(super) fn reopen(&mut self) {
        self.is_confirmed = false;
    }

    /// Records that the job has ended.
    pub(super) fn end(&mut self) {
        self.graph = None;
        self.awaited.clear();
    }

    fn drop_final_graph(&mut self) {
        if self.is_confirmed && self.awaited.is_empty() {
            self.graph = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn graph(outputs: &[&str]) -> PromptGraph {
        let nodes = Map::from_iter([("9".to_owned(), json!({"class_type": "SaveImage"}))]);
        let outputs = outputs.iter().map(|id| (*id).to_owned()).collect();
        PromptGraph::new(nodes, outputs).unwrap()
    }

    #[test]
    fn the_graph_is_dropped_once_the_plan_is_final() {
        let file = ImageFile::parse("photo.png").unwrap();
        let mut pending = PendingPlan::default();
        pending.submit(graph(&[]));
        pending.planned(HashSet::from([file.clone()]));
        pending.give_up(&file);
        assert!(pending.graph().is_some(), "the outputs may change");
        pending.confirm(graph(&["9"]));
        pending.planned(HashSet::from([file.clone()]));
        assert!(pending.graph().is_some() && pending.awaits(&file));
        pending.planned(HashSet::new());
        assert_eq!(pending.graph(), None);
    }

    #[test]
    fn a_server_that_names_no_outputs_changes_none() {
        let mut pending = PendingPlan::default();
        pending.submit(graph(&["9"]));
        pending.confirm(graph(&[]));
        assert!(pending.graph().is_some_and(|graph| graph.has_outputs()));
        let mut pending = PendingPlan::default();
        pending.confirm(graph(&[]));
        assert!(pending.graph().is_some());
    }
}
