//! [`WorkflowHeader`]: what a workflow is called, and which parameters it takes.

mod findings;
mod limits;
mod parameter;
mod problem;
mod reader;
mod value;

use serde_json::{Map, Value};

use super::parameter_problem::{MAX_PROBLEMS, ParameterProblem};
pub use limits::{IntegerLimits, NumberLimits};
pub use parameter::{DefaultValue, HeaderParameter, InputTarget, ParameterKind};
pub use problem::HeaderProblem;

/// The longest text that is compared with the names of parameters, in bytes: twice as long as a name can be.
const MAX_COMPARED: usize = 80;

/// What a workflow says of itself, in a file beside its graph.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowHeader {
    /// What it is called.
    pub title: String,
    /// What it does; may be empty.
    pub description: String,
    /// Its parameters, in the order in which a form shows them.
    pub parameters: Vec<HeaderParameter>,
}

impl WorkflowHeader {
    /// The parameter with this name.
    pub fn parameter(&self, name: &str) -> Option<&HeaderParameter> {
        let mut all = self.parameters.iter();
        all.find(|parameter| parameter.name == name)
    }

    /// The inputs that parameters set, by `NODE.INPUT`, with everything that is wrong with the parameters. `is_set` says which
    /// inputs are set in another way: a parameter for those alone need not be given. A value that is given counts before the default
    /// of another parameter for the same input.
    pub(super) fn inputs(
        &self,
        given: &Map<String, Value>,
        is_set: impl Fn(&str) -> bool,
    ) -> (Map<String, Value>, Vec<ParameterProblem>) {
        let unknown = given.keys().filter(|name| self.parameter(name).is_none());
        let unknown = unknown.take(MAX_PROBLEMS).map(|name| self.unknown(name));
        let mut problems: Vec<ParameterProblem> = unknown.collect();
        let (mut defaults, mut values) = (Map::new(), Map::new());
        for parameter in &self.parameters {
            let (value, inputs) = match given.get(&parameter.name) {
                Some(value) => (parameter.accepted(value), &mut values),
                None => (Ok(parameter.default.made(&parameter.kind)), &mut defaults),
            };
            match value {
                Ok(Some(value)) => inputs.extend(parameter.set(&value)),
                Ok(None) if parameter.default == DefaultValue::Required => {
                    let is_filled = parameter.targets.iter().all(|it| is_set(&it.to_string()));
                    if !is_filled {
                        problems.push(ParameterProblem::new(
                            &parameter.name,
                            ParameterProblem::MISSING,
                            "it is required",
                        ));
                    }
                }
                // The graph has it.
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        defaults.extend(values);
        (defaults, problems)
    }

    fn unknown(&self, name: &str) -> ParameterProblem {
        let known: Vec<&str> = self.parameters.iter().map(|it| it.name.as_str()).collect();
        // To compare a long text takes long, and is in vain.
        let similar = known.iter().filter(|_| name.len() <= MAX_COMPARED);
        let similar = similar
            .map(|it| (strsim::damerau_levenshtein(it, name), it))
            .filter(|(distance, it)| distance * 3 <= it.len())
            .min();
        let message = match (similar, known.as_slice()) {
            (Some((_, similar)), _) => {
                format!("the workflow has no such parameter; did you mean {similar:?}?")
            }
            (None, []) => "the workflow has no parameters".to_owned(),
            (None, known) => format!(
                "the workflow has no such parameter; it has {}",
                known.join(", ")
            ),
        };
        ParameterProblem::new(name, ParameterProblem::UNKNOWN, message)
    }
}
