//! What other clients of ComfyUI show, and the relay's own estimate beside it.

use jiff::Timestamp;

use crate::estimate::{CostModel, Estimate};
use crate::job::{Job, Nodes, PlannedNode, Role};

/// What an algorithm answers at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    /// The share that is done, 0 to 1.
    pub(super) progress: f64,
    /// Seconds; `None` where it says nothing.
    pub(super) remaining: Option<f64>,
    /// The interval that the end is expected in.
    pub(super) interval: Option<(f64, f64)>,
}

/// A way to tell how far a job is. The first is the relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ours,
    Constant,
    NodesDone,
    BarOfNode,
    CachedAndExecuted,
    DoneAndCurrent,
    NodesAndSamples,
    ClassWeights,
    MeanDuration,
}

impl Algorithm {
    pub(super) const ALL: [Self; 9] = [
        Self::Ours,
        Self::Constant,
        Self::NodesDone,
        Self::BarOfNode,
        Self::CachedAndExecuted,
        Self::DoneAndCurrent,
        Self::NodesAndSamples,
        Self::ClassWeights,
        Self::MeanDuration,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "comfy-relay",
            Self::Constant => "50 %, 30 s",
            Self::NodesDone => "nodes done",
            Self::BarOfNode => "bar of node",
            Self::CachedAndExecuted => "cached + executed",
            Self::DoneAndCurrent => "(done + bar)/(N + 1)",
            Self::NodesAndSamples => "0.2 nodes + 0.8 steps",
            Self::ClassWeights => "class weights",
            Self::MeanDuration => "mean duration",
        }
    }

    /// The answer for a job at a moment, `elapsed` seconds after its start. `mean` is the mean duration
    /// of the same workflow so far.
    pub(super) fn answer(
        self,
        job: &mut Job,
        model: &CostModel,
        now: Timestamp,
        elapsed: f64,
        mean: Option<f64>,
    ) -> Answer {
        let (nodes, plan) = (job.nodes(), job.plan());
        let counts = nodes.counts(plan);
        let (done, cached, total) = (
            counts.done as f64,
            counts.cached as f64,
            counts.total as f64,
        );
        let bar = nodes
            .current()
            .and_then(|node| node.bar)
            .map_or(0.0, |bar| bar.share());
        let to_run = || plan.needed().filter(|(id, _)| !nodes.is_cached(id));
        match self {
            Self::Ours => {
                let estimate = Estimate::of(job, model, now);
                let shown = job.publish(estimate.fraction, estimate.outlook(), now);
                Answer {
                    progress: f64::from(shown.progress) / 100.0,
                    remaining: estimate.remaining,
                    interval: estimate.low.zip(estimate.high),
                }
            }
            Self::Constant => Answer {
                progress: 0.5,
                remaining: Some(30.0),
                interval: None,
            },
            Self::NodesDone => projected(share(done, total - cached), elapsed),
            Self::BarOfNode => projected(bar, elapsed),
            Self::CachedAndExecuted => projected(share(done + cached, total), elapsed),
            Self::DoneAndCurrent => projected(share(done + bar, total - cached + 1.0), elapsed),
            Self::NodesAndSamples => {
                let steps = |node: &PlannedNode| f64::from(node.steps.unwrap_or(0));
                let all: f64 = to_run().map(|(_, node)| steps(node)).sum();
                let sampled: f64 = to_run()
                    .map(|(id, node)| nodes.effort(id).map_or(0.0, |e| e.ticks().min(steps(node))))
                    .sum();
                projected(
                    0.2 * share(done, total - cached) + 0.8 * share(sampled, all),
                    elapsed,
                )
            }
            Self::ClassWeights => {
                let all: f64 = to_run().map(|(_, node)| weight(node)).sum();
                let over: f64 = to_run()
                    .map(|(id, node)| weight(node) * over(nodes, id))
                    .sum();
                projected(share(over, all), elapsed)
            }
            Self::MeanDuration => Answer {
                progress: mean
                    .filter(|mean| *mean > 0.0)
                    .map_or(0.0, |mean| (elapsed / mean).min(1.0)),
                remaining: mean.map(|mean| (mean - elapsed).max(0.0)),
                interval: None,
            },
        }
    }
}

/// What tqdm does: the time so far, projected over the share that is done.
fn projected(progress: f64, elapsed: f64) -> Answer {
    Answer {
        progress,
        remaining: (progress > 0.0).then(|| elapsed / progress - elapsed),
        interval: None,
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

fn weight(node: &PlannedNode) -> f64 {
    match node.role {
        Role::Sampler => 30.0,
        Role::Upscale => 10.0,
        Role::Vae | Role::Loader => 3.0,
        Role::Text | Role::Save | Role::Other => 1.0,
    }
}

/// How far a node is by its bar.
fn over(nodes: &Nodes, id: &str) -> f64 {
    let Some(effort) = nodes.effort(id) else {
        return 0.0;
    };
    match effort.ended_at {
        Some(_) => 1.0,
        None => share(effort.ticks(), effort.expected_ticks()),
    }
}
