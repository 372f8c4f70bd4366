use std::collections::HashMap;

use super::call_costs::CallCosts;
use super::samples::{Cost, ExpectedCost, Samples};
use super::spread::Spread;
use crate::job::{PlannedNode, Role};

/// The most signatures that are kept. Some never come again: those of nodes with a text under an input
/// name that is not known to be costless.
const MAX_SIGNATURES: usize = 10_000;

/// The costs of runs by the node's signature, by its class, and by its role.
#[derive(Debug, Clone, Default)]
pub(super) struct Costs {
    signatures: HashMap<String, SignatureRuns>,
    /// How many runs were added by signature.
    added: u64,
    classes: HashMap<String, ClassRuns>,
    /// For one unit of work.
    roles: HashMap<Role, ColdWarm>,
}

/// The runs of one signature.
#[derive(Debug, Clone, Default)]
struct SignatureRuns {
    runs: ColdWarm,
    /// What [`Costs::added`] was when the newest was added.
    at: u64,
}

/// The runs of one class.
#[derive(Debug, Clone, Default)]
struct ClassRuns {
    /// For one unit of work: only runs whose size was known.
    by_unit: ColdWarm,
    /// All runs.
    by_call: CallCosts,
}

/// What runs of a class cost.
pub(super) struct ClassCost {
    pub(super) expected: ExpectedCost,
    /// Whether the size of the images is in it.
    pub(super) is_sized: bool,
}

/// Runs that had to load their models, and runs that had not.
#[derive(Debug, Clone, Default)]
struct ColdWarm {
    cold: Samples,
    warm: Samples,
}

impl ColdWarm {
    fn samples_mut(&mut self, is_cold: bool) -> &mut Samples {
        if is_cold {
            &mut self.cold
        } else {
            &mut self.warm
        }
    }

    fn expected(&self, is_cold: bool) -> Option<ExpectedCost> {
        let (cold, warm) = (self.cold.expected(), self.warm.expected());
        if is_cold {
            cold.or(warm)
        } else {
            warm.or(cold)
        }
    }
}

impl Costs {
    /// Adds a run to the node's signature, class and role.
    pub(super) fn add(&mut self, node: &PlannedNode, is_cold: bool, cost: Cost) {
        self.add_by_signature(node, is_cold, cost);
        let class = self.classes.entry(node.class_type.clone()).or_default();
        class.by_call.add(node, is_cold, cost);
        let Some(units) = node.units else {
            return;
        };
        let unit = Cost {
            seconds: cost.seconds / units,
            tick: cost.tick.map(|tick| tick / tick_units(node, units)),
            ticks: None,
        };
        class.by_unit.samples_mut(is_cold).add(unit);
        self.roles
            .entry(node.role)
            .or_default()
            .samples_mut(is_cold)
            .add(unit);
    }

    /// Adds a run to the node's signature only.
    pub(super) fn add_by_signature(&mut self, node: &PlannedNode, is_cold: bool, cost: Cost) {
        self.added += 1;
        let known = self.signatures.entry(node.signature.clone()).or_default();
        known.at = self.added;
        known.runs.samples_mut(is_cold).add(cost);
        if self.signatures.len() > MAX_SIGNATURES {
            self.evict();
        }
    }

    /// Removes the half of the signatures whose newest runs are oldest.
    fn evict(&mut self) {
        let mut ages: Vec<u64> = self.signatures.values().map(|known| known.at).collect();
        let middle = ages.len() / 2;
        let (_, &mut oldest, _) = ages.select_nth_unstable(middle);
        self.signatures.retain(|_, known| known.at >= oldest);
    }

    /// What runs of the node's signature cost.
    pub(super) fn by_signature(&self, node: &PlannedNode, is_cold: bool) -> Option<ExpectedCost> {
        self.signature_runs(node)?.expected(is_cold)
    }

    /// The runs of the node's signature; else those from before its size was known or corrected.
    fn signature_runs(&self, node: &PlannedNode) -> Option<&ColdWarm> {
        let known = |signature: &String| self.signatures.get(signature);
        let before = || node.former_signature.as_ref().and_then(known);
        known(&node.signature)
            .or_else(before)
            .map(|known| &known.runs)
    }

    /// How many runs of the node's signature are kept.
    pub(super) fn runs(&self, node: &PlannedNode, is_cold: bool) -> usize {
        self.signature_runs(node).map_or(0, |runs| {
            if is_cold {
                runs.cold.len()
            } else {
                runs.warm.len()
            }
        })
    }

    /// What runs of the node's class cost: scaled to its units of work if its size is known, else by
    /// the calls of its model.
    pub(super) fn by_class(&self, node: &PlannedNode, is_cold: bool) -> Option<ClassCost> {
        let class = self.classes.get(&node.class_type)?;
        let by_unit = |units| Some(for_units(class.by_unit.expected(is_cold)?, node, units));
        if let Some(expected) = node.units.and_then(by_unit) {
            return Some(ClassCost {
                expected,
                is_sized: true,
            });
        }
        Some(ClassCost {
            expected: class.by_call.expected(node, is_cold)?,
            is_sized: false,
        })
    }

    /// What runs with the node's role cost, scaled to its units of work; `None` for [`Role::Other`],
    /// whose nodes have nothing in common.
    pub(super) fn by_role(&self, node: &PlannedNode, is_cold: bool) -> Option<ExpectedCost> {
        if node.role == Role::Other {
            return None;
        }
        let unit = self.roles.get(&node.role)?.expected(is_cold)?;
        Some(for_units(unit, node, node.units_or_calls()))
    }
}

fn for_units(unit: ExpectedCost, node: &PlannedNode, units: f64) -> ExpectedCost {
    ExpectedCost {
        cost: Cost {
            seconds: unit.cost.seconds * units,
            tick: unit.cost.tick.map(|tick| tick * tick_units(node, units)),
            ticks: None,
        },
        // These runs differ by their work, not by chance.
        spread: Spread::default(),
        runs: unit.runs,
    }
}

/// The units of work of one tick.
fn tick_units(node: &PlannedNode, units: f64) -> f64 {
    units / node.steps.map_or(1.0, f64::from)
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
            former_signature: None,
            role: Role::Text,
            calls: 1.0,
            units: Some(1.0),
            loaders: Vec::new(),
            models: 0,
            saved: None,
            consumers: Vec::new(),
            is_partner: false,
        }
    }

    #[test]
    fn signatures_that_do_not_come_again_are_evicted() {
        let cost = Cost {
            seconds: 1.0,
            tick: None,
            ticks: None,
        };
        let mut costs = Costs::default();
        for number in 1..=3 * MAX_SIGNATURES {
            costs.add(&node(number), false, cost);
            costs.add(&node(0), false, cost);
            assert!(costs.signatures.len() <= MAX_SIGNATURES);
        }
        let last = node(3 * MAX_SIGNATURES);
        assert!(costs.by_signature(&node(0), false).is_some());
        assert!(costs.by_signature(&last, false).is_some());
        assert_eq!(costs.by_signature(&node(1), false), None);
    }
}
