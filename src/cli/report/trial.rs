//! Recordings, replayed by the clock of their frames.

use std::collections::HashMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::baseline::{Algorithm, Answer};
use super::tape::{self, Graphs};
use crate::estimate::CostModel;
use crate::job::{Event, History, Job, JobId, Outcome, Plan};
use crate::recording::{Meta, Recording};

/// At how many moments of a job, evenly spread over its time, each algorithm is asked.
pub(super) const MOMENTS: usize = 100;

/// The shortest job that is scored, in seconds: below it frames measure their own delays, and nobody
/// waits.
const SHORTEST: f64 = 0.3;

/// A backend, and the signatures of the nodes that run there.
type Workflow = (String, Vec<String>);

/// Everything that was scored.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) jobs: Vec<Scored>,
}

/// What jobs that are over have told.
#[derive(Debug, Default)]
struct Learned {
    model: CostModel,
    /// The durations of each workflow so far, by backend.
    durations: HashMap<Workflow, Vec<f64>>,
}

/// One job, and what each algorithm answered.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) version: String,
    pub(super) scenario: String,
    /// What was learned has the same workflow, completed on the same backend.
    pub(super) is_known: bool,
    /// Seconds from its start to its end.
    pub(super) duration: f64,
    /// In the order of [`Algorithm::ALL`], for each moment.
    pub(super) answers: Vec<Vec<Answer>>,
}

/// A prompt of a recording.
struct Prompt {
    job: Job,
    workflow: Workflow,
    start: f64,
    /// `None` where it is not to be scored.
    end: Option<f64>,
    scored: Option<Scored>,
}

/// What nothing is learned of when a job is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LeftOut {
    /// The whole recording: not even its first job tells of its second one
    Recording,
    /// The job alone
    Job,
}

/// A prompt that is over.
struct Finished {
    scored: Option<Scored>,
    job: Job,
    workflow: Workflow,
    /// Seconds, where it completed and both its start and its end were heard.
    duration: Option<f64>,
}

impl Trial {
    /// Learns as it goes: what is scored is estimated from all that was before it.
    pub(super) fn in_order(recordings: &[Recording]) -> Self {
        let mut learned = Learned::default();
        Self::of(recordings.iter().flat_map(|one| learned.replay(one, true)))
    }

    /// Scores each recording, or each job, by what all the others tell, and by nothing of its own.
    ///
    /// What came later is learned first, then what came earlier: so the newest that is known, of the
    /// machine's speed above all, is what was just before, as in life.
    pub(super) fn leave_one_out(what: LeftOut, recordings: &[Recording]) -> Self {
        let replayed = recordings
            .iter()
            .map(|one| Learned::default().replay(one, false));
        let replayed: Vec<Vec<Finished>> = replayed.collect();
        let mut finished = Vec::new();
        for (index, recording) in recordings.iter().enumerate() {
            let (earlier, later) = (&replayed[..index], &replayed[index + 1..]);
            let learned = |own: &[Finished]| {
                let mut learned = Learned::default();
                let others = later.iter().flatten().chain(own);
                others
                    .chain(earlier.iter().flatten())
                    .for_each(|other| learned.learn(other));
                learned
            };
            match what {
                LeftOut::Recording => finished.extend(learned(&[]).replay(recording, false)),
                LeftOut::Job => finished.extend((0..replayed[index].len()).filter_map(|job| {
                    let mut learned = learned(&replayed[index][job + 1..]);
                    learned.replay(recording, true).into_iter().nth(job)
                })),
            }
        }
        Self::of(finished)
    }

    fn of(finished: impl IntoIterator<Item = Finished>) -> Self {
        let scored = finished.into_iter().filter_map(|one| one.scored);
        Self {
            jobs: scored.collect(),
        }
    }
}

impl Learned {
    /// Scores the jobs of a recording. They come in the order of their ends.
    fn replay(&mut self, recording: &Recording, learns: bool) -> Vec<Finished> {
        let mut all_finished = Vec::new();
        let mut graphs = Graphs::of(recording);
        let mut heard = tape::heard(recording).into_iter();
        let mut prompts: HashMap<String, Prompt> = HashMap::new();
        let mut running: Option<String> = None;
        while let Some((t, prompt_id, event)) = heard.next() {
            // Also of those that do not run: one may start before the last one has ended.
            for prompt in prompts.values_mut() {
                self.ask(prompt, t);
            }
            let Some(id) = prompt_id.or_else(|| running.clone()) else {
                continue;
            };
            if event == Event::Started && !prompts.contains_key(&id) {
                let end = tape::completion(&id, heard.as_slice());
                let graph = graphs.start(&id);
                let prompt = graph.and_then(|graph| self.prompt(recording, &id, graph, t, end));
                prompts.extend(prompt.map(|prompt| (id.clone(), prompt)));
                running = Some(id.clone());
            }
            let Some(prompt) = prompts.get_mut(&id) else {
                continue;
            };
            let over = match &event {
                Event::Ended(verdict) => Some(verdict.clone()),
                _ => None,
            };
            prompt.job.apply(event, at(t));
            if let Some(verdict) = over
                && let Some(prompt) = prompts.remove(&id)
            {
                let finished = prompt.close(verdict, t);
                if learns {
                    self.learn(&finished);
                }
                all_finished.push(finished);
            }
        }
        all_finished
    }

    fn prompt(
        &self,
        recording: &Recording,
        id: &str,
        graph: &Value,
        start: f64,
        end: Option<f64>,
    ) -> Option<Prompt> {
        let meta = &recording.meta;
        let plan = graph
            .as_object()
            .map(|graph| Plan::from_graph(graph, None))
            .unwrap_or_default();
        let mut signatures: Vec<String> = plan
            .needed()
            .map(|(_, node)| node.signature.clone())
            .collect();
        signatures.sort_unstable();
        let workflow = (backend(meta), signatures);
        let scored = end.filter(|end| end - start >= SHORTEST).map(|end| Scored {
            version: meta.comfyui_version.clone(),
            scenario: meta.scenario.clone(),
            is_known: self.durations.contains_key(&workflow),
            duration: end - start,
            answers: Vec::with_capacity(MOMENTS),
        });
        let mut job =
            Job::new(JobId::parse("scored").ok()?, at(start)).on_backend(&backend(meta), id);
        job.apply(Event::Planned(plan), at(start));
        Some(Prompt {
            job,
            workflow,
            start,
            end,
            scored,
        })
    }

    /// Asks every algorithm at each moment before `until`.
    fn ask(&self, prompt: &mut Prompt, until: f64) {
        let Some(scored) = &mut prompt.scored else {
            return;
        };
        let mean = self.durations.get(&prompt.workflow);
        let mean = mean.map(|durations| durations.iter().sum::<f64>() / durations.len() as f64);
        while scored.answers.len() < MOMENTS {
            let elapsed = moment(scored.answers.len()) * scored.duration;
            let now = prompt.start + elapsed;
            if now > until {
                break;
            }
            let job = &mut prompt.job;
            let ask =
                |algorithm: Algorithm| algorithm.answer(job, &self.model, at(now), elapsed, mean);
            let answers = Algorithm::ALL.map(ask);
            scored.answers.push(answers.to_vec());
        }
    }

    fn learn(&mut self, finished: &Finished) {
        self.model.learn(&finished.job);
        if let Some(duration) = finished.duration {
            let durations = self.durations.entry(finished.workflow.clone());
            durations.or_default().push(duration);
        }
    }
}

impl Prompt {
    fn close(mut self, verdict: Outcome, t: f64) -> Finished {
        let end = self.end.filter(|_| verdict == Outcome::Completed);
        let history = History {
            messages: Some(verdict),
            ..History::default()
        };
        self.job.apply(Event::History(history), at(t));
        Finished {
            scored: self.scored.filter(|_| end.is_some()),
            job: self.job,
            workflow: self.workflow,
            duration: end.map(|end| end - self.start),
        }
    }
}

impl Scored {
    /// How far an algorithm's remaining time was off at a moment, as a share of the job's duration.
    /// Who says nothing says that nothing remains.
    pub(super) fn error(&self, algorithm: usize, moment: usize) -> f64 {
        let answer = &self.answers[moment][algorithm];
        (answer.remaining.unwrap_or(0.0) - self.remaining(moment)).abs() / self.duration
    }

    /// The true seconds that were left.
    pub(super) fn remaining(&self, index: usize) -> f64 {
        self.duration * (1.0 - moment(index))
    }

    pub(super) fn mean_error(&self, algorithm: usize) -> f64 {
        let errors = (0..MOMENTS).map(|moment| self.error(algorithm, moment));
        errors.sum::<f64>() / MOMENTS as f64
    }
}

impl fmt::Display for Scored {
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

/// What the cost model knows a recorded server by. One machine made all the recordings of a report, with
/// a server for each version.
fn backend(meta: &Meta) -> String {
    format!("recorded/{}", meta.comfyui_version)
}

/// The true share of time at a moment.
pub(super) fn moment(index: usize) -> f64 {
    (index as f64 + 0.5) / MOMENTS as f64
}

fn at(t: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(t.clamp(0.0, 1e9))
}
