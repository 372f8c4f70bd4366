//! Checks which backends can run a workflow, without submitting it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::comfy::PromptOptions;
use crate::relay::backend::Backend;
use crate::relay::backend_choice::{BackendChoice, is_chosen};
use crate::relay::requests::suitability::Suitability;
use crate::relay::{Relay, RelayError};
use crate::workflow::{self, GivenParameters, NamedWorkflow};

/// A workflow to check.
#[derive(Debug, Clone)]
pub enum CheckedWorkflow {
    /// A graph in API format.
    Graph(Map<String, Value>),
    /// A workflow from the folder, by its name.
    Named(String),
}

impl Relay {
    /// Which backends can run a workflow with its parameters filled in; of the chosen ones alone, if there are choices.
    ///
    /// # Errors
    ///
    /// If the workflow is not a graph, a parameter does not fit it, or there is no such workflow or backend.
    pub async fn check_workflow(
        &self,
        workflow: CheckedWorkflow,
        params: &GivenParameters,
        choices: &[BackendChoice],
    ) -> Result<Vec<Suitability>, RelayError> {
        let all = &self.0.tracker.backends;
        self.0.tracker.check_choices(choices)?;
        let asked = all.iter().filter(|backend| is_chosen(choices, backend));
        let asked: Vec<Arc<Backend>> = asked.cloned().collect();
        let workflow = match workflow {
            CheckedWorkflow::Graph(graph) => {
                NamedWorkflow::plain(workflow::check(Value::Object(graph))?)
            }
            CheckedWorkflow::Named(name) => self.0.workflows.read(&name).await?,
        };
        let graph = self.filled(&workflow, params)?;
        let options = PromptOptions::default();
        Ok(self.suitability_of(&asked, &graph, &options).await)
    }
}
