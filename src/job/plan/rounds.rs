//! How many copies loops make of the nodes of a plan.

use super::Plan;
use super::copies::MAX_ROUNDS;

/// The rounds that are assumed where neither the graph nor a text of ComfyUI shows them.
const ASSUMED_ROUNDS: f64 = 2.0;

impl Plan {
    /// Whether a node is copied by a loop around it: it never runs itself.
    pub fn is_copied(&self, id: &str) -> bool {
        self.copied.around.contains_key(id)
    }

    /// How many copies of a node are expected to run; 1 for one that runs itself.
    pub fn copies(&self, id: &str) -> f64 {
        let rounds = self.rounds_around(id);
        let rounds = rounds.map(|rounds| rounds.unwrap_or(ASSUMED_ROUNDS));
        rounds.product::<f64>().min(MAX_ROUNDS)
    }

    /// The same; `None` where the rounds of a loop are not known.
    pub(in crate::job) fn known_copies(&self, id: &str) -> Option<f64> {
        let copies = self.rounds_around(id).product::<Option<f64>>()?;
        Some(copies.min(MAX_ROUNDS))
    }

    /// The node that opens the only loop around a node; `None` of a node in no loop, or in loops within loops.
    pub(in crate::job) fn only_loop_around(&self, id: &str) -> Option<&str> {
        match self.copied.around.get(id)?.as_slice() {
            [start] => Some(start),
            _ => None,
        }
    }

    /// The node that closes the outermost loop around a node.
    pub(in crate::job) fn outer_end(&self, id: &str) -> Option<&str> {
        let start = self.copied.around.get(id)?.last()?;
        Some(&self.copied.loops.get(start)?.end)
    }

    /// Whether a node opens a loop.
    pub(in crate::job) fn opens_loop(&self, id: &str) -> bool {
        self.copied.loops.contains_key(id)
    }

    /// Sets how many rounds a loop has, as ComfyUI says.
    pub(in crate::job) fn set_rounds(&mut self, start: &str, rounds: u32) {
        if let Some(known) = self.copied.loops.get_mut(start) {
            known.rounds = Some(f64::from(rounds).min(MAX_ROUNDS));
        }
    }

    /// The rounds of the loops around a node.
    fn rounds_around(&self, id: &str) -> impl Iterator<Item = Option<f64>> {
        let around = self.copied.around.get(id).into_iter().flatten();
        around.map(|start| self.copied.loops.get(start)?.rounds)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A loop in a loop, and one behind them.
    fn plan(outer: &Value, inner: &Value) -> Plan {
        let graph = json!({
            "1": {"class_type": "Loader", "inputs": {}},
            "10": {"class_type": "StartLoop", "inputs": outer},
            "11": {"class_type": "A", "inputs": {"x": ["10", 4], "model": ["1", 0]}},
            "20": {"class_type": "StartLoop", "inputs": inner},
            "21": {"class_type": "B", "inputs": {"x": ["20", 4], "y": ["11", 0]}},
            "22": {"class_type": "EndLoop", "inputs": {"output_value": ["21", 0]}},
            "12": {"class_type": "EndLoop", "inputs": {"output_value": ["22", 0], "terminations.termination0": ["11", 0]}},
            "30": {"class_type": "StartLoop", "inputs": {"mode": "List", "mode.list": ["12", 0]}},
            "57:31": {"class_type": "C", "inputs": {"x": ["30", 3]}},
            "32": {"class_type": "EndLoop", "inputs": {"next_iteration_value": ["57:31", 0]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["32", 0]}}
        });
        Plan::from_graph(graph.as_object().unwrap(), None)
    }

    #[test]
    fn the_nodes_of_a_loop_are_copied_for_each_round() {
        let outer = json!({"mode": "simple", "mode.num_iterations": 3});
        let inner = json!({"mode": "For", "mode.start_iteration_index": 1, "mode.max_iteration": 8, "mode.step": 2,
            "parent_iteration": ["10", 0]});
        let mut plan = plan(&outer, &inner);
        let copies = |plan: &Plan, id: &str| (plan.is_copied(id), plan.copies(id));
        assert_eq!(copies(&plan, "1"), (false, 1.0));
        assert_eq!(copies(&plan, "10"), (false, 1.0));
        assert_eq!(copies(&plan, "11"), (true, 3.0));
        assert_eq!(copies(&plan, "20"), (true, 3.0));
        assert_eq!(copies(&plan, "21"), (true, 12.0));
        assert_eq!(copies(&plan, "22"), (true, 3.0));
        assert_eq!(copies(&plan, "12"), (false, 1.0));
        assert_eq!(copies(&plan, "57:31"), (true, ASSUMED_ROUNDS));
        assert_eq!(plan.outer_end("21"), Some("12"));
        assert_eq!(plan.only_loop_around("21"), None);
        assert_eq!(plan.only_loop_around("57:31"), Some("30"));
        assert!(plan.opens_loop("30") && !plan.opens_loop("57:31"));
        plan.set_rounds("30", 7);
        assert_eq!(plan.copies("57:31"), 7.0);
        plan.set_rounds("30", 0);
        assert_eq!(plan.copies("57:31"), 0.0);
    }

    #[test]
    fn a_count_that_is_linked_is_read_where_it_is_known() {
        let linked = json!({"mode": "simple", "mode.num_iterations": ["1", 0]});
        assert_eq!(plan(&linked, &linked).copies("11"), ASSUMED_ROUNDS);
        let odd = json!({"mode": "For", "mode.max_iteration": -4, "mode.step": 0});
        assert_eq!(plan(&odd, &odd).copies("11"), ASSUMED_ROUNDS);
        let none = json!({"mode": "For", "mode.max_iteration": -4});
        assert_eq!(plan(&none, &none).copies("11"), 0.0);
    }
}
