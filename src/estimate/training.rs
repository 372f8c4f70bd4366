//! What was learned before: runs that the store kept, and prompts that the server's history tells of.

use std::ops::RangeInclusive;

use super::model::{CostModel, loaders};
use super::samples::Cost;
use crate::job::{Plan, PlannedNode, Role};

/// No node takes longer: that is thirty years.
const MAX_SECONDS: f64 = 1e9;

/// No node has more ticks.
const MAX_TICKS: f64 = 1e9;

/// The work of a node. With less or more, what is scaled by it grows beyond all numbers.
const UNITS: RangeInclusive<f64> = 1e-6..=1e12;

/// What one run of a node tells of its cost: [`CostModel::runs`] of a job, `node_runs` of the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PastRun<'a> {
    /// The node's class.
    pub class: &'a str,
    /// [`PlannedNode::signature`].
    pub signature: &'a str,
    /// [`PlannedNode::units`]; `None` where they were not kept. Then it tells nothing of other nodes.
    pub units: Option<f64>,
    /// [`PlannedNode::steps`].
    pub steps: Option<u32>,
    /// Its models had to be read from the disk.
    pub is_cold: bool,
    /// It need not run: it tells only which models were in use.
    pub is_cached: bool,
    /// How long it took.
    pub seconds: f64,
    /// Seconds of one tick of its bar after the first.
    pub tick: Option<f64>,
    /// The ticks of all its bars.
    pub ticks: Option<f64>,
}

impl PastRun<'_> {
    /// The node, as far as its cost depends on it.
    pub(super) fn node(&self) -> PlannedNode {
        PlannedNode {
            class_type: self.class.to_owned(),
            title: None,
            steps: self.steps,
            needed: true,
            signature: self.signature.to_owned(),
            role: Role::of(self.class),
            units: self.units.unwrap_or(1.0),
            loaders: Vec::new(),
            consumers: Vec::new(),
        }
    }

    /// Whether its numbers can be what they are said to be: somebody else may have written them.
    pub(super) fn is_sound(&self) -> bool {
        let is_time = |seconds: f64| (0.0..=MAX_SECONDS).contains(&seconds);
        let is_count = |ticks: f64| ticks > 0.0 && ticks <= MAX_TICKS;
        is_time(self.seconds)
            && self.tick.is_none_or(is_time)
            && self.ticks.is_none_or(is_count)
            && self.units.is_none_or(|units| UNITS.contains(&units))
            && self.steps != Some(0)
    }
}

impl CostModel {
    /// Takes note of the runs of one job that were kept from earlier, in the order of their starts. The
    /// oldest job comes first. What [`CostModel::learn`] took note of is recalled the same.
    pub fn learn_runs(&mut self, backend: &str, runs: &[PastRun<'_>]) {
        if runs.is_empty() {
            return;
        }
        let loaded = loaders(runs.iter().map(|run| (run.class, run.signature)));
        let ran = runs.iter().filter(|run| !run.is_cached);
        let ran: Vec<PastRun<'_>> = ran.copied().collect();
        self.take(backend, &ran, loaded);
    }

    /// Takes note of a whole prompt of which only the duration is known, as the history tells it: its
    /// seconds are shared out among its nodes as they are expected to cost. The oldest comes first.
    pub fn learn_prompt(&mut self, backend: &str, plan: &Plan, cached: &[String], seconds: f64) {
        if !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        let is_cached = |id: &str| cached.iter().any(|cached| cached == id);
        let ran: Vec<(&str, &PlannedNode)> =
            plan.needed().filter(|(id, _)| !is_cached(id)).collect();
        let expected = |(_, node): (&str, &PlannedNode)| {
            let is_cold = self.is_cold(backend, node, is_cached);
            (is_cold, self.predict(backend, node, is_cold).seconds)
        };
        let shares: Vec<(bool, f64)> = ran.iter().copied().map(expected).collect();
        let whole: f64 = shares.iter().map(|(_, share)| share).sum();
        if whole <= 0.0 {
            return;
        }
        let runs = ran.iter().zip(shares).map(|((_, node), (is_cold, share))| {
            let cost = Cost {
                seconds: share * seconds / whole,
                tick: None,
                ticks: None,
            };
            (*node, is_cold, cost)
        });
        let needed = plan.needed();
        let loaded = loaders(needed.map(|(_, node)| (&*node.class_type, &*node.signature)));
        self.take_guess(backend, runs.collect(), loaded);
    }
}
