//! The parameters of a submission, and a graph with them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::catalog::NamedWorkflow;
use super::error::WorkflowError;
use super::parameter_problem::{MAX_PROBLEMS, ParameterProblem};
use super::params::{by_id, fill_inputs};

/// How many parameters a submission has at most.
const MAX_GIVEN: usize = 1_000;

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

    /// The same parameters as inputs of nodes alone, by the ids of these: with the defaults of the header, and with its random
    /// numbers drawn.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the named ones.
    pub fn resolved(&self, workflow: &NamedWorkflow) -> Result<Self, WorkflowError> {
        self.check_count()?;
        let (mut inputs, problems) = self.named_inputs(workflow);
        refuse(problems)?;
        for (name, value) in &self.inputs {
            inputs.insert(by_id(&workflow.graph, name), value.clone());
        }
        Ok(Self {
            named: Map::new(),
            inputs,
        })
    }

    /// The inputs that are set by the header's parameters and by none of their own, with what is wrong with those parameters.
    fn named_inputs(
        &self,
        workflow: &NamedWorkflow,
    ) -> (Map<String, Value>, Vec<ParameterProblem>) {
        let Some(header) = &workflow.header else {
            let unknown = self.named.keys().take(MAX_PROBLEMS);
            return (Map::new(), unknown.map(|it| without_header(it)).collect());
        };
        let set = self.inputs.keys().map(|name| by_id(&workflow.graph, name));
        let set: HashSet<String> = set.collect();
        let (mut inputs, problems) = header.inputs(&self.named, |input| set.contains(input));
        inputs.retain(|input, _| !set.contains(input));
        (inputs, problems)
    }

    fn check_count(&self) -> Result<(), WorkflowError> {
        let count = self.named.len() + self.inputs.len();
        if count <= MAX_GIVEN {
            return Ok(());
        }
        let why = format!("{count} are given; at most {MAX_GIVEN} are allowed");
        let problem = ParameterProblem::new("parameters", ParameterProblem::LIMIT, why);
        Err(WorkflowError::Parameters(vec![problem]))
    }
}

/// The graph of a workflow with its parameters filled in. `expected` is as for [`fill_inputs`].
///
/// # Errors
///
/// What is wrong with the parameters, of very much the first.
pub fn fill(
    workflow: &NamedWorkflow,
    given: &GivenParameters,
    expected: impl Fn(&str, &str, &Value) -> Option<String>,
) -> Result<Map<String, Value>, WorkflowError> {
    given.check_count()?;
    let (named, mut problems) = given.named_inputs(workflow);
    let mut graph = workflow.graph.clone();
    problems.extend(fill_inputs(&mut graph, &named, &expected));
    problems.extend(fill_inputs(&mut graph, &given.inputs, &expected));
    refuse(problems)?;
    Ok(graph)
}

fn refuse(mut problems: Vec<ParameterProblem>) -> Result<(), WorkflowError> {
    if problems.is_empty() {
        return Ok(());
    }
    problems.truncate(MAX_PROBLEMS);
    Err(WorkflowError::Parameters(problems))
}

fn without_header(name: &str) -> ParameterProblem {
    let why = "expected NODE.INPUT, such as \"3.seed\": the workflow has no parameters of its own";
    ParameterProblem::new(name, ParameterProblem::UNKNOWN, why)
}
