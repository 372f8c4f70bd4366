//! The copies of nodes in loops, as far as something is learned of them.

use std::collections::HashMap;

use crate::job::{Job, NodeRun, NodeState};

/// Of each copied node, the run that took the median time, with the id of the node: it alone is learned from. The first copy
/// counts only where there is no other: it may have waited for models.
pub(super) fn typical(job: &Job) -> HashMap<&str, &str> {
    let mut copies: HashMap<&str, Vec<NodeRun<'_>>> = HashMap::new();
    for run in job.runs() {
        let is_copy = run.id != run.display && job.plan().is_copied(run.display);
        if is_copy && run.state == NodeState::Finished {
            copies.entry(run.display).or_default().push(run);
        }
    }
    let typical = copies.into_iter().filter_map(|(node, mut runs)| {
        // They are in the order of their starts.
        if runs.len() > 1 {
            runs.remove(0);
        }
        let seconds =
            |run: &NodeRun<'_>| run.ended_at.map(|end| end.duration_since(run.started_at));
        runs.sort_by_key(seconds);
        let median = runs.get((runs.len() - 1) / 2)?;
        Some((median.id, node))
    });
    typical.collect()
}
