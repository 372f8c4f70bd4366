//! Validates a graph against a server's node classes, as ComfyUI does when it is handed in.
//!
//! `GET /object_info` does not say everything: a class can have a check of its own, inputs can take their shape from
//! others, and what is uploaded comes and goes. What is refused here, ComfyUI refuses for sure; what it might take is
//! [`Verdict::Doubtful`] or accepted.

mod input_value;
mod node;
mod problem;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::object_info::NodeClasses;
use super::rejection::Rejection;
use node::GraphNodes;
use walk::{Validity, Walk};

pub use problem::{Missing, Problem, ProblemKind};

/// Whether a server would take a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes it. The outputs that need an input with a problem do not run.
    Accepted,
    /// It refuses it, unless one of the classes has a check of its own.
    Doubtful,
    /// It refuses it.
    Refused,
}

/// What validation has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// Whether the server takes the graph.
    pub verdict: Verdict,
    /// What is wrong, of many the first.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub problems_total: usize,
}

impl NodeClasses {
    /// Validates a graph as the server of these classes does. `targets` are the outputs that are to run; none means all.
    ///
    /// Takes time in proportion to the nodes and the inputs that their classes have, whatever the graph.
    pub fn validate(&self, graph: &Map<String, Value>, targets: &[String]) -> Validation {
        let validation = self.validate_outputs(graph, targets);
        if targets.is_empty() || validation.verdict != Verdict::Refused {
            return validation;
        }
        // Servers from before the middle of 2025 run all outputs, whatever is asked of them.
        let verdict = match self.validate_outputs(graph, &[]).verdict {
            Verdict::Refused => Verdict::Refused,
            Verdict::Accepted | Verdict::Doubtful => Verdict::Doubtful,
        };
        Validation {
            verdict,
            ..validation
        }
    }

    fn validate_outputs(&self, graph: &Map<String, Value>, targets: &[String]) -> Validation {
        let nodes = GraphNodes::new(graph, self);
        let is_output = |node: &&node::GraphNode| self.outputs().contains(node.class);
        let targets: HashSet<&str> = targets.iter().map(String::as_str).collect();
        let is_target = |node: &&node::GraphNode| targets.is_empty() || targets.contains(node.id);
        let all = nodes.all().iter().filter(is_output).filter(is_target);
        let outputs: Vec<usize> = all.map(|node| node.index).collect();
        let mut missing = nodes.missing_classes();
        if outputs.is_empty() && missing.problems.is_empty() {
            return Validation::no_outputs();
        }
        let mut walk = Walk::new(&nodes);
        let validity = outputs.iter().map(|&output| walk.validate(output));
        let best = validity.min().unwrap_or(Validity::Good);
        let found = walk.into_found();
        let verdict = match best {
            _ if !missing.problems.is_empty() => Verdict::Refused,
            Validity::Good => Verdict::Accepted,
            Validity::Doubtful => Verdict::Doubtful,
            Validity::Bad => Verdict::Refused,
        };
        missing.append(found);
        Validation {
            verdict,
            problems: missing.problems,
            problems_total: missing.total,
        }
    }
}

impl Validation {
    fn no_outputs() -> Self {
        Self {
            verdict: Verdict::Refused,
            problems: vec![Problem::of_prompt(ProblemKind::NoOutputs)],
            problems_total: 1,
        }
    }

    /// What it has found, in the shape of ComfyUI's own refusal.
    pub fn rejection(&self) -> Rejection {
        Rejection::of_problems(&self.problems, self.problems_total)
    }
}
