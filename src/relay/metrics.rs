//! What the relay counts, for who looks after it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::estimate::{EstimateLog, Familiarity};
use crate::job::{Job, Status};

/// The upper bounds of the errors of a remaining time, as shares of the job's duration.
const SHARES: [f64; 12] = [
    0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0,
];

/// The upper bounds of the errors of progress, in points.
const POINTS: [f64; 9] = [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0];

/// The status of jobs that ended.
type StatusLabel = [(&'static str, &'static str); 1];

/// Whether the workflow was known.
type WorkflowLabel = [(&'static str, &'static str); 1];

/// The share of a job's true time in percent, and whether its workflow was known.
type MarkLabels = [(&'static str, String); 2];

/// The relay's own counters. Each relay has its own; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    ended: Family<StatusLabel, Counter>,
    errors: Family<MarkLabels, Histogram, fn() -> Histogram>,
    progress_errors: Family<MarkLabels, Histogram, fn() -> Histogram>,
    missing: Family<MarkLabels, Counter>,
    intervals: Family<WorkflowLabel, Counter>,
    inside: Family<WorkflowLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            ended: Family::default(),
            errors: Family::new_with_constructor(|| Histogram::new(SHARES)),
            progress_errors: Family::new_with_constructor(|| Histogram::new(POINTS)),
            missing: Family::default(),
            intervals: Family::default(),
            inside: Family::default(),
        };
        // What has not happened yet counts zero: a rate needs a value to rise from.
        for status in Status::ALL.into_iter().filter(|status| status.is_final()) {
            metrics.ended.get_or_create_owned(&ended(status));
        }
        metrics
    }
}

impl Metrics {
    /// Lists them in a registry, which is then encoded.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "jobs_ended",
            "Jobs that ended since the start",
            self.ended.clone(),
        );
        registry.register(
            "estimate_error_ratio",
            "Error of the remaining time told at a share of a completed job's true time, as a share of its duration",
            self.errors.clone(),
        );
        registry.register(
            "estimate_missing",
            "Moments of completed jobs at which no remaining time was told",
            self.missing.clone(),
        );
        registry.register(
            "estimate_intervals",
            "Moments of completed jobs at which an interval was told",
            self.intervals.clone(),
        );
        registry.register(
            "estimate_intervals_hit",
            "Those of which the interval held the true end",
            self.inside.clone(),
        );
        registry.register(
            "progress_error_points",
            "Error of the progress told at a share of a completed job's true time, in points of 100",
            self.progress_errors.clone(),
        );
    }

    /// Counts a job that has ended. `estimate_log` is what was said of it while it ran.
    pub(super) fn count(&self, job: &Job, estimate_log: Option<&EstimateLog>) {
        self.ended.get_or_create(&ended(job.status())).inc();
        let (Some(estimate_log), Some(started_at), Some(over_at)) =
            (estimate_log, job.started_at(), job.work_done_at())
        else {
            return;
        };
        if job.status() != Status::Completed {
            return;
        }
        let workflow = [("workflow", word(estimate_log.familiarity()))];
        for score in estimate_log.scores(started_at, over_at) {
            let moment = [
                ("at", score.mark.to_string()),
                ("workflow", word(estimate_log.familiarity()).to_owned()),
            ];
            let progress = self.progress_errors.get_or_create(&moment);
            progress.observe(score.progress_error);
            match score.error {
                Some(error) => self.errors.get_or_create(&moment).observe(error),
                None => {
                    self.missing.get_or_create(&moment).inc();
                }
            }
            if let Some(is_inside) = score.is_inside {
                self.intervals.get_or_create(&workflow).inc();
                let inside = self.inside.get_or_create(&workflow);
                inside.inc_by(u64::from(is_inside));
            }
        }
    }
}

fn ended(status: Status) -> StatusLabel {
    [("status", status.as_str())]
}

fn word(familiarity: Familiarity) -> &'static str {
    match familiarity {
        Familiarity::Known => "known",
        Familiarity::FirstTime => "first_time",
        Familiarity::NoGraph => "no_graph",
    }
}
