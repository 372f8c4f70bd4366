//! Reports of the server about the states of all runs.

use jiff::Timestamp;

use super::{Bar, Nodes, is_made_by};
use crate::job::{NodeReport, NodeState, Plan};

impl Nodes {
    /// Applies the states of all runs that have begun. Returns whether that changed anything.
    pub(in crate::job) fn report(
        &mut self,
        reports: Vec<NodeReport>,
        plan: &Plan,
        now: Timestamp,
    ) -> bool {
        self.reported = true;
        let mut changed = false;
        for report in &reports {
            let before = self.runs.get(&report.node).map(|run| run.state);
            // A cached output node is reported as finished, though it has not run, whether or not a copy of it runs.
            let has_run = report.state != NodeState::Finished || !self.was_cached(&report.node);
            if before.is_none() && !has_run {
                continue;
            }
            if before.is_none_or(|state| state == NodeState::Running) {
                changed |= self.report_one(report, before.is_none(), plan, now);
            }
        }
        // Afterwards, so that the same report says the same again.
        self.note_left_out(&reports, now);
        changed
    }

    /// Notes which active runs a report of all nodes leaves out. One that waits for the nodes that it was expanded to goes on.
    fn note_left_out(&mut self, reports: &[NodeReport], now: Timestamp) {
        for id in &self.active {
            let is_reported = reports.iter().any(|report| report.node == *id);
            let reported = reports.iter().map(|report| &report.node);
            let mut others = self.active.iter().chain(&self.last).chain(reported);
            let is_expanded = others.any(|other| is_made_by(other, id));
            if let Some(run) = self.runs.get_mut(id) {
                let left_out_at = run.timing.left_out_at.unwrap_or(now);
                run.timing.left_out_at = (!is_reported && !is_expanded).then_some(left_out_at);
            }
        }
    }

    fn report_one(
        &mut self,
        report: &NodeReport,
        is_new: bool,
        plan: &Plan,
        now: Timestamp,
    ) -> bool {
        let mut changed = is_new;
        if is_new {
            let display = self.display_of(&report.node, report.display.clone(), plan);
            self.begin(report.node.clone(), display, now);
            if let Some(run) = self.runs.get_mut(&report.node) {
                run.timing.was_missed |= report.state != NodeState::Running;
            }
        }
        let bar = Bar {
            value: report.value,
            max: report.max,
        };
        // Nodes without a bar report 0 of 1 while they run.
        let has_bar = report.max > 1.0 || (report.value > 0.0 && report.value < report.max);
        if has_bar && self.advance(&report.node, bar, plan, now) {
            self.touch(&report.node);
            changed = true;
        }
        if let Some(run) = self.runs.get_mut(&report.node) {
            changed |= run.loading != report.loading;
            run.loading = report.loading;
        }
        if report.state != NodeState::Running {
            self.end(&report.node, report.state, now);
            self.active.retain(|id| *id != report.node);
            self.last = Some(report.node.clone());
            changed = true;
        }
        changed
    }
}
