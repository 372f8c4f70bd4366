//! Nodes that let others run beside them, as those that wait for a service do.
//!
//! ComfyUI executes one node after another, but awaits those that are asynchronous, and executes others meanwhile. Which
//! these are is not in the graph: a class is known for it once another node has begun during one of its runs.

use std::collections::{HashMap, HashSet};

use crate::job::{Job, NodeRun, PlannedNode};

/// For how many seconds two nodes have to run at the same time. Messages of two that follow each other may overlap a little.
const MIN_OVERLAP: f64 = 0.1;

/// The ids of the runs in a job during which another node began.
pub(super) fn runs(job: &Job) -> HashSet<&str> {
    if !job.nodes().are_reported() {
        // Their ends are not known.
        return HashSet::new();
    }
    let runs = job.runs();
    let is_expanded = |run: &NodeRun<'_>| job.nodes().expanded_at(run.id).is_some();
    let planned = runs.iter().filter_map(|run| {
        let node = job.plan().node(run.id)?;
        (!is_expanded(run)).then_some((run, node))
    });
    let planned: Vec<(&NodeRun<'_>, &PlannedNode)> = planned.collect();
    // They are in the order of their starts.
    let pairs = planned.windows(2);
    let beside = pairs.filter(|pair| {
        let [(first, _), (next, _)] = pair else {
            return false;
        };
        let ends = [first.ended_at, next.ended_at].into_iter().flatten();
        ends.min()
            .is_some_and(|end| end.duration_since(next.started_at).as_secs_f64() > MIN_OVERLAP)
    });
    beside.map(|pair| pair[0].0.id).collect()
}

/// How many nodes that run beside others depend on each other, for a graph that is read from its end.
#[derive(Debug, Default)]
pub(super) struct ParallelLevels<'a>(HashMap<&'a str, u32>);

impl<'a> ParallelLevels<'a> {
    /// Adds a node after all its consumers. Returns its level if it lets others run beside it: those of the same level run
    /// at the same time, and different levels one after another.
    pub(super) fn add(
        &mut self,
        id: &'a str,
        node: &PlannedNode,
        is_parallel: bool,
    ) -> Option<u32> {
        let consumers = node.consumers.iter();
        let below = consumers.filter_map(|consumer| self.0.get(consumer.as_str()));
        let level = below.max().copied().unwrap_or(0) + u32::from(is_parallel);
        if level > 0 {
            self.0.insert(id, level);
        }
        is_parallel.then_some(level)
    }
}
