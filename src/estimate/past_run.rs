use std::ops::RangeInclusive;

use crate::job::{PlannedNode, Role};

/// No node takes longer, in seconds: that is thirty years.
const MAX_SECONDS: f64 = 1e9;

/// No node has more ticks.
const MAX_TICKS: f64 = 1e9;

/// The units of work of a node. Costs are scaled by them, and outside this range they would overflow.
const UNITS: RangeInclusive<f64> = 1e-6..=1e12;

/// What one run of a node shows of its cost: a value of [`CostModel::runs`](super::CostModel::runs),
/// and a row of `node_runs` in the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PastRun<'a> {
    /// The node's class.
    pub class: &'a str,
    /// [`PlannedNode::signature`].
    pub signature: &'a str,
    /// [`PlannedNode::units`].
    pub units: Option<f64>,
    /// [`PlannedNode::calls`]; `None` if they were not stored. Such a run teaches nothing about nodes
    /// with another signature.
    pub calls: Option<f64>,
    /// [`PlannedNode::models`].
    pub models: u64,
    /// [`PlannedNode::steps`].
    pub steps: Option<u32>,
    /// Whether the models had to be read from the disk.
    pub is_cold: bool,
    /// Whether the node was cached: it shows only which models were in use.
    pub is_cached: bool,
    /// Seconds from its start to its end.
    pub seconds: f64,
    /// Seconds of one tick of its bar, the first tick left out.
    pub tick: Option<f64>,
    /// The ticks of all its bars.
    pub ticks: Option<f64>,
    /// Whether another node began during it: nodes of its class let others run beside them.
    pub is_parallel: bool,
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
            former_signature: None,
            role: Role::of(self.class),
            calls: self.calls.unwrap_or(1.0),
            units: self.units,
            loaders: Vec::new(),
            models: self.models,
            saved: None,
            consumers: Vec::new(),
            is_partner: false,
        }
    }

    /// Whether its numbers are possible: another program may have written them.
    pub(super) fn is_sound(&self) -> bool {
        let is_time = |seconds: f64| (0.0..=MAX_SECONDS).contains(&seconds);
        let is_count = |ticks: f64| ticks > 0.0 && ticks <= MAX_TICKS;
        is_time(self.seconds)
            && self.tick.is_none_or(is_time)
            && self.ticks.is_none_or(is_count)
            && self.units.is_none_or(|units| UNITS.contains(&units))
            && self.calls.is_none_or(|calls| UNITS.contains(&calls))
            && self.steps != Some(0)
    }
}
