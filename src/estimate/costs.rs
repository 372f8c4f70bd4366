use std::collections::HashMap;

use super::samples::{Cost, Samples};
use crate::job::{PlannedNode, Role};

/// Runs by the node's signature, by its class and by its role.
#[derive(Debug, Clone, Default)]
pub(super) struct Costs {
    pub(super) exact: HashMap<String, Pair>,
    /// For one unit of work.
    pub(super) classes: HashMap<String, Pair>,
    /// For one unit of work.
    pub(super) roles: HashMap<Role, Pair>,
}

/// Runs in prompts that had to load the models, and in those that had not.
#[derive(Debug, Clone, Default)]
pub(super) struct Pair {
    pub(super) cold: Samples,
    pub(super) warm: Samples,
}

impl Pair {
    pub(super) fn at(&mut self, is_cold: bool) -> &mut Samples {
        if is_cold {
            &mut self.cold
        } else {
            &mut self.warm
        }
    }

    pub(super) fn cost(&self, is_cold: bool) -> Option<Cost> {
        let (cold, warm) = (self.cold.middle(), self.warm.middle());
        if is_cold {
            cold.or(warm)
        } else {
            warm.or(cold)
        }
    }
}

impl Costs {
    pub(super) fn add(&mut self, node: &PlannedNode, is_cold: bool, cost: Cost) {
        let unit = Cost {
            seconds: cost.seconds / node.units,
            tick: cost.tick.map(|tick| tick / tick_units(node)),
            ticks: None,
        };
        self.add_exact(node, is_cold, cost);
        self.classes
            .entry(node.class_type.clone())
            .or_default()
            .at(is_cold)
            .add(unit);
        self.roles
            .entry(node.role)
            .or_default()
            .at(is_cold)
            .add(unit);
    }

    /// For nodes of this signature alone.
    pub(super) fn add_exact(&mut self, node: &PlannedNode, is_cold: bool, cost: Cost) {
        self.exact
            .entry(node.signature.clone())
            .or_default()
            .at(is_cold)
            .add(cost);
    }

    pub(super) fn exact(&self, node: &PlannedNode, is_cold: bool) -> Option<Cost> {
        self.exact.get(&node.signature)?.cost(is_cold)
    }

    /// How many runs of the node's signature there are, as many as are remembered at most.
    pub(super) fn runs(&self, node: &PlannedNode, is_cold: bool) -> usize {
        let pair = self.exact.get(&node.signature);
        pair.map_or(0, |pair| match is_cold {
            true => pair.cold.len(),
            false => pair.warm.len(),
        })
    }

    pub(super) fn class(&self, node: &PlannedNode, is_cold: bool) -> Option<Cost> {
        Some(scaled(
            self.classes.get(&node.class_type)?.cost(is_cold)?,
            node,
        ))
    }

    pub(super) fn role(&self, node: &PlannedNode, is_cold: bool) -> Option<Cost> {
        // What is unlike everything else tells nothing of its like.
        let pair = self
            .roles
            .get(&node.role)
            .filter(|_| node.role != Role::Other)?;
        Some(scaled(pair.cost(is_cold)?, node))
    }
}

fn scaled(unit: Cost, node: &PlannedNode) -> Cost {
    Cost {
        seconds: unit.seconds * node.units,
        tick: unit.tick.map(|tick| tick * tick_units(node)),
        ticks: None,
    }
}

fn tick_units(node: &PlannedNode) -> f64 {
    node.units / node.steps.map_or(1.0, f64::from)
}
