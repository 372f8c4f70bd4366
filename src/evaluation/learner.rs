use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::baseline::Algorithm;
use super::events::{Prompts, completion, events};
use super::kind::JobKind;
use super::score::{MOMENTS, ScoredJob, time_share};
use super::socket_view::SocketView;
use crate::estimate::{CostModel, Estimate, SpeedWeights};
use crate::job::{Event, History, Job, JobId, Outcome, Plan};
use crate::recording::{Meta, Recording};

/// The shortest job that is scored, in seconds: below it the delays of frames dominate, and nobody
/// waits.
const MIN_DURATION: f64 = 0.3;

/// The longest job that is scored, in seconds: a year. Longer ones are accidents of a clock, and so large that the
/// moments of a job cannot be distinguished.
const MAX_DURATION: f64 = 366.0 * 86_400.0;

/// A backend, and the sorted signatures of the nodes that run there.
pub(super) type WorkflowKey = (String, Vec<String>);

/// What has been learned from jobs that ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Learner {
    model: CostModel,
    /// The durations of each workflow so far, in seconds.
    durations: HashMap<WorkflowKey, Vec<f64>>,
}

/// A prompt that ended.
pub(super) struct FinishedPrompt {
    /// `None` if it did not complete, or if it was too short.
    pub(super) scored: Option<ScoredJob>,
    pub(super) workflow: WorkflowKey,
    job: Job,
    /// Seconds; `None` unless it completed with both its start and its end recorded.
    duration: Option<f64>,
}

/// A prompt that runs.
struct RunningPrompt {
    job: Job,
    /// The plan that the queue's answer will show, and the seconds of that answer.
    replan: Option<(f64, Plan)>,
    /// Seconds since the recording began.
    start: f64,
    /// `None` if it does not complete.
    end: Option<f64>,
    /// `None` if it is not to be scored.
    scored: Option<ScoredJob>,
    view: SocketView,
}

impl Learner {
    /// One that has learned nothing, with other weights than those in use.
    pub(super) fn with_weights(weights: SpeedWeights) -> Self {
        Self {
            model: CostModel::with_weights(weights),
            durations: HashMap::new(),
        }
    }

    /// Replays a recording, scores its prompts, and returns them in the order of their ends. Each
    /// prompt that `teaches` teaches those after it.
    pub(super) fn replay(
        &mut self,
        recording: &Recording,
        teaches: impl Fn(&FinishedPrompt) -> bool,
    ) -> Vec<FinishedPrompt> {
        let mut finished = Vec::new();
        let mut submitted = Prompts::of(recording);
        let mut events = events(recording).into_iter();
        let mut prompts: HashMap<String, RunningPrompt> = HashMap::new();
        let mut running: Option<String> = None;
        while let Some((t, prompt_id, event)) = events.next() {
            // All of them: a prompt may start before the one before it has ended.
            for prompt in prompts.values_mut() {
                self.ask(prompt, t);
            }
            let Some(id) = prompt_id.or_else(|| running.clone()) else {
                continue;
            };
            if event == Event::Started && !prompts.contains_key(&id) {
                let end = completion(&id, events.as_slice());
                let plans = submitted.start(&id);
                let plans = plans.map(|prompt| submitted.plans(&prompt, t));
                let prompt = plans.and_then(|plans| Self::start(recording, &id, plans, t, end));
                prompts.extend(prompt.map(|prompt| (id.clone(), prompt)));
                running = Some(id.clone());
            }
            let Some(prompt) = prompts.get_mut(&id) else {
                continue;
            };
            let outcome = match &event {
                Event::Ended(outcome) => Some(outcome.clone()),
                _ => None,
            };
            if prompt.job.apply(event, at(t)) {
                prompt.view.changed(t);
            }
            if let Some(outcome) = outcome
                && let Some(prompt) = prompts.remove(&id)
            {
                let prompt = self.finish(prompt, &recording.meta, outcome, t);
                if teaches(&prompt) {
                    self.learn(&prompt);
                }
                finished.push(prompt);
            }
        }
        finished
    }

    /// A prompt that starts at `start` and completes at `end`, both in seconds of the recording.
    fn start(
        recording: &Recording,
        id: &str,
        (plan, replan): (Plan, Option<(f64, Plan)>),
        start: f64,
        end: Option<f64>,
    ) -> Option<RunningPrompt> {
        let meta = &recording.meta;
        let scored = end
            .filter(|end| (MIN_DURATION..MAX_DURATION).contains(&(end - start)))
            .map(|end| ScoredJob {
                version: meta.comfyui_version.clone(),
                scenario: meta.scenario.clone(),
                kind: JobKind::Other,
                is_known: false,
                duration: end - start,
                answers: Vec::with_capacity(MOMENTS),
            });
        let mut job =
            Job::new(JobId::parse("scored").ok()?, at(start)).on_backend(&backend(meta), id);
        job.apply(Event::Planned(plan), at(start));
        let mut view = SocketView::default();
        view.changed(start);
        Some(RunningPrompt {
            job,
            replan,
            start,
            end,
            scored,
            view,
        })
    }

    /// Asks every algorithm at each moment up to `until`, and sends what subscribers get up to then.
    fn ask(&self, prompt: &mut RunningPrompt, until: f64) {
        if let Some((t, plan)) = prompt.replan.take_if(|(t, _)| *t <= until) {
            self.ask(prompt, t);
            prompt.job.apply(Event::Planned(plan), at(t));
            prompt.view.changed(t);
        }
        let Some(scored) = &mut prompt.scored else {
            return;
        };
        let mean = self.durations.get(&workflow(&prompt.job));
        let mean = mean.map(|durations| durations.iter().sum::<f64>() / durations.len() as f64);
        let job = &mut prompt.job;
        loop {
            let elapsed = time_share(scored.answers.len()) * scored.duration;
            let now = prompt.start + elapsed;
            if let Some(due) = prompt.view.take_due(now.min(until)) {
                let estimate = Estimate::of(job, &self.model, at(due));
                prompt.view.send(estimate, due);
                continue;
            }
            if now > until || scored.answers.len() == MOMENTS {
                return;
            }
            let seen = prompt.view.answer();
            let ask = |algorithm: Algorithm| {
                algorithm.answer(job, &self.model, at(now), elapsed, seen, mean)
            };
            scored.answers.push(Algorithm::ALL.map(ask).to_vec());
        }
    }

    fn finish(
        &self,
        mut prompt: RunningPrompt,
        meta: &Meta,
        outcome: Outcome,
        t: f64,
    ) -> FinishedPrompt {
        let end = prompt.end.filter(|_| outcome == Outcome::Completed);
        let history = History {
            messages: Some(outcome),
            ..History::default()
        };
        prompt.job.apply(Event::History(history), at(t));
        let workflow = workflow(&prompt.job);
        let is_known = self.durations.contains_key(&workflow);
        let kind = JobKind::of(&prompt.job, meta);
        let scored = prompt.scored.filter(|_| end.is_some());
        FinishedPrompt {
            scored: scored.map(|scored| ScoredJob {
                kind,
                is_known,
                ..scored
            }),
            workflow,
            job: prompt.job,
            duration: end.map(|end| end - prompt.start),
        }
    }

    /// Learns from a prompt that ended.
    pub(super) fn learn(&mut self, finished: &FinishedPrompt) {
        self.model.learn(&finished.job);
        if let Some(duration) = finished.duration {
            let durations = self.durations.entry(finished.workflow.clone());
            durations.or_default().push(duration);
        }
    }
}

/// The nodes that a job runs, by what their cost depends on.
fn workflow(job: &Job) -> WorkflowKey {
    let needed = job.plan().needed();
    let mut signatures: Vec<String> = needed.map(|(_, node)| node.signature.clone()).collect();
    signatures.sort_unstable();
    (job.backend().unwrap_or_default().to_owned(), signatures)
}

/// The backend's name for the cost model. One machine made all the recordings of an evaluation, with
/// one server for each version.
fn backend(meta: &Meta) -> String {
    format!("recorded/{}", meta.comfyui_version)
}

fn at(t: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(t.clamp(0.0, 1e9))
}
