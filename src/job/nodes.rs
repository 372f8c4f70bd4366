//! The nodes of a job that have begun, and how far each is.

mod bar;
mod run;
mod timing;

use std::collections::HashMap;

use jiff::Timestamp;

use super::{NodeReport, NodeState, Plan};
pub use bar::Bar;
pub use run::NodeRun;
pub use timing::NodeTiming;

/// The most steps that one node counts for, so that a senseless bar cannot outweigh all others.
const MAX_STEPS: f64 = 10_000.0;

/// What is known of a job's nodes.
///
/// A *run* is one execution, with an id such as `5.0.0.1` where a loop or a subgraph made it.
/// Every run counts as its *display node*, a node of the graph.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    runs: HashMap<String, RunState>,
    displays: HashMap<String, Display>,
    /// Ids of the runs at work, the one that was heard of last at the end.
    active: Vec<String>,
    /// The run that was at work last: shown until the next one begins.
    last: Option<String>,
    /// The server tells the state of each node, so nothing must be guessed from the order of starts.
    reported: bool,
}

#[derive(Debug, Clone)]
struct RunState {
    display: String,
    state: NodeState,
    bar: Option<Bar>,
    loading: bool,
    timing: NodeTiming,
}

#[derive(Debug, Clone, Default)]
struct Display {
    /// How its own run stands, not those that it was expanded to.
    state: Option<NodeState>,
    /// The furthest that any of its bars has come, 0 to 1.
    share: f64,
    /// The longest of its bars.
    steps: f64,
}

/// The node that works at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Current<'a> {
    /// The display node's id.
    pub id: &'a str,
    /// Its bar, if it has one.
    pub bar: Option<Bar>,
    /// It loads a model.
    pub loading: bool,
}

/// How many of the needed nodes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Nodes that have run to their end.
    pub done: usize,
    /// Nodes that need not run.
    pub cached: usize,
    /// All nodes that outputs need, and those that ran besides.
    pub total: usize,
}

impl Nodes {
    /// Takes note of nodes that need not run. Says whether that was news.
    pub(super) fn cached(&mut self, nodes: Vec<String>) -> bool {
        let mut news = false;
        for id in nodes {
            let display = self.displays.entry(id).or_default();
            if display.state.is_none() {
                display.state = Some(NodeState::Cached);
                news = true;
            }
        }
        news
    }

    /// A node began.
    pub(super) fn started(
        &mut self,
        node: String,
        display: Option<String>,
        plan: &Plan,
        now: Timestamp,
    ) -> bool {
        let finished = |run: &RunState| run.state == NodeState::Finished;
        if self.reported && self.runs.get(&node).is_some_and(finished) {
            return false;
        }
        let display = self.display_of(&node, display, plan);
        if !self.reported {
            // Before servers reported states, nodes ran one after another: who begins tells that
            // the others have ended, but for those that wait for what they were expanded to.
            for other in std::mem::take(&mut self.active) {
                let waits = other == display
                    || node
                        .strip_prefix(other.as_str())
                        .is_some_and(|rest| rest.starts_with('.'));
                if waits || other == node {
                    self.active.push(other);
                } else {
                    self.end(&other, NodeState::Finished, now);
                }
            }
        }
        let news = self.active.last() != Some(&node);
        self.begin(node, display, now);
        news
    }

    /// A bar moved. Without a node's id it is that of the node at work.
    pub(super) fn bar(
        &mut self,
        node: Option<String>,
        bar: Bar,
        plan: &Plan,
        now: Timestamp,
    ) -> bool {
        let Some(node) = node.or_else(|| self.active.last().cloned()) else {
            return false;
        };
        let over = |run: &RunState| run.state != NodeState::Running;
        if self.runs.get(&node).is_some_and(over) {
            return false;
        }
        let display = self.display_of(&node, None, plan);
        self.begin(node.clone(), display, now);
        self.advance(&node, bar, now)
    }

    /// How every node that has begun stands.
    pub(super) fn report(&mut self, reports: Vec<NodeReport>, plan: &Plan, now: Timestamp) -> bool {
        self.reported = true;
        let mut news = false;
        for report in reports {
            let before = self.runs.get(&report.node).map(|run| run.state);
            if before.is_some_and(|state| state != NodeState::Running) {
                continue;
            }
            let bar = Bar {
                value: report.value,
                max: report.max,
            };
            // Nodes without a bar count 0 of 1 while they run.
            let has_bar = report.max > 1.0 || (report.value > 0.0 && report.value < report.max);
            if before.is_none() {
                let display = self.display_of(&report.node, report.display, plan);
                self.begin(report.node.clone(), display, now);
                news = true;
                if let Some(run) = self.runs.get_mut(&report.node) {
                    run.timing.was_missed = report.state != NodeState::Running;
                }
            }
            if has_bar && self.advance(&report.node, bar, now) {
                self.touch(&report.node);
                news = true;
            }
            if let Some(run) = self.runs.get_mut(&report.node) {
                news |= run.loading != report.loading;
                run.loading = report.loading;
            }
            if report.state != NodeState::Running {
                self.end(&report.node, report.state, now);
                self.active.retain(|id| *id != report.node);
                self.last = Some(report.node);
                news = true;
            }
        }
        news
    }

    /// The job is over: what still seems to run has ended with it.
    pub(super) fn close(&mut self, state: NodeState, now: Timestamp) {
        for id in std::mem::take(&mut self.active) {
            self.end(&id, state, now);
        }
    }

    /// The node that was heard of last among those at work; between two nodes, the one that ended.
    pub fn current(&self) -> Option<Current<'_>> {
        let id = self.active.last().or(self.last.as_ref())?;
        let run = self.runs.get(id)?;
        Some(Current {
            id: &run.display,
            bar: run.bar,
            loading: run.loading,
        })
    }

    /// Every run so far, in the order of their starts.
    pub fn timeline(&self) -> Vec<NodeRun<'_>> {
        let runs = self.runs.iter().map(|(id, run)| NodeRun {
            id,
            display: &run.display,
            state: run.state,
            bar: run.bar,
            started_at: run.timing.started_at,
            ended_at: run.timing.ended_at,
        });
        let mut runs: Vec<NodeRun<'_>> = runs.collect();
        runs.sort_by(|a, b| (a.started_at, a.id).cmp(&(b.started_at, b.id)));
        runs
    }

    /// The nodes of the graph that need not run.
    pub fn cached_ids(&self) -> impl Iterator<Item = &str> {
        let is_cached = |display: &Display| display.state == Some(NodeState::Cached);
        let displays = self.displays.iter();
        displays
            .filter(move |(_, display)| is_cached(display))
            .map(|(id, _)| id.as_str())
    }

    /// Whether the node of the graph need not run.
    pub fn is_cached(&self, id: &str) -> bool {
        let display = self.displays.get(id);
        display.is_some_and(|display| display.state == Some(NodeState::Cached))
    }

    /// What the run with this id has shown of its pace; `None` while it has not begun.
    pub fn timing(&self, run: &str) -> Option<&NodeTiming> {
        self.runs.get(run).map(|run| &run.timing)
    }

    /// The runs at work, with the nodes that they count as.
    pub fn active(&self) -> impl Iterator<Item = (&str, &str, &NodeTiming)> {
        let runs = self
            .active
            .iter()
            .filter_map(|id| self.runs.get_key_value(id));
        runs.map(|(id, run)| (id.as_str(), run.display.as_str(), &run.timing))
    }

    /// How many of the plan's nodes are done.
    pub fn counts(&self, plan: &Plan) -> Counts {
        let mut counts = Counts::default();
        for (id, _) in self.counted(plan) {
            counts.total += 1;
            match self.displays.get(id).and_then(|display| display.state) {
                Some(NodeState::Finished) => counts.done += 1,
                Some(NodeState::Cached) => counts.cached += 1,
                Some(NodeState::Running | NodeState::Failed | NodeState::Interrupted) | None => {}
            }
        }
        counts
    }

    /// The share of the work that is done, 0 to 1: each node weighs as much as it has steps.
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

    /// The needed nodes with the steps that the graph tells, then those that run without being planned.
    fn counted<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a str, Option<u32>)> {
        let unplanned = |id: &str, display: &Display| {
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

    fn display_of(&self, node: &str, told: Option<String>, plan: &Plan) -> String {
        if let Some(run) = self.runs.get(node) {
            return run.display.clone();
        }
        told.unwrap_or_else(|| match node.split_once('.') {
            Some((parent, _)) if plan.node(node).is_none() => parent.to_owned(),
            _ => node.to_owned(),
        })
    }

    fn begin(&mut self, node: String, display: String, now: Timestamp) {
        if node == display {
            self.displays.entry(display.clone()).or_default().state = Some(NodeState::Running);
        } else {
            self.displays.entry(display.clone()).or_default();
        }
        self.touch(&node);
        let run = self.runs.entry(node).or_insert(RunState {
            display,
            state: NodeState::Running,
            bar: None,
            loading: false,
            timing: NodeTiming::new(now),
        });
        run.state = NodeState::Running;
        run.timing.ended_at = None;
    }

    fn touch(&mut self, node: &str) {
        if self.active.last().is_none_or(|last| last != node) {
            self.active.retain(|id| id != node);
            self.active.push(node.to_owned());
        }
    }

    fn advance(&mut self, node: &str, bar: Bar, now: Timestamp) -> bool {
        let Some(run) = self.runs.get_mut(node) else {
            return false;
        };
        if !bar.value.is_finite() || !bar.max.is_finite() || run.bar == Some(bar) {
            return false;
        }
        run.timing.advance(run.bar, bar, now);
        run.bar = Some(bar);
        let display = self.displays.entry(run.display.clone()).or_default();
        display.share = display.share.max(bar.share());
        display.steps = display.steps.max(bar.max.min(MAX_STEPS));
        true
    }

    fn end(&mut self, node: &str, state: NodeState, now: Timestamp) {
        let Some(run) = self.runs.get_mut(node) else {
            return;
        };
        run.state = state;
        run.timing.ended_at = Some(now);
        if run.display == node
            && let Some(display) = self.displays.get_mut(node)
        {
            display.state = Some(state);
        }
    }
}

#[cfg(test)]
mod tests;
