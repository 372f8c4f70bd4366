use std::collections::HashMap;

use super::samples::{Cost, ExpectedCost, Samples};
use super::spread::Spread;
use crate::job::{PlannedNode, Role};

/// The most signatures that are remembered: whatever is unlike the one before, such as a text that goes
/// by a name of its own, has a signature of its own.
const MAX_SIGNATURES: usize = 10_000;

/// Runs by the node's signature, by its class and by its role.
#[derive(Debug, Clone, Default)]
pub(super) struct Costs {
    exact: HashMap<String, Recent>,
    /// How many runs were added by signature.
    added: u64,
    /// For one unit of work.
    pub(super) classes: HashMap<String, Pair>,
    /// For one unit of work.
    pub(super) roles: HashMap<Role, Pair>,
}

/// The runs of one signature.
#[derive(Debug, Clone, Default)]
struct Recent {
    runs: Pair,
    /// What [`Costs::added`] was when the newest was added.
    at: u64,
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

    pub(super) fn expected(&self, is_cold: bool) -> Option<ExpectedCost> {
        let (cold, warm) = (self.cold.expected(), self.warm.expected());
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
        self.added += 1;
        let known = self.exact.entry(node.signature.clone()).or_default();
        known.at = self.added;
        known.runs.at(is_cold).add(cost);
        if self.exact.len() > MAX_SIGNATURES {
            self.forget();
        }
    }

    /// Forgets the half of the signatures that ran the longest ago.
    fn forget(&mut self) {
        let mut ages: Vec<u64> = self.exact.values().map(|known| known.at).collect();
        let middle = ages.len() / 2;
        let (_, &mut oldest, _) = ages.select_nth_unstable(middle);
        self.exact.retain(|_, known| known.at >= oldest);
    }

    pub(super) fn exact(&self, node: &PlannedNode, is_cold: bool) -> Option<ExpectedCost> {
        self.exact.get(&node.signature)?.runs.expected(is_cold)
    }

    /// How many runs of the node's signature there are, as many as are remembered at most.
    pub(super) fn runs(&self, node: &PlannedNode, is_cold: bool) -> usize {
        let known = self.exact.get(&node.signature);
        known.map_or(0, |known| match is_cold {
            true => known.runs.cold.len(),
            false => known.runs.warm.len(),
        })
    }

    pub(super) fn class(&self, node: &PlannedNode, is_cold: bool) -> Option<ExpectedCost> {
        Some(scaled(
            self.classes.get(&node.class_type)?.expected(is_cold)?,
            node,
        ))
    }

    pub(super) fn role(&self, node: &PlannedNode, is_cold: bool) -> Option<ExpectedCost> {
        // What is unlike everything else tells nothing of its like.
        let pair = self
            .roles
            .get(&node.role)
            .filter(|_| node.role != Role::Other)?;
        Some(scaled(pair.expected(is_cold)?, node))
    }
}

fn scaled(unit: ExpectedCost, node: &PlannedNode) -> ExpectedCost {
    ExpectedCost {
        cost: Cost {
            seconds: unit.cost.seconds * node.units,
            tick: unit.cost.tick.map(|tick| tick * tick_units(node)),
            ticks: None,
        },
        // What other work took differs by what it was, not by chance.
        spread: Spread::default(),
    }
}

fn tick_units(node: &PlannedNode) -> f64 {
    node.units / node.steps.map_or(1.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(signature: usize) -> PlannedNode {
        PlannedNode {
            class_type: "Text".to_owned(),
            title: None,
            steps: None,
            needed: true,
            signature: signature.to_string(),
            role: Role::Text,
            units: 1.0,
            loaders: Vec::new(),
            consumers: Vec::new(),
        }
    }

    #[test]
    fn signatures_that_do_not_come_again_are_forgotten() {
        let cost = Cost {
            seconds: 1.0,
            tick: None,
            ticks: None,
        };
        let mut costs = Costs::default();
        for number in 1..=3 * MAX_SIGNATURES {
            costs.add(&node(number), false, cost);
            costs.add(&node(0), false, cost);
            assert!(costs.exact.len() <= MAX_SIGNATURES);
        }
        assert!(costs.exact(&node(0), false).is_some());
        assert!(costs.exact(&node(3 * MAX_SIGNATURES), false).is_some());
        assert_eq!(costs.exact(&node(1), false), None);
    }
}
