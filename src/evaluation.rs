//! Scores estimators of progress and remaining time on recordings of ComfyUI: the relay's own, and
//! those of other clients beside it.
//!
//! A recording is replayed by the timestamps of its frames. At [`MOMENTS`] moments of each job every
//! [`Algorithm`] is asked for the progress and the remaining time, and compared with what then
//! happened.

mod baseline;
mod chart;
mod events;
mod family;
mod kind;
mod learner;
mod nested;
mod recordings;
mod score;
mod socket_view;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use crate::recording::Recording;
pub use baseline::{Algorithm, Answer};
pub use chart::draw;
use family::family;
pub use kind::JobKind;
use learner::{FinishedPrompt, Learner, WorkflowKey};
pub use nested::NestedScore;
pub use recordings::read_recordings;
pub use score::{MOMENTS, ScoredJob};
pub use table::{KindTable, LEGEND, ScoreRow, ScoreTable};

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
    /// First-time workflows: every recording of the same scenario number, on any version. Known ones:
    /// everything but the earlier runs of the same workflow on the same server
    Family,
}

/// What else is learned before the earlier runs of a known workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorTraining {
    /// Nothing.
    Nothing,
    /// Every run of every other workflow, on all servers.
    OtherWorkflows,
}

impl Evaluation {
    /// Learns while it replays: each job is estimated from all jobs before it.
    pub fn in_order(recordings: &[Recording]) -> Self {
        let mut learner = Learner::default();
        Self::of(
            recordings
                .iter()
                .flat_map(|one| learner.replay(one, |_| true)),
        )
    }

    /// Scores each job without what is left out.
    ///
    /// What came later is learned first, then what came earlier. So the newest evidence, above all of
    /// the machine's speed, is from just before the job, as it is in production.
    pub fn leave_out(what: LeftOut, recordings: &[Recording]) -> Self {
        match what {
            LeftOut::Recording => Self::without_recording(recordings),
            LeftOut::Job => Self::without_job(recordings),
            LeftOut::Family => {
                let first = Self::without_family(recordings).jobs.into_iter();
                let mut jobs: Vec<ScoredJob> = first.filter(|job| !job.is_known).collect();
                jobs.extend(Self::of_known(recordings, PriorTraining::Nothing).jobs);
                Self { jobs }
            }
        }
    }

    fn without_recording(recordings: &[Recording]) -> Self {
        let replayed = replay_all(recordings);
        let finished = recordings
            .iter()
            .enumerate()
            .flat_map(|(index, recording)| {
                let others = replayed[index + 1..].iter().chain(&replayed[..index]);
                taught_by(others.flatten()).replay(recording, |_| false)
            });
        Self::of(finished)
    }

    fn without_job(recordings: &[Recording]) -> Self {
        let replayed = replay_all(recordings);
        let mut finished = Vec::new();
        for (index, recording) in recordings.iter().enumerate() {
            let (earlier, later) = (&replayed[..index], &replayed[index + 1..]);
            finished.extend((0..replayed[index].len()).filter_map(|job| {
                let own = &replayed[index][job + 1..];
                let others = later.iter().flatten().chain(own);
                let mut learner = taught_by(others.chain(earlier.iter().flatten()));
                learner.replay(recording, |_| true).into_iter().nth(job)
            }));
        }
        Self::of(finished)
    }

    fn without_family(recordings: &[Recording]) -> Self {
        let replayed = replay_all(recordings);
        let finished = recordings
            .iter()
            .enumerate()
            .flat_map(|(index, recording)| {
                let order = (index + 1..recordings.len()).chain(0..index);
                let family_of = |index: usize| family(&recordings[index].meta.scenario);
                let is_other =
                    |other: &usize| family_of(*other) != family(&recording.meta.scenario);
                let others = order.filter(is_other).flat_map(|other| &replayed[other]);
                taught_by(others).replay(recording, |_| false)
            });
        Self::of(finished)
    }

    /// Scores the jobs whose workflow has run before on the same server, from these runs and what else
    /// is learned before them.
    pub fn of_known(recordings: &[Recording], prior_training: PriorTraining) -> Self {
        let replayed = replay_all(recordings);
        let mut recorded: BTreeMap<&WorkflowKey, BTreeSet<usize>> = BTreeMap::new();
        for (index, prompts) in replayed.iter().enumerate() {
            for prompt in prompts {
                recorded.entry(&prompt.workflow).or_default().insert(index);
            }
        }
        let mut finished = Vec::new();
        for (workflow, indices) in recorded {
            let is_same = |prompt: &FinishedPrompt| prompt.workflow == *workflow;
            let others = replayed.iter().flatten().filter(|other| !is_same(other));
            let mut learner =
                taught_by(others.filter(|_| prior_training == PriorTraining::OtherWorkflows));
            for index in indices {
                let own = learner.clone().replay(&recordings[index], is_same);
                finished.extend(own.into_iter().filter(is_same));
                let own = replayed[index].iter().filter(|prompt| is_same(prompt));
                own.for_each(|prompt| learner.learn(prompt));
            }
        }
        let mut known = Self::of(finished);
        known.jobs.retain(|job| job.is_known);
        known
    }

    fn of(finished: impl IntoIterator<Item = FinishedPrompt>) -> Self {
        let scored = finished.into_iter().filter_map(|one| one.scored);
        Self {
            jobs: scored.collect(),
        }
    }
}

/// The prompts of each recording, which have learned from nothing.
fn replay_all(recordings: &[Recording]) -> Vec<Vec<FinishedPrompt>> {
    let replayed = recordings.iter();
    let replayed = replayed.map(|one| Learner::default().replay(one, |_| false));
    replayed.collect()
}

fn taught_by<'a>(prompts: impl Iterator<Item = &'a FinishedPrompt>) -> Learner {
    let mut learner = Learner::default();
    prompts.for_each(|prompt| learner.learn(prompt));
    learner
}

#[cfg(test)]
mod tests;
