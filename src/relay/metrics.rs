//! What the relay counts, for operators.

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::estimate::{EstimateLog, Familiarity};
use crate::job::{Job, Status};

/// The upper bounds of the buckets for errors of a remaining time, as shares of the job's duration.
const SHARES: [f64; 12] = [
    0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0,
];

/// The upper bounds of the buckets for errors of the progress, in points of 100.
const POINTS: [f64; 9] = [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0];

/// The upper bounds of the buckets for the time that jobs wait, in seconds.
const WAITS: [f64; 10] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0,
];

/// The upper bounds of the buckets for the time that jobs run, in seconds: from a picture of few steps to a long video.
const DURATIONS: [f64; 12] = [
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0,
];

/// The labels of a job that has run: how it ended, and where.
type RunLabels = [(&'static str, String); 2];

/// The label of the status in which jobs ended.
type StatusLabel = [(&'static str, &'static str); 1];

/// The label of how the end of jobs was learned.
type SourceLabel = [(&'static str, &'static str); 1];

/// The label of how well the workflow was known.
type WorkflowLabel = [(&'static str, &'static str); 1];

/// The labels of a mark: the share of a job's true time in percent, and how well its workflow was known.
type MarkLabels = [(&'static str, String); 2];

/// The counters of one relay. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    published: Counter,
    ended: Family<StatusLabel, Counter>,
    ends_learned: Family<SourceLabel, Counter>,
    waits: Histogram,
    durations: Family<RunLabels, Histogram, fn() -> Histogram>,
    errors: Family<MarkLabels, Histogram, fn() -> Histogram>,
    progress_errors: Family<MarkLabels, Histogram, fn() -> Histogram>,
    missing: Family<MarkLabels, Counter>,
    intervals: Family<WorkflowLabel, Counter>,
    inside: Family<WorkflowLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            published: Counter::default(),
            ended: Family::default(),
            ends_learned: Family::default(),
            waits: Histogram::new(WAITS),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            errors: Family::new_with_constructor(|| Histogram::new(SHARES)),
            progress_errors: Family::new_with_constructor(|| Histogram::new(POINTS)),
            missing: Family::default(),
            intervals: Family::default(),
            inside: Family::default(),
        };
        // Start at zero: a rate cannot be computed from a counter that appears with its first event.
        for status in Status::ALL.into_iter().filter(|status| status.is_final()) {
            metrics.ended.get_or_create_owned(&ended(status));
        }
        metrics
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "jobs_ended",
            "Jobs that ended since the start",
            self.ended.clone(),
        );
        registry.register(
            "job_ends_learned",
            "Jobs that ended since the start, by how the relay learned of it",
            self.ends_learned.clone(),
        );
        registry.register(
            "states_published",
            "States of jobs that were published since the start, to however many subscribers",
            self.published.clone(),
        );
        registry.register(
            "job_wait_seconds",
            "How long jobs that have ended waited before they began to run",
            self.waits.clone(),
        );
        registry.register(
            "job_duration_seconds",
            "How long jobs that have ended ran",
            self.durations.clone(),
        );
        registry.register(
            "estimate_error_ratio",
            "Error of the remaining time published at a share of a completed job's true time, as a share of its duration",
            self.errors.clone(),
        );
        registry.register(
            "estimate_missing",
            "Moments of completed jobs at which no remaining time was published",
            self.missing.clone(),
        );
        registry.register(
            "estimate_intervals",
            "Moments of completed jobs at which an interval was published",
            self.intervals.clone(),
        );
        registry.register(
            "estimate_intervals_hit",
            "Of these, moments at which the interval contained the true end",
            self.inside.clone(),
        );
        registry.register(
            "progress_error_points",
            "Error of the progress published at a share of a completed job's true time, in points of 100",
            self.progress_errors.clone(),
        );
    }

    /// Counts a state that was published.
    pub(super) fn count_published(&self) {
        self.published.inc();
    }

    /// The share of the published intervals that contained the true end; `None` before there is one.
    pub(super) fn inside_share(&self) -> Option<f64> {
        let sum = |counters: &Family<WorkflowLabel, Counter>| -> u64 {
            let words = Familiarity::ALL.map(Familiarity::as_str);
            let labels = words.map(|word| [("workflow", word)]);
            let counted =
                labels.map(|label| counters.get(&label).map_or(0, |counter| counter.get()));
            counted.into_iter().sum()
        };
        let all = sum(&self.intervals);
        (all > 0).then(|| sum(&self.inside) as f64 / all as f64)
    }

    /// Measures how long a job that has ended has waited and run, if it has begun.
    fn time(&self, job: &Job) {
        let (Some(started_at), Some(ended_at)) = (job.started_at(), job.ended_at()) else {
            return;
        };
        // Of a prompt that is registered late, the start is before the registration.
        let seconds = |from, to: Timestamp| to.duration_since(from).as_secs_f64().max(0.0);
        self.waits.observe(seconds(job.created_at(), started_at));
        let labels = [
            ("status", job.status().as_str().to_owned()),
            ("backend", job.backend().unwrap_or_default().to_owned()),
        ];
        let durations = self.durations.get_or_create(&labels);
        durations.observe(seconds(started_at, ended_at));
    }

    /// Counts a job that has ended, and scores the estimates that were published while it ran.
    pub(super) fn count(&self, job: &Job, estimate_log: Option<&EstimateLog>) {
        self.ended.get_or_create(&ended(job.status())).inc();
        if let Some(source) = job.end_source() {
            let label = [("learned_from", source.as_str())];
            self.ends_learned.get_or_create(&label).inc();
        }
        self.time(job);
        let (Some(estimate_log), Some(started_at), Some(over_at)) =
            (estimate_log, job.started_at(), job.work_done_at())
        else {
            return;
        };
        if job.status() != Status::Completed {
            return;
        }
        let workflow = estimate_log.familiarity().as_str();
        for score in estimate_log.scores(started_at, over_at) {
            let mark = [
                ("at", score.mark.to_string()),
                ("workflow", workflow.to_owned()),
            ];
            let progress = self.progress_errors.get_or_create(&mark);
            progress.observe(score.progress_error);
            match score.error {
                Some(error) => self.errors.get_or_create(&mark).observe(error),
                None => {
                    self.missing.get_or_create(&mark).inc();
                }
            }
            if let Some(is_inside) = score.is_inside {
                let label = [("workflow", workflow)];
                self.intervals.get_or_create(&label).inc();
                let inside = self.inside.get_or_create(&label);
                inside.inc_by(u64::from(is_inside));
            }
        }
    }
}

fn ended(status: Status) -> StatusLabel {
    [("status", status.as_str())]
}
