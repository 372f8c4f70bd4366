use jiff::Timestamp;

use crate::estimate::{CostModel, Estimate};
use crate::job::{Job, Nodes, Plan, PlannedNode, Role};

/// What an algorithm answers at one moment of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The share that is done, 0 to 1.
    pub progress: f64,
    /// Seconds until the end; `None` if the algorithm gives no answer.
    pub remaining: Option<f64>,
    /// The 10th and the 90th percentile of the remaining time, in seconds.
    pub interval: Option<(f64, f64)>,
}

/// A method to estimate progress and remaining time: the relay's own, then those of other ComfyUI
/// clients.
///
/// All but the relay's own, [`Algorithm::Constant`] and [`Algorithm::MeanDuration`] estimate a share `p` of the work, and project the elapsed time over it, as `tqdm` does: `elapsed · (1 − p)/p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The relay's estimate.
    Ours,
    /// The relay's estimate as a subscriber sees it: whole seconds, at most ten messages a second.
    AtSocket,
    /// Always 50 % and 30 s.
    Constant,
    /// The finished nodes over all that are not cached.
    NodesDone,
    /// The bar of the node that runs.
    BarOfNode,
    /// The cached and the finished nodes over all.
    CachedAndExecuted,
    /// The finished nodes and the bar of the one that runs, over one more than all.
    DoneAndCurrent,
    /// One fifth finished nodes, four fifths sampling steps.
    NodesAndSamples,
    /// Nodes with a fixed weight for each role.
    ClassWeights,
    /// The mean duration of the same workflow so far.
    MeanDuration,
}

/// The inputs of the baselines: what the nodes of a job show.
struct View<'a> {
    nodes: &'a Nodes,
    plan: &'a Plan,
    done: f64,
    cached: f64,
    total: f64,
    /// The share of the bar of the node that runs, 0 to 1.
    bar: f64,
}

impl Algorithm {
    /// All of them, the relay's first.
    pub const ALL: [Self; 10] = [
        Self::Ours,
        Self::AtSocket,
        Self::Constant,
        Self::NodesDone,
        Self::BarOfNode,
        Self::CachedAndExecuted,
        Self::DoneAndCurrent,
        Self::NodesAndSamples,
        Self::ClassWeights,
        Self::MeanDuration,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "comfy-relay",
            Self::AtSocket => "comfy-relay, on socket",
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

    /// Whether it is the relay's own.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::AtSocket)
    }

    /// The answer for a job at `now`, `elapsed` seconds after its start. `seen` is what a subscriber
    /// sees; `mean` is the mean duration of the same workflow so far, in seconds.
    pub(super) fn answer(
        self,
        job: &mut Job,
        model: &CostModel,
        now: Timestamp,
        elapsed: f64,
        seen: Answer,
        mean: Option<f64>,
    ) -> Answer {
        match self {
            Self::Ours => relay_answer(job, model, now),
            Self::AtSocket => seen,
            Self::Constant => Answer {
                progress: 0.5,
                remaining: Some(30.0),
                interval: None,
            },
            Self::MeanDuration => Answer {
                progress: mean
                    .filter(|mean| *mean > 0.0)
                    .map_or(0.0, |mean| (elapsed / mean).min(1.0)),
                remaining: mean.map(|mean| (mean - elapsed).max(0.0)),
                interval: None,
            },
            _ => projected(self.share_done(&View::of(job)), elapsed),
        }
    }

    /// The share of the work that is done, 0 to 1.
    fn share_done(self, view: &View<'_>) -> f64 {
        let View {
            done,
            cached,
            total,
            bar,
            ..
        } = *view;
        match self {
            Self::NodesDone => share(done, total - cached),
            Self::BarOfNode => bar,
            Self::CachedAndExecuted => share(done + cached, total),
            Self::DoneAndCurrent => share(done + bar, total - cached + 1.0),
            Self::NodesAndSamples => {
                0.2 * share(done, total - cached) + 0.8 * view.share_of_steps()
            }
            Self::ClassWeights => view.share_of_weights(),
            Self::Ours | Self::AtSocket | Self::Constant | Self::MeanDuration => 0.0,
        }
    }
}

impl<'a> View<'a> {
    fn of(job: &'a Job) -> Self {
        let (nodes, plan) = (job.nodes(), job.plan());
        let counts = nodes.counts(plan);
        let bar = nodes.current().and_then(|node| node.bar);
        Self {
            nodes,
            plan,
            done: counts.done as f64,
            cached: counts.cached as f64,
            total: counts.total as f64,
            bar: bar.map_or(0.0, |bar| bar.share()),
        }
    }

    fn share_of_steps(&self) -> f64 {
        let steps = |node: &PlannedNode| f64::from(node.steps.unwrap_or(0));
        let all: f64 = self.to_run().map(|(_, node)| steps(node)).sum();
        let sampled = self.to_run().map(|(id, node)| {
            let timing = self.nodes.timing(id);
            timing.map_or(0.0, |timing| timing.ticks().min(steps(node)))
        });
        share(sampled.sum(), all)
    }

    fn share_of_weights(&self) -> f64 {
        let all: f64 = self.to_run().map(|(_, node)| weight(node)).sum();
        let done = self.to_run();
        let done: f64 = done.map(|(id, node)| weight(node) * self.done(id)).sum();
        share(done, all)
    }

    /// The needed nodes that are not cached.
    fn to_run(&self) -> impl Iterator<Item = (&'a str, &'a PlannedNode)> {
        let nodes = self.nodes;
        self.plan.needed().filter(|(id, _)| !nodes.is_cached(id))
    }

    /// The share of a node that is done by its bar, 0 to 1.
    fn done(&self, id: &str) -> f64 {
        let Some(timing) = self.nodes.timing(id) else {
            return 0.0;
        };
        match timing.ended_at {
            Some(_) => 1.0,
            None => share(timing.ticks(), timing.expected_ticks()),
        }
    }
}

fn relay_answer(job: &mut Job, model: &CostModel, now: Timestamp) -> Answer {
    let estimate = Estimate::of(job, model, now);
    let published = job.publish(estimate.fraction, estimate.remaining_time(), now);
    Answer {
        progress: f64::from(published.progress) / 100.0,
        remaining: estimate.remaining,
        interval: estimate.low.zip(estimate.high),
    }
}

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
