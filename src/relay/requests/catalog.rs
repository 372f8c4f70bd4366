//! The workflows of the folder, and what the backends offer for their parameters.

use std::collections::BTreeSet;

use crate::relay::{Relay, RelayError};
use crate::workflow::{InputTarget, NamedWorkflow, WorkflowError};

impl Relay {
    /// The workflows of the folder, by their names; those that cannot be read, with the reason.
    pub async fn workflows(&self) -> Vec<(String, Result<NamedWorkflow, WorkflowError>)> {
        self.0.workflows.all().await
    }

    /// The workflow of the folder with this name.
    ///
    /// # Errors
    ///
    /// If there is none, or it or its header is wrong.
    pub async fn named_workflow(&self, name: &str) -> Result<NamedWorkflow, RelayError> {
        Ok(self.0.workflows.read(name).await?)
    }

    /// The texts that at least one backend offers for an input, such as the files of models, sorted.
    pub fn offered(&self, target: &InputTarget) -> Vec<String> {
        let classes = self.0.tracker.backends.iter();
        let classes: Vec<_> = classes.filter_map(|it| it.node_classes()).collect();
        let texts = classes
            .iter()
            .flat_map(|it| it.choice_texts(&target.class, &target.input));
        let texts: BTreeSet<&str> = texts.collect();
        texts.into_iter().map(str::to_owned).collect()
    }
}
