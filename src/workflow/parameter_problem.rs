//! What is wrong with one parameter of a submission.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::job::excerpt;

/// How many problems a sentence names.
const NAMED: usize = 30;

/// How many problems of one submission are collected.
pub(super) const MAX_PROBLEMS: usize = 100;

/// What is wrong with one parameter of a submission.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ParameterProblem {
    /// The parameter: its name, or `NODE.INPUT`.
    pub parameter: String,
    /// The stable code, for programs.
    pub code: &'static str,
    /// A sentence for a person.
    pub message: String,
}

impl ParameterProblem {
    /// The workflow does not have it.
    pub const UNKNOWN: &'static str = "unknown_parameter";
    /// It is not given, and has no default.
    pub const MISSING: &'static str = "missing_parameter";
    /// The value is of another type.
    pub const TYPE: &'static str = "wrong_type";
    /// The value is out of its limits.
    pub const LIMIT: &'static str = "out_of_limits";
    /// The value is not one of the choices.
    pub const CHOICE: &'static str = "not_a_choice";
    /// The input is linked to another node.
    pub const LINKED: &'static str = "linked_input";

    pub(super) fn new(parameter: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            parameter: excerpt(parameter).into_owned(),
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for ParameterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "parameter {:?}: {}",
            excerpt(&self.parameter),
            self.message
        )
    }
}

/// Some of many problems, as one sentence.
pub(super) fn sentence<T: ToString>(problems: &[T]) -> String {
    let mut named: Vec<String> = problems.iter().take(NAMED).map(T::to_string).collect();
    if problems.len() > NAMED {
        named.push(format!("and {} more", problems.len() - NAMED));
    }
    named.join("; ")
}
