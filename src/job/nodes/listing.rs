//! Runs that the server no longer reports: some leave out what has finished.

use jiff::Timestamp;

use super::listed::Listed;
use super::{Nodes, RunState};
use crate::job::{NodeReport, NodeState};

impl Nodes {
    /// Ends the active runs that earlier reports have listed and this one does not. Returns whether there are any.
    pub(super) fn end_unlisted(&mut self, reports: &[NodeReport], now: Timestamp) -> bool {
        let is_unlisted = |id: &&String| {
            let was_listed = |run: &RunState| run.listed == Listed::Yes;
            self.runs.get(*id).is_some_and(was_listed) && !reports.iter().any(|it| it.node == **id)
        };
        let unlisted: Vec<String> = self.active.iter().filter(is_unlisted).cloned().collect();
        if reports.is_empty() || unlisted.is_empty() {
            return false;
        }
        self.active.retain(|id| !unlisted.contains(id));
        for id in unlisted {
            self.end(&id, NodeState::Finished, now);
            if let Some(run) = self.runs.get_mut(&id) {
                run.listed = Listed::NoMore;
            }
            self.last = Some(id);
        }
        true
    }

    /// Goes on with a run that was taken for finished because a report did not list it.
    pub(super) fn reopen(&mut self, report: &NodeReport) {
        if let Some(run) = self.runs.get_mut(&report.node)
            && report.state == NodeState::Running
            && run.listed == Listed::NoMore
        {
            run.state = NodeState::Running;
            run.timing.ended_at = None;
            let display = run.display.clone();
            if display == report.node
                && let Some(display) = self.displays.get_mut(&display)
            {
                display.state = Some(NodeState::Running);
            }
            self.touch(&report.node);
        }
    }
}
