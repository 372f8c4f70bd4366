use std::fmt;

use super::baseline::{Algorithm, Answer};
use super::kind::JobKind;

/// At how many moments of a job, evenly spread over its duration, each algorithm is asked.
pub const MOMENTS: usize = 100;

/// One job, and what each algorithm answered while it ran.
#[derive(Debug)]
pub struct ScoredJob {
    /// The version of ComfyUI that ran it.
    pub version: String,
    /// The name of its recording.
    pub scenario: String,
    /// What makes it easy or hard.
    pub kind: JobKind,
    /// Whether the same workflow had completed on the same version before.
    pub is_known: bool,
    /// Seconds from its start to its end.
    pub duration: f64,
    /// For each of the [`MOMENTS`] the answers in the order of [`Algorithm::ALL`].
    pub answers: Vec<Vec<Answer>>,
}

impl ScoredJob {
    /// The absolute error of an algorithm's remaining time at a moment, as a share of the job's
    /// duration. A missing answer counts as 0 s.
    pub(super) fn error(&self, algorithm: usize, moment: usize) -> f64 {
        let answer = &self.answers[moment][algorithm];
        (answer.remaining.unwrap_or(0.0) - self.remaining(moment)).abs() / self.duration
    }

    /// The true remaining time at a moment, in seconds.
    pub(super) fn remaining(&self, index: usize) -> f64 {
        self.duration * (1.0 - time_share(index))
    }

    /// The mean of [`ScoredJob::error`] over all moments.
    pub(super) fn mean_error(&self, algorithm: usize) -> f64 {
        let errors = (0..MOMENTS).map(|moment| self.error(algorithm, moment));
        errors.sum::<f64>() / MOMENTS as f64
    }
}

impl fmt::Display for ScoredJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.is_known { "known" } else { "first" };
        let place = format!("{}/{}", self.version, self.scenario);
        write!(f, "{known} {place:<42} {:>6.2} s", self.duration)?;
        for algorithm in 0..Algorithm::ALL.len() {
            write!(f, " {:>6.1}", 100.0 * self.mean_error(algorithm))?;
        }
        Ok(())
    }
}

/// The share of a job's duration that has passed at a moment, 0 to 1.
pub(super) fn time_share(moment: usize) -> f64 {
    (moment as f64 + 0.5) / MOMENTS as f64
}
