use std::collections::VecDeque;

use super::samples::{Cost, ExpectedCost, quantile};
use super::spread::Spread;
use crate::job::PlannedNode;

/// How many runs of a class are kept.
const MAX_RUNS: usize = 64;

/// A run counts half as much as one that came this many runs later.
const HALF_LIFE: f64 = 16.0;

/// The quantile that is expected.
const QUANTILE: f64 = 0.45;

/// How fast the weight of a run decays with its distance: `exp(−distance / SCALE)`.
const SCALE: f64 = 0.5;

/// The distance of a run on other models.
const OTHER_MODELS: f64 = 0.5;

/// The distance between a run that had to load its models, and one that had not.
const OTHER_COLDNESS: f64 = 1.0;

/// The distance of a run with `e` times as many calls.
const OTHER_CALLS: f64 = 0.1;

/// The runs of one class by the calls of its model, whatever the size of their images: what a node of
/// unknown size is predicted from.
#[derive(Debug, Clone, Default)]
pub(super) struct CallCosts(VecDeque<CallRun>);

#[derive(Debug, Clone, Copy)]
struct CallRun {
    cost: Cost,
    calls: f64,
    models: u64,
    is_cold: bool,
}

impl CallRun {
    /// What the run would have cost with the steps and the calls of the node: from its start-up and its
    /// ticks, `start + tick·steps`; without ticks in proportion to the calls.
    fn seconds_for(&self, node: &PlannedNode) -> f64 {
        let Cost {
            seconds,
            tick,
            ticks,
        } = self.cost;
        match (node.steps, tick, ticks) {
            (Some(steps), Some(tick), Some(ticks)) => {
                (seconds - tick * ticks).max(0.0) + tick * f64::from(steps)
            }
            _ => seconds * node.calls / self.calls,
        }
    }

    fn distance(&self, node: &PlannedNode, is_cold: bool) -> f64 {
        let mut distance = 0.0;
        if self.models != node.models {
            distance += OTHER_MODELS;
        }
        if self.is_cold != is_cold {
            distance += OTHER_COLDNESS;
        }
        if self.calls != node.calls {
            distance += OTHER_CALLS * (node.calls / self.calls).ln().abs();
        }
        distance
    }
}

impl CallCosts {
    pub(super) fn add(&mut self, node: &PlannedNode, is_cold: bool, cost: Cost) {
        if self.0.len() == MAX_RUNS {
            self.0.pop_front();
        }
        self.0.push_back(CallRun {
            cost,
            calls: node.calls,
            models: node.models,
            is_cold,
        });
    }

    /// What a node of the class is expected to cost; `None` without runs. The newest runs count most,
    /// and those that are most alike.
    pub(super) fn expected(&self, node: &PlannedNode, is_cold: bool) -> Option<ExpectedCost> {
        let mut seconds = Vec::with_capacity(self.0.len());
        let mut ticks = Vec::with_capacity(self.0.len());
        let decay = 0.5_f64.powf(1.0 / HALF_LIFE);
        let mut age_weight = 1.0;
        for run in self.0.iter().rev() {
            let weight = age_weight * (-run.distance(node, is_cold) / SCALE).exp();
            seconds.push((run.seconds_for(node), weight));
            ticks.extend(run.cost.tick.map(|tick| (tick, weight)));
            age_weight *= decay;
        }
        let cost = Cost {
            seconds: quantile(&mut seconds, QUANTILE)?,
            tick: quantile(&mut ticks, QUANTILE),
            ticks: None,
        };
        // These runs differ by their sizes, not by chance.
        let spread = Spread::default();
        Some(ExpectedCost {
            cost,
            spread,
            runs: self.0.len(),
        })
    }
}
