use super::{DisplayNode, MAX_STEPS, Nodes};
use crate::job::{NodeState, Plan};

/// How many of the needed nodes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeCounts {
    /// Nodes that have run to their end.
    pub done: usize,
    /// Nodes that need not run.
    pub cached: usize,
    /// All nodes that outputs need, and others that ran.
    pub total: usize,
}

impl Nodes {
    /// How many of the plan's nodes are done.
    pub fn counts(&self, plan: &Plan) -> NodeCounts {
        let mut counts = NodeCounts::default();
        for (id, _) in self.counted(plan) {
            counts.total += 1;
            match self.state_of(id, plan) {
                Some(NodeState::Finished) => counts.done += 1,
                Some(NodeState::Cached) => counts.cached += 1,
                Some(NodeState::Running | NodeState::Failed | NodeState::Interrupted) | None => {}
            }
        }
        counts
    }

    /// The state of a node of the graph; of one of which a loop makes copies, that of all of them.
    pub fn state_of(&self, id: &str, plan: &Plan) -> Option<NodeState> {
        if plan.is_copied(id) {
            return self.copied_state(id, plan);
        }
        self.displays.get(id)?.state
    }

    /// The share of the steps that are done, 0 to 1. A node without a bar is one step.
    pub fn share(&self, plan: &Plan) -> f64 {
        let (mut done, mut total) = (0.0, 0.0);
        for (id, planned_steps) in self.counted(plan) {
            let display = self.displays.get(id);
            let steps = planned_steps.map_or_else(
                || display.map_or(1.0, |display| display.steps.max(1.0)),
                f64::from,
            );
            match display.map(|display| (display.state, display.share)) {
                Some((Some(NodeState::Cached), _)) => continue,
                Some((Some(NodeState::Finished), _)) => done += steps,
                Some((_, share)) => done += steps * share,
                None => {}
            }
            total += steps;
        }
        if total > 0.0 { done / total } else { 0.0 }
    }

    /// The needed nodes with the steps that the graph sets, then those that run without being needed.
    fn counted<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a str, Option<u32>)> {
        let unplanned = |id: &str, display: &DisplayNode| {
            display.state != Some(NodeState::Cached) && !plan.node(id).is_some_and(|n| n.needed)
        };
        plan.needed()
            .map(|(id, node)| (id, node.steps.map(|steps| steps.min(MAX_STEPS as u32))))
            .chain(
                self.displays
                    .iter()
                    .filter(move |(id, display)| unplanned(id, display))
                    .map(|(id, _)| (id.as_str(), None)),
            )
    }
}
