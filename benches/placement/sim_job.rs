//! [`SimJob`]: the jobs of a run, by a seed.

use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::workflow::Workflow;

/// The jobs of a run.
const JOBS: usize = 300;

/// The standard deviation of the logarithm of a job's duration around that of its workflow.
const DEVIATION: f64 = 0.05;

/// How fast the servers are.
pub(crate) const SPEEDS: [f64; 3] = [1.0, 2.0, 4.0];

/// Over which share of the least possible time for all jobs they arrive.
const ARRIVAL_SHARE: f64 = 0.8;

/// When the jobs arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    AtOnce,
    OverTime,
}

impl Arrivals {
    pub(crate) const ALL: [Self; 2] = [Self::AtOnce, Self::OverTime];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "all at once",
            Self::OverTime => "over time",
        }
    }
}

/// A job of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimJob {
    /// The index of its workflow.
    pub(crate) workflow: usize,
    /// Seconds since the run began.
    pub(crate) arrives: f64,
    /// How many times as long as usual it takes.
    pub(crate) factor: f64,
}

impl SimJob {
    /// The jobs of a seed, in the order of their arrivals.
    pub(crate) fn all(seed: u64, arrivals: Arrivals, workflows: &[Workflow]) -> Vec<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut jobs: Vec<Self> = (0..JOBS)
            .map(|_| Self {
                workflow: random.random_range(0..workflows.len()),
                arrives: 0.0,
                factor: (DEVIATION * normal(&mut random)).exp(),
            })
            .collect();
        if arrivals == Arrivals::OverTime {
            let seconds = |job: &Self| job.seconds(workflows, true);
            let whole: f64 = jobs.iter().map(seconds).sum();
            let mean = ARRIVAL_SHARE * whole / SPEEDS.iter().sum::<f64>() / JOBS as f64;
            let mut now = 0.0;
            for job in &mut jobs {
                job.arrives = now;
                // Exponential times between arrivals.
                now -= mean * (1.0 - random.random::<f64>()).ln();
            }
        }
        jobs
    }

    /// How long it runs on the slowest server.
    pub(crate) fn seconds(&self, workflows: &[Workflow], is_warm: bool) -> f64 {
        self.factor * workflows[self.workflow].true_seconds(is_warm)
    }
}

/// A number with the standard normal distribution (Box and Muller).
fn normal(random: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (TAU * random.random::<f64>()).cos()
}
