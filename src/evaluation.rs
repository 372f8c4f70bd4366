//! Scores estimators of progress and remaining time on recordings of ComfyUI: the relay's own, and
//! those of other clients beside it.
//!
//! A recording is replayed by the timestamps of its frames. At [`MOMENTS`] moments of each job every
//! [`Algorithm`] is asked for the progress and the remaining time, and compared with what then
//! happened.

mod baseline;
mod chart;
mod events;
mod learner;
mod recordings;
mod score;
mod table;

use crate::recording::Recording;
pub use baseline::{Algorithm, Answer};
pub use chart::draw;
use learner::{FinishedPrompt, Learner};
pub use recordings::read_recordings;
pub use score::{MOMENTS, ScoredJob};
pub use table::{LEGEND, ScoreRow, ScoreTable};

/// The scored jobs of a set of recordings.
#[derive(Debug)]
pub struct Evaluation {
    /// Every job that completed, with its start and its end in the recording.
    pub jobs: Vec<ScoredJob>,
}

/// What an algorithm must not have learned from when a job is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LeftOut {
    /// The whole recording: its second job does not profit from its first
    Recording,
    /// Only the job itself
    Job,
}

impl Evaluation {
    /// Learns while it replays: each job is estimated from all jobs before it.
    pub fn in_order(recordings: &[Recording]) -> Self {
        let mut learner = Learner::default();
        Self::of(recordings.iter().flat_map(|one| learner.replay(one, true)))
    }

    /// Scores each recording, or each job, by what all the others teach.
    ///
    /// The later ones are learned first, then the earlier ones. So the newest evidence, above all of
    /// the machine's speed, is from just before the job, as it is in production.
    pub fn leave_one_out(what: LeftOut, recordings: &[Recording]) -> Self {
        let replayed = recordings
            .iter()
            .map(|one| Learner::default().replay(one, false));
        let replayed: Vec<Vec<FinishedPrompt>> = replayed.collect();
        let mut finished = Vec::new();
        for (index, recording) in recordings.iter().enumerate() {
            let (earlier, later) = (&replayed[..index], &replayed[index + 1..]);
            let learned = |own: &[FinishedPrompt]| {
                let mut learner = Learner::default();
                let others = later.iter().flatten().chain(own);
                others
                    .chain(earlier.iter().flatten())
                    .for_each(|other| learner.learn(other));
                learner
            };
            match what {
                LeftOut::Recording => finished.extend(learned(&[]).replay(recording, false)),
                LeftOut::Job => finished.extend((0..replayed[index].len()).filter_map(|job| {
                    let mut learner = learned(&replayed[index][job + 1..]);
                    learner.replay(recording, true).into_iter().nth(job)
                })),
            }
        }
        Self::of(finished)
    }

    fn of(finished: impl IntoIterator<Item = FinishedPrompt>) -> Self {
        let scored = finished.into_iter().filter_map(|one| one.scored);
        Self {
            jobs: scored.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
