//! Why a node of the editor cannot be converted.

use std::fmt;

/// Why a node of the editor cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversionProblem {
    /// The node's id.
    pub node: String,
    /// A sentence for a person.
    pub message: String,
}

impl fmt::Display for ConversionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.message)
    }
}
