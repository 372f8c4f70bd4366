use jiff::Timestamp;

use super::Estimate;
use super::model::CostModel;
use super::start::{Familiarity, StartForecast};
use crate::job::Job;

/// How many estimates of a job are kept. They are then at most 1/128 of the elapsed time apart.
const MAX_POINTS: usize = 256;

/// The shares of a job's true duration at which its estimates are scored, in percent.
pub const MARKS: [u8; 5] = [10, 25, 50, 75, 90];

/// The estimates of one job while it ran, to be scored when it has ended. It is thinned out: its memory
/// is bounded, however long the job runs.
#[derive(Debug, Clone, Default)]
pub struct EstimateLog {
    start: Option<StartForecast>,
    points: Vec<Point>,
    /// The least time between two points, in seconds.
    gap: f64,
}

/// The estimate at one time.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Timestamp,
    estimate: Estimate,
    /// 0 to 100.
    progress: u8,
}

/// How accurate the estimate was at one of the [`MARKS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The mark, in percent of the job's true duration.
    pub mark: u8,
    /// The absolute error of the remaining time, as a share of the job's duration; `None` if there was
    /// no estimate.
    pub error: Option<f64>,
    /// Whether the job ended inside the interval; `None` if there was none.
    pub is_inside: Option<bool>,
    /// The absolute difference of progress and the true share of time, in points.
    pub progress_error: f64,
}

impl EstimateLog {
    /// Whether the predictions of the job's start are still to be made, or to be made again because more
    /// is known of it.
    pub fn awaits_start(&self, job: &Job) -> bool {
        let start = self.start.as_ref();
        start.is_none_or(|start| start.is_outdated(job))
    }

    /// Records what the model predicts of a job that begins.
    pub fn begin(&mut self, job: &Job, model: &CostModel, now: Timestamp) {
        self.start = Some(StartForecast::of(job, model, now));
    }

    /// What was predicted when the job began.
    pub fn start(&self) -> Option<&StartForecast> {
        self.start.as_ref()
    }

    /// Forgets the estimates, once they are scored. What was predicted at the start stays.
    pub fn forget_estimates(&mut self) {
        self.points = Vec::new();
    }

    /// Whether the workflow was known when the job began.
    pub fn familiarity(&self) -> Familiarity {
        let start = self.start.as_ref();
        start.map_or(Familiarity::NoGraph, StartForecast::familiarity)
    }

    /// Records a published estimate, with the progress from 0 to 100.
    pub fn record(&mut self, estimate: Estimate, progress: u8, at: Timestamp) {
        if let Some(last) = self.points.last()
            && at.duration_since(last.at).as_secs_f64() < self.gap
        {
            return;
        }
        let point = Point {
            at,
            estimate,
            progress,
        };
        // Of several estimates at the same time, the last one counts.
        if let Some(last) = self.points.last_mut().filter(|last| last.at == at) {
            *last = point;
            return;
        }
        if self.points.len() >= MAX_POINTS {
            self.thin_out(at);
        }
        self.points.push(point);
    }

    /// Doubles the gap, and removes the points that are closer together than that.
    fn thin_out(&mut self, now: Timestamp) {
        let span = now.duration_since(self.points[0].at).as_secs_f64();
        self.gap = span / (MAX_POINTS / 2) as f64;
        let gap = self.gap;
        let mut last_kept: Option<Timestamp> = None;
        self.points.retain(|point| {
            let is_far = |last: Timestamp| point.at.duration_since(last).as_secs_f64() >= gap;
            let keep = last_kept.is_none_or(is_far);
            if keep {
                last_kept = Some(point.at);
            }
            keep
        });
    }

    /// Compares the estimates with the true duration, once the work is done. Marks before the first
    /// estimate are left out.
    pub fn scores(&self, started_at: Timestamp, work_done_at: Timestamp) -> Vec<Score> {
        let duration = work_done_at.duration_since(started_at).as_secs_f64();
        if duration <= 0.0 {
            return Vec::new();
        }
        let scores = MARKS.iter().filter_map(|mark| {
            let elapsed = duration * f64::from(*mark) / 100.0;
            let is_before =
                |point: &&Point| point.at.duration_since(started_at).as_secs_f64() <= elapsed;
            let point = self.points.iter().take_while(is_before).last()?;
            let truth = duration - elapsed;
            let Estimate {
                remaining,
                low,
                high,
                ..
            } = point.estimate;
            Some(Score {
                mark: *mark,
                error: remaining.map(|seconds| (seconds - truth).abs() / duration),
                is_inside: low
                    .zip(high)
                    .map(|(low, high)| (low..=high).contains(&truth)),
                progress_error: (f64::from(point.progress) - f64::from(*mark)).abs(),
            })
        });
        scores.collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::job::JobId;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds)
    }

    fn log() -> EstimateLog {
        let job = Job::new(JobId::parse("j").unwrap(), at(0.0));
        let mut log = EstimateLog::default();
        log.begin(&job, &CostModel::default(), at(0.0));
        log
    }

    fn estimate(seconds: f64) -> Estimate {
        Estimate {
            fraction: 0.0,
            remaining: Some(seconds),
            low: Some(seconds - 5.0),
            high: Some(seconds + 5.0),
            starts_in: None,
        }
    }

    #[test]
    fn estimates_are_scored_against_the_truth() {
        let mut log = log();
        assert_eq!(log.familiarity(), Familiarity::NoGraph);
        log.record(Estimate::default(), 0, at(12.0));
        log.record(estimate(90.0), 20, at(40.0));
        log.record(estimate(25.0), 75, at(75.0));
        let scores = log.scores(at(0.0), at(100.0));
        let marks: Vec<u8> = scores.iter().map(|score| score.mark).collect();
        assert_eq!(marks, [25, 50, 75, 90], "there is no estimate at 10 %");
        assert_eq!((scores[0].error, scores[0].is_inside), (None, None));
        assert_eq!(scores[0].progress_error, 25.0);
        assert_eq!(
            (scores[1].error, scores[1].is_inside),
            (Some(0.4), Some(false))
        );
        assert_eq!(
            (scores[2].error, scores[2].is_inside),
            (Some(0.0), Some(true))
        );
        assert_eq!(scores[3].error, Some(0.15));
        assert!(log.scores(at(1.0), at(1.0)).is_empty());
        log.forget_estimates();
        assert!(log.scores(at(0.0), at(100.0)).is_empty());
    }

    #[test]
    fn a_long_log_is_thinned_out_and_stays_accurate() {
        let mut log = log();
        for tenth in 0..100_000 {
            let now = f64::from(tenth) / 10.0;
            log.record(estimate(10_000.0 - now), (now / 100.0) as u8, at(now));
            assert!(log.points.len() <= MAX_POINTS);
        }
        let scores = log.scores(at(0.0), at(10_000.0));
        assert_eq!(scores.len(), MARKS.len());
        for score in scores {
            assert!(score.error.unwrap() < 0.02, "{score:?}");
            assert!(score.progress_error <= 2.0, "{score:?}");
        }
    }

    /// Several events may have the same timestamp.
    #[test]
    fn the_last_estimate_at_one_time_counts() {
        let mut log = log();
        for number in 0..4 * MAX_POINTS {
            log.record(estimate(number as f64), 50, at(5.0));
            assert!(log.points.len() <= MAX_POINTS);
        }
        let last = (4 * MAX_POINTS - 1) as f64;
        let scores = log.scores(at(0.0), at(10.0));
        assert_eq!(scores[0].mark, 50);
        assert_eq!(scores[0].error, Some((last - 5.0) / 10.0));
    }
}
