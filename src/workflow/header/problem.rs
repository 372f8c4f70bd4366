//! What is wrong with a header.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// What is wrong with a header, and where.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct HeaderProblem {
    /// Where it is, such as `parameters.steps.minimum`; empty for the header as a whole.
    pub place: String,
    /// A sentence for a person.
    pub message: String,
}

impl fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.place, self.message)
    }
}
