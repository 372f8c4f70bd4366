//! When a job will end. Pure: the caller names the moment.

use jiff::Timestamp;

use crate::job::{Job, Status};

/// The share below which a projection of the time so far is too wild to be shown.
const MIN_SHARE: f64 = 0.05;

/// The seconds of running below which it is too wild as well.
const MIN_ELAPSED: f64 = 1.0;

/// How far a job is, and how long it will take still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The share of the work that is done, 0 to 1.
    pub fraction: f64,
    /// Seconds until the job ends; `None` while there is no evidence.
    pub remaining: Option<f64>,
}

impl Estimate {
    /// The estimate for a job at a moment: its time so far, projected over the share done.
    pub fn of(job: &Job, now: Timestamp) -> Self {
        if job.status().is_final() {
            let fraction = f64::from(u8::from(job.status() == Status::Completed));
            return Self {
                fraction,
                remaining: Some(0.0),
            };
        }
        if let Some((report, at)) = job.report() {
            let since = now.duration_since(at).as_secs_f64();
            return Self {
                fraction: f64::from(report.progress) / 100.0,
                remaining: report
                    .estimated_remaining
                    .map(|seconds| (seconds as f64 - since).max(0.0)),
            };
        }
        let fraction = job.nodes().share(job.plan());
        let remaining = job
            .elapsed(now)
            .filter(|&elapsed| elapsed >= MIN_ELAPSED && fraction >= MIN_SHARE)
            .map(|elapsed| elapsed * (1.0 - fraction) / fraction);
        Self {
            fraction,
            remaining,
        }
    }
}
