//! The parameters of a submission, and a graph with them.

use serde_json::{Map, Value};

use super::error::WorkflowError;
use super::header::WorkflowHeader;
use super::parameter_problem::ParameterProblem;
use super::params::fill_inputs;

/// The parameters of a submission.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GivenParameters {
    /// Those of the workflow's header, by their names.
    pub named: Map<String, Value>,
    /// Inputs of nodes, by `NODE.INPUT`. They count before the named ones.
    pub inputs: Map<String, Value>,
}

impl GivenParameters {
    /// Named parameters, and others of which those with a dot are inputs of nodes. The others count before the named ones.
    pub fn new(mut named: Map<String, Value>, mixed: Map<String, Value>) -> Self {
        let is_input = |(name, _): &(String, Value)| name.contains('.');
        let (inputs, others): (Map<_, _>, Map<_, _>) = mixed.into_iter().partition(is_input);
        named.extend(others);
        Self { named, inputs }
    }

    /// The same parameters as inputs of nodes alone: with the defaults of the header, and with its random numbers drawn.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the named ones.
    pub fn resolved(&self, header: Option<&WorkflowHeader>) -> Result<Self, WorkflowError> {
        let (inputs, problems) = self.to_inputs(header);
        if !problems.is_empty() {
            return Err(WorkflowError::Parameters(problems));
        }
        Ok(Self {
            named: Map::new(),
            inputs,
        })
    }

    fn to_inputs(
        &self,
        header: Option<&WorkflowHeader>,
    ) -> (Map<String, Value>, Vec<ParameterProblem>) {
        let (mut inputs, problems) = match header {
            Some(header) => header.inputs(&self.named, |input| self.inputs.contains_key(input)),
            None => (
                Map::new(),
                self.named.keys().map(|it| without_header(it)).collect(),
            ),
        };
        inputs.extend(self.inputs.clone());
        (inputs, problems)
    }
}

/// Fills parameters into a graph. `expected` is as for [`fill_inputs`].
///
/// # Errors
///
/// Everything that is wrong with them; then the graph stays as it was.
pub fn fill(
    graph: &mut Map<String, Value>,
    header: Option<&WorkflowHeader>,
    given: &GivenParameters,
    expected: impl Fn(&str, &str, &Value) -> Option<String>,
) -> Result<(), WorkflowError> {
    let (inputs, mut problems) = given.to_inputs(header);
    let mut filled = graph.clone();
    problems.extend(fill_inputs(&mut filled, &inputs, expected));
    if !problems.is_empty() {
        return Err(WorkflowError::Parameters(problems));
    }
    *graph = filled;
    Ok(())
}

fn without_header(name: &str) -> ParameterProblem {
    let why = "expected NODE.INPUT, such as \"3.seed\": the workflow has no parameters of its own";
    ParameterProblem::new(name, ParameterProblem::UNKNOWN, why)
}
