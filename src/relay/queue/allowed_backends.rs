//! [`AllowedBackends`]: where a job may run.

use crate::job::excerpt;
use crate::relay::backend::Backend;
use crate::relay::backend_choice::{BackendChoice, is_chosen};
use crate::relay::backends::Backends;

/// How many choices a reason names.
const MAX_NAMED: usize = 3;

/// Where a job may run. It says nothing of which backends there are: one that comes later may be allowed, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::relay) struct AllowedBackends {
    /// What the job asks for; nothing for all of them.
    pub(super) choices: Vec<BackendChoice>,
    /// The names of those that cannot run it, as far as was known when it came.
    pub(super) unsuitable: Vec<String>,
}

impl AllowedBackends {
    /// Whether a backend may run it.
    pub(in crate::relay) fn contains(&self, backend: &Backend) -> bool {
        is_chosen(&self.choices, backend)
            && !self.unsuitable.iter().any(|name| name == backend.name())
    }

    /// Why none of these backends may run it, as a part of a sentence.
    pub(super) fn lack(&self, backends: &Backends) -> String {
        let mut all = backends.iter();
        if all.any(|backend| is_chosen(&self.choices, backend)) {
            return "no server can run it".to_owned();
        }
        let lacks = self
            .choices
            .iter()
            .take(MAX_NAMED)
            .map(|choice| match choice {
                BackendChoice::Named(name) => format!("there is no server {}", excerpt(name)),
                BackendChoice::Labelled(labels) => format!("no server has the labels {labels}"),
            });
        lacks.collect::<Vec<_>>().join(", ")
    }
}
