//! The parameters of a submission: those of its workflow, and inputs of nodes.

use serde_json::{Map, Value};

use crate::cli::workflow_file::GivenWorkflow;
use crate::workflow::GivenParameters;

/// The parameters of a submission. Those of a file are filled in here, because the relay does not have its header.
pub(in crate::cli) struct SubmittedParameters<'a> {
    pub(in crate::cli) workflow: &'a GivenWorkflow,
    pub(in crate::cli) given: GivenParameters,
}

impl SubmittedParameters<'_> {
    /// The fields of a body with which all jobs have them. What is not given is left out: older relays do not know it.
    pub(in crate::cli) fn fields(&self) -> anyhow::Result<Map<String, Value>> {
        let GivenWorkflow::File(file) = self.workflow else {
            let all = [
                ("parameters", &self.given.named),
                ("params", &self.given.inputs),
            ];
            let given = all.into_iter().filter(|(_, all)| !all.is_empty());
            return Ok(given
                .map(|(field, all)| (field.to_owned(), Value::Object(all.clone())))
                .collect());
        };
        let inputs = self.given.resolved(file)?.inputs;
        Ok(Map::from_iter([("params".to_owned(), inputs.into())]))
    }

    /// The parameters of all jobs that the relay knows by their names; `None` if there are none.
    pub(super) fn named(&self) -> Option<Value> {
        let named = &self.given.named;
        let is_here = matches!(self.workflow, GivenWorkflow::File(_)) || named.is_empty();
        (!is_here).then(|| named.clone().into())
    }

    /// `params` of a single job of several, with its own parameters before those of all.
    pub(super) fn of_job(&self, own: Map<String, Value>) -> anyhow::Result<Value> {
        let mut all = self.given.inputs.clone();
        all.extend(own);
        let GivenWorkflow::File(file) = self.workflow else {
            return Ok(all.into());
        };
        let given = GivenParameters::new(self.given.named.clone(), all);
        Ok(given.resolved(file)?.inputs.into())
    }
}
