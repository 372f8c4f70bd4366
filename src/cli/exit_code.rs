//! The program's exit codes, apart from 0.

use crate::job::Status;

/// A wrong command line (`EX_USAGE` of sysexits.h), not clap's own 2, which means here that a job was cancelled.
pub(super) const USAGE: u8 = 64;

/// The watched job has failed, as if the command had.
pub(super) const FAILED: u8 = 1;

/// The watched job was cancelled.
pub(super) const CANCELLED: u8 = 2;

/// The job cannot be watched: the relay cannot be reached, refuses, or does not know the job.
pub(super) const UNREACHABLE: u8 = 3;

/// The exit code for how a job has ended.
pub(super) fn of_outcome(status: Status) -> u8 {
    match status {
        Status::Completed => 0,
        Status::Cancelled => CANCELLED,
        _ => FAILED,
    }
}

/// The worst of the exit codes of several jobs.
pub(super) fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let badness = |code: &u8| {
        [0, CANCELLED, FAILED, UNREACHABLE]
            .iter()
            .position(|it| it == code)
    };
    codes.into_iter().max_by_key(badness).unwrap_or_default()
}

/// Settings that contradict each other, or that cannot be used: the program exits with [`USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(super) struct WrongSetting(pub(super) anyhow::Error);

impl WrongSetting {
    /// Several of them, each in a line as it is printed.
    pub(super) fn all(problems: Vec<anyhow::Error>) -> Self {
        let lines: Vec<String> = problems.iter().map(|it| format!("{it:#}")).collect();
        Self(anyhow::Error::msg(lines.join("\nerror: ")))
    }
}
