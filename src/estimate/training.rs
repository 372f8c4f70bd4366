//! The runs that the cost model learns from: of jobs that ended here, of the store, and of ComfyUI's
//! history.

use jiff::Timestamp;

use super::copies;
use super::forecast::Forecast;
use super::model::{CostModel, JobEvidence, ObservedRun};
use super::parallel;
use super::past_run::PastRun;
use super::prediction::{MatchLevel, Prediction};
use super::samples::Cost;
use crate::job::{Job, NodeRun, NodeState, Plan, PlannedNode, Role, Status};

/// The shortest job that calibrates the interval, in seconds: below it the delays of frames dominate.
const MIN_CALIBRATING_SECONDS: f64 = 0.3;

impl CostModel {
    /// Learns what the nodes of a job that ended have cost.
    pub fn learn(&mut self, job: &Job) {
        let (Some(backend), Some(_)) = (job.backend(), job.started_at()) else {
            return;
        };
        let parallel = parallel::runs(job).into_iter();
        let parallel = parallel.filter_map(|id| job.plan().node(id));
        self.add_parallel(backend, parallel.map(|node| &*node.class_type));
        self.learn_figures(job);
        let runs: Vec<PastRun<'_>> = self.runs(job).into_iter().map(|(_, run)| run).collect();
        let cached = job.plan().needed();
        let cached = cached.filter(|(id, _)| job.nodes().is_cached(id));
        let cached: Vec<&PlannedNode> = cached.map(|(_, node)| node).collect();
        if runs.is_empty() && cached.is_empty() {
            return;
        }
        // Loaders that the job did not reach have loaded nothing.
        let ran = runs.iter().map(|run| (run.class, run.signature));
        let cached = cached
            .iter()
            .map(|node| (&*node.class_type, &*node.signature));
        let loaded = loaders(ran.chain(cached));
        self.learn_sound_runs(backend, &runs, loaded, job.work_done_at());
    }

    /// Learns how far the figures of services were off.
    fn learn_figures(&mut self, job: &Job) {
        let runs = job.runs().into_iter();
        for run in runs.filter(|run| run.state == NodeState::Finished) {
            let timing = job
                .nodes()
                .timing(run.id)
                .filter(|timing| !timing.was_missed);
            let Some(end) = timing.and_then(|timing| timing.service_end) else {
                continue;
            };
            if let (Some(node), Some(ended_at)) = (job.plan().node(run.display), run.ended_at) {
                self.learn_figure(&node.class_type, end.first_whole, run.seconds(ended_at));
            }
        }
    }

    /// The runs that [`CostModel::learn`] learns from, with the ids of their nodes, in the order of
    /// their starts. Empty if the job has no backend, or if its work is not done.
    pub fn runs<'a>(&self, job: &'a Job) -> Vec<(&'a str, PastRun<'a>)> {
        let (Some(backend), Some(work_done_at)) = (job.backend(), job.work_done_at()) else {
            return Vec::new();
        };
        let parallel = parallel::runs(job);
        let copies = copies::typical(job);
        let is_finished = |run: &NodeRun<'_>| {
            run.state == NodeState::Finished
                && (job.status() == Status::Completed
                    || run.ended_at.is_some_and(|end| end < work_done_at))
        };
        let ran = job.runs().into_iter().filter(is_finished);
        let ran = ran.filter_map(|run| {
            let timing = job.nodes().timing(run.id)?;
            let copied = || job.plan().node(copies.get(run.id)?);
            let node = job.plan().node(run.id).or_else(copied)?;
            (!timing.was_missed).then_some((run, node, timing))
        });
        let runs = ran.map(|(ran, node, timing)| {
            let is_counted = !timing.is_percentage;
            let pace = timing.pace().filter(|_| is_counted);
            let run = PastRun {
                class: &node.class_type,
                signature: &node.signature,
                units: node.units,
                calls: Some(node.calls),
                models: node.models,
                steps: node.steps,
                // Of several copies, the first has waited for the models.
                is_cold: !copies.contains_key(ran.id)
                    && self.is_cold(backend, node, |id| job.nodes().is_cached(id)),
                is_cached: false,
                seconds: ran.seconds(work_done_at),
                tick: pace.map(|(ticks, seconds)| seconds / ticks),
                ticks: Some(timing.ticks()).filter(|ticks| is_counted && *ticks > 0.0),
                is_parallel: parallel.contains(ran.id),
            };
            (ran.id, run)
        });
        runs.collect()
    }

    /// Learns the stored runs of one job, in the order of their starts; the oldest job comes first. The
    /// model is then the same as after [`CostModel::learn`]. Runs with impossible numbers are left out.
    /// `ended_at` is about when the job ended, if that is known.
    pub fn learn_runs(&mut self, backend: &str, runs: &[PastRun<'_>], ended_at: Option<Timestamp>) {
        if runs.is_empty() {
            return;
        }
        let parallel = runs.iter().filter(|run| run.is_parallel);
        self.add_parallel(backend, parallel.map(|run| run.class));
        let loaded = loaders(runs.iter().map(|run| (run.class, run.signature)));
        let ran = runs.iter().filter(|run| !run.is_cached);
        let ran: Vec<PastRun<'_>> = ran.copied().collect();
        self.learn_sound_runs(backend, &ran, loaded, ended_at);
    }

    /// Learns a prompt of ComfyUI's history, of which only the duration is known: its seconds are
    /// divided among its nodes in proportion to their predictions. The oldest prompt comes first.
    pub fn learn_prompt(&mut self, backend: &str, plan: &Plan, cached: &[String], seconds: f64) {
        if !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        let is_cached = |id: &str| cached.iter().any(|cached| cached == id);
        let runs = |id: &str| !is_cached(id) && plan.copies(id) > 0.0;
        let ran: Vec<(&str, &PlannedNode)> = plan.needed().filter(|(id, _)| runs(id)).collect();
        let predicted = |(id, node): (&str, &PlannedNode)| {
            let is_cold = self.is_cold(backend, node, is_cached);
            let one = self.predict(backend, node, is_cold).seconds;
            (is_cold, one * plan.copies(id))
        };
        let predicted: Vec<(bool, f64)> = ran.iter().copied().map(predicted).collect();
        let whole: f64 = predicted.iter().map(|(_, part)| part).sum();
        if whole <= 0.0 {
            return;
        }
        let runs = ran
            .iter()
            .zip(predicted)
            .map(|((id, node), (is_cold, part))| {
                let cost = Cost {
                    seconds: part * seconds / whole / plan.copies(id),
                    tick: None,
                    ticks: None,
                };
                (*node, is_cold, cost)
            });
        let needed = plan.needed();
        let loaded = loaders(needed.map(|(_, node)| (&*node.class_type, &*node.signature)));
        self.update_from_guesses(backend, runs.collect(), loaded);
    }

    fn learn_sound_runs(
        &mut self,
        backend: &str,
        runs: &[PastRun<'_>],
        loaded: Vec<String>,
        ended_at: Option<Timestamp>,
    ) {
        let sound = runs.iter().filter(|run| run.is_sound());
        let seconds: Vec<f64> = sound.map(|run| run.seconds).collect();
        self.learn_message_cost(backend, &seconds);
        // What the messages about the others cost is not the node's own.
        let message_cost = self.message_cost(backend);
        let own = runs.iter().enumerate().map(|(before, run)| PastRun {
            seconds: message_cost.own_seconds(run.seconds, before),
            ..*run
        });
        let own: Vec<PastRun<'_>> = own.filter(PastRun::is_sound).collect();
        let observed = own.iter().map(|run| {
            let node = run.node();
            let prediction = self.predict(backend, &node, run.is_cold);
            ObservedRun {
                node,
                run,
                prediction,
            }
        });
        let observed: Vec<ObservedRun<'_>> = observed.collect();
        let job = JobEvidence {
            was_inside: self.was_inside(backend, &observed),
            runs: observed,
            loaded,
            ended_at,
        };
        self.update(backend, job);
    }

    /// Whether the nodes took a total within the interval that the model gives before they start;
    /// `None` unless all of them are known by their signatures.
    fn was_inside(&self, backend: &str, runs: &[ObservedRun<'_>]) -> Option<bool> {
        let seconds: f64 = runs.iter().map(|run| run.run.seconds).sum();
        let predictions = || runs.iter().map(|run| run.prediction);
        let is_known = |prediction: Prediction| prediction.match_level == MatchLevel::Signature;
        (seconds >= MIN_CALIBRATING_SECONDS && predictions().all(is_known)).then(|| {
            let (low, high) = Forecast::of_waiting(backend, predictions(), self).interval();
            let messages = self.message_cost(backend).of_waiting(runs.len(), 0);
            (low..=high).contains(&(seconds + messages))
        })
    }
}

/// The signatures of the loaders among nodes, which are given by class and signature.
fn loaders<'a>(nodes: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let loaders = nodes.filter(|(class, _)| Role::of(class) == Role::Loader);
    loaders.map(|(_, signature)| signature.to_owned()).collect()
}
