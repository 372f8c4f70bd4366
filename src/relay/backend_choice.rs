//! [`BackendChoice`]: which backends a job asks for.

use serde::{Deserialize, Serialize};

use super::backend::Backend;
use crate::config::{BackendLabelError, BackendLabels};

/// Backends that a job asks for. Where there are several of them, any will do.
///
/// It is resolved when the job is placed: a backend counts that comes later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BackendChoice {
    /// The one with this name.
    Named(String),
    /// Those that have all of these labels.
    Labelled(BackendLabels),
}

impl BackendChoice {
    /// Reads the name of a backend, or labels as `gpu=a100,room=2`.
    ///
    /// # Errors
    ///
    /// If it begins like labels and is none.
    pub fn parse(text: &str) -> Result<Self, BackendLabelError> {
        if BackendLabels::is_label(text) {
            return BackendLabels::parse(text).map(Self::Labelled);
        }
        Ok(Self::Named(text.to_owned()))
    }

    /// Whether a backend is meant.
    pub(super) fn is_for(&self, backend: &Backend) -> bool {
        match self {
            Self::Named(name) => name == backend.name(),
            Self::Labelled(labels) => backend.labels.have_all(labels),
        }
    }
}

/// Whether one of the choices is for a backend, or there are none.
pub(super) fn is_chosen(choices: &[BackendChoice], backend: &Backend) -> bool {
    choices.is_empty() || choices.iter().any(|choice| choice.is_for(backend))
}
