//! The nodes of a job that have begun, and how far each is.

mod bar;
mod copies;
mod counts;
mod inference;
mod loop_rounds;
mod percentages;
mod reports;
mod resumption;
mod rounds;
mod run;
mod service;
mod service_end;
mod timing;

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use jiff::Timestamp;

use super::{NodeState, Plan};
pub use bar::Bar;
use copies::EndedCopies;
pub use counts::NodeCounts;
pub use loop_rounds::LoopRounds;
use resumption::Resumption;
pub use run::NodeRun;
pub use service_end::ServiceEnd;
pub use timing::NodeTiming;

/// The most steps that one node counts for, so that a wrong bar cannot outweigh all others.
const MAX_STEPS: f64 = 10_000.0;

/// The state of a job's nodes.
///
/// A *run* is one execution, with an id such as `5.0.0.1` if a loop or a subgraph made it. Every run
/// counts as its *display node*, a node of the graph.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    runs: HashMap<String, RunState>,
    displays: HashMap<String, DisplayNode>,
    /// The ids of the runs at work, the one with the newest message last.
    active: Vec<String>,
    /// The run that ended last: it is published until the next one begins.
    last: Option<String>,
    /// Whether the server reports the state of each node, so that nothing is inferred from the order
    /// of their starts.
    reported: bool,
    /// Set if the job goes on after a restart.
    resumption: Option<Resumption>,
    /// The ids of the runs that have shown that a service does their work.
    partners: HashSet<String>,
    /// The loops of which ComfyUI has said how far they are, the one with the newest text last.
    loops: IndexMap<String, LoopRounds>,
}

#[derive(Debug, Clone)]
struct RunState {
    display: String,
    state: NodeState,
    bar: Option<Bar>,
    loading: bool,
    /// The status of the work that a service does.
    status: Option<String>,
    timing: NodeTiming,
}

#[derive(Debug, Clone, Default)]
struct DisplayNode {
    /// The state of its own run, not of those that it was expanded to.
    state: Option<NodeState>,
    /// The largest share of any of its bars, 0 to 1.
    share: f64,
    /// The length of the longest of its bars.
    steps: f64,
    /// The runs that a loop has made of it, and that have ended.
    copies: EndedCopies,
    /// The server has said that it need not run.
    was_cached: bool,
}

/// The node that runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Current<'a> {
    /// The id of its display node.
    pub id: &'a str,
    /// Its bar, if it has one.
    pub bar: Option<Bar>,
    /// Whether it is loading a model.
    pub loading: bool,
    /// The status of the work that a service does, in its words.
    pub status: Option<&'a str>,
}

impl Nodes {
    /// Marks nodes as cached. Returns whether that changed anything.
    pub(super) fn cached(&mut self, nodes: Vec<String>) -> bool {
        let mut changed = false;
        for id in nodes {
            let display = self.displays.entry(id).or_default();
            if display.state.is_none() {
                display.state = Some(NodeState::Cached);
                display.was_cached = true;
                changed = true;
            }
        }
        changed
    }

    /// Starts a run. Returns whether that changed anything.
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
            // Servers that report no states run one node after another, so a start ends the others,
            // except those that wait for the nodes that they were expanded to.
            for other in std::mem::take(&mut self.active) {
                let waits = other == display || is_made_by(&node, &other);
                if waits || other == node {
                    self.active.push(other);
                } else {
                    self.end(&other, NodeState::Finished, now);
                }
            }
        }
        let changed = self.active.last() != Some(&node);
        self.begin(node, display, now);
        changed
    }

    /// Moves a bar; without a node's id, the bar of the active run. Returns whether that changed
    /// anything.
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
        let has_ended = |run: &RunState| run.state != NodeState::Running;
        if self.runs.get(&node).is_some_and(has_ended) {
            return false;
        }
        let display = self.display_of(&node, None, plan);
        self.begin(node.clone(), display, now);
        self.advance(&node, bar, plan, now)
    }

    /// Ends all active runs, because the job has ended.
    pub(super) fn close(&mut self, state: NodeState, now: Timestamp) {
        for id in std::mem::take(&mut self.active) {
            let left_out_at = self.timing(&id).and_then(|timing| timing.left_out_at);
            self.end(&id, state, left_out_at.unwrap_or(now));
        }
    }

    /// Whether a run has begun.
    pub fn has_begun(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether the server reports the state of each node that has begun.
    pub fn are_reported(&self) -> bool {
        self.reported
    }

    /// How many nodes and runs have begun, or need not run.
    pub fn begun(&self) -> usize {
        self.runs.len() + self.cached_ids().count()
    }

    /// When a run last showed progress that a loop or a subgraph made of a node; `None` if none is active.
    pub fn expanded_at(&self, id: &str) -> Option<Timestamp> {
        let newest = self.active.iter().chain(&self.last);
        let made = newest.filter(|run| is_made_by(run, id));
        made.filter_map(|run| self.runs.get(run))
            .map(|run| run.timing.newest_sign())
            .max()
    }

    /// The active run with the newest message; between two runs, the one that ended last.
    pub fn current(&self) -> Option<Current<'_>> {
        let id = self.active.last().or(self.last.as_ref())?;
        let run = self.runs.get(id)?;
        Some(Current {
            id: &run.display,
            bar: run.bar,
            loading: run.loading,
            status: run.status.as_deref(),
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

    /// The ids of the cached nodes.
    pub fn cached_ids(&self) -> impl Iterator<Item = &str> {
        let is_cached = |display: &DisplayNode| display.state == Some(NodeState::Cached);
        let displays = self.displays.iter();
        displays
            .filter(move |(_, display)| is_cached(display))
            .map(|(id, _)| id.as_str())
    }

    /// Whether the server has said that the node of the graph need not run. It, or a copy of it, may have run all the same.
    fn was_cached(&self, id: &str) -> bool {
        self.displays
            .get(id)
            .is_some_and(|display| display.was_cached)
    }

    /// Whether the node of the graph is cached.
    pub fn is_cached(&self, id: &str) -> bool {
        let display = self.displays.get(id);
        display.is_some_and(|display| display.state == Some(NodeState::Cached))
    }

    /// The timing of the run with this id; `None` while it has not begun.
    pub fn timing(&self, run: &str) -> Option<&NodeTiming> {
        self.runs.get(run).map(|run| &run.timing)
    }

    /// The active runs: their ids, their display nodes and their timings.
    pub fn active(&self) -> impl Iterator<Item = (&str, &str, &NodeTiming)> {
        let runs = self
            .active
            .iter()
            .filter_map(|id| self.runs.get_key_value(id));
        runs.map(|(id, run)| (id.as_str(), run.display.as_str(), &run.timing))
    }

    /// The node that a run counts as.
    pub(super) fn node_of(&self, run: &str, plan: &Plan) -> String {
        self.display_of(run, None, plan)
    }

    fn display_of(&self, node: &str, reported: Option<String>, plan: &Plan) -> String {
        if let Some(run) = self.runs.get(node) {
            return run.display.clone();
        }
        reported.unwrap_or_else(|| {
            let (outermost, made) = node.split_once('.').unwrap_or((node, ""));
            let copied = copied_node(made).filter(|id| plan.is_copied(id));
            // Ids of the graph can hold dots, too: the nearest node of it counts.
            let parents = node.rmatch_indices('.').map(|(dot, _)| &node[..dot]);
            let mut nearest = std::iter::once(node).chain(copied).chain(parents);
            let planned = nearest.find(|id| plan.node(id).is_some());
            planned.unwrap_or(outermost).to_owned()
        })
    }

    fn begin(&mut self, node: String, display: String, now: Timestamp) {
        if node == display {
            self.displays.entry(display.clone()).or_default().state = Some(NodeState::Running);
        } else {
            let display = self.displays.entry(display.clone()).or_default();
            // It was listed as cached, and runs after all.
            if display.state == Some(NodeState::Cached) {
                display.state = Some(NodeState::Running);
            }
        }
        self.touch(&node);
        let earliest_start = self.earliest_start();
        let run = self.runs.entry(node).or_insert(RunState {
            display,
            state: NodeState::Running,
            bar: None,
            loading: false,
            status: None,
            timing: NodeTiming::new(earliest_start, now),
        });
        run.state = NodeState::Running;
        run.timing.ended_at = None;
        run.timing.left_out_at = None;
    }

    /// Makes a run the last one in `active`.
    fn touch(&mut self, node: &str) {
        if self.active.last().is_none_or(|last| last != node) {
            self.active.retain(|id| id != node);
            self.active.push(node.to_owned());
        }
    }

    fn advance(&mut self, node: &str, bar: Bar, plan: &Plan, now: Timestamp) -> bool {
        let is_percentage = self.is_percentage(node, plan);
        let Some(run) = self.runs.get_mut(node) else {
            return false;
        };
        if !bar.value.is_finite() || !bar.max.is_finite() {
            return false;
        }
        let bar = if is_percentage { bar.as_share() } else { bar };
        if run.bar == Some(bar) {
            return false;
        }
        run.timing.is_percentage = is_percentage;
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
        let ends_now = run.state == NodeState::Running && state == NodeState::Finished;
        run.state = state;
        run.timing.ended_at = Some(now);
        if ends_now
            && run.display != node
            && let Some(display) = self.displays.get_mut(&run.display)
        {
            display.copies.add(run.timing.seconds(now));
        }
        if run.display == node
            && let Some(display) = self.displays.get_mut(node)
        {
            display.state = Some(state);
        }
        self.end_display_without_run(node, state);
    }

    /// A node that was listed as cached, and of which only runs under other ids were seen, has ended with them.
    fn end_display_without_run(&mut self, run: &str, state: NodeState) {
        let Some(id) = self.runs.get(run).map(|run| run.display.clone()) else {
            return;
        };
        if !self.runs.contains_key(&id)
            && let Some(display) = self.displays.get_mut(&id)
            && display.state == Some(NodeState::Running)
        {
            display.state = Some(state);
        }
    }
}

/// The node that a run is a copy of, by the end of its id: `0.0.2_57:12` is the third copy of `57:12`.
fn copied_node(made: &str) -> Option<&str> {
    let (_, id) = made.rsplit_once('_')?;
    Some(id)
}

/// Whether a loop or a subgraph, the run `node`, has made the run `run`.
fn is_made_by(run: &str, node: &str) -> bool {
    let rest = run.strip_prefix(node);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests;
