//! Checks which backends a request asks for.

use crate::relay::RelayError;
use crate::relay::backend::Backend;
use crate::relay::backend_choice::BackendChoice;
use crate::relay::tracker::Tracker;

impl Tracker {
    /// Fails if one of the choices is for no backend that there is now.
    pub(in crate::relay) fn check_choices(
        &self,
        choices: &[BackendChoice],
    ) -> Result<(), RelayError> {
        for choice in choices {
            let is_for = |it: &Backend| choice.is_for(it) && !it.state().operation.is_removal();
            if self.backends.iter().any(|backend| is_for(backend)) {
                continue;
            }
            return Err(match choice {
                BackendChoice::Named(name) => self.unknown_backend(name),
                BackendChoice::Labelled(labels) => RelayError::LabelUnknown {
                    asked: labels.to_string(),
                    known: self.labelled(),
                },
            });
        }
        Ok(())
    }

    /// There is no backend with this name.
    pub(in crate::relay) fn unknown_backend(&self, name: &str) -> RelayError {
        let known = self.backends.iter();
        let known = known.filter(|backend| !backend.state().operation.is_removal());
        RelayError::BackendUnknown {
            name: name.to_owned(),
            known: known.map(|backend| backend.name().to_owned()).collect(),
        }
    }

    /// The backends that have labels, with them.
    fn labelled(&self) -> Vec<String> {
        let backends = self.backends.iter();
        let labelled = backends.filter(|backend| !backend.labels.is_empty());
        labelled
            .map(|backend| format!("{} ({})", backend.labels, backend.name()))
            .collect()
    }
}
