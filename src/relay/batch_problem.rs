//! A job of a batch that cannot be submitted, and why.

use schemars::JsonSchema;
use serde::Serialize;

/// A job of a batch that cannot be submitted, and why.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct BatchProblem {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The stable code, for programs.
    pub code: &'static str,
    /// A sentence for a person.
    pub message: String,
}

/// The problems of a batch as a sentence, which names the first.
pub(super) fn sentence(problems: &[BatchProblem]) -> String {
    let Some(first) = problems.first() else {
        return "the batch cannot be submitted".to_owned();
    };
    let count = problems.len();
    // People count from 1.
    let (number, message) = (first.index + 1, &first.message);
    match count {
        1 => format!("nothing was submitted: job {number} of the batch: {message}"),
        _ => format!(
            "nothing was submitted: {count} jobs are wrong; job {number} of the batch: {message}"
        ),
    }
}
