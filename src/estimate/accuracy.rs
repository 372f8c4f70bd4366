//! What was said of a job while it ran, to be held against the truth when it has ended.

use jiff::Timestamp;

use super::Estimate;
use super::model::{CostModel, MatchLevel};
use crate::job::Job;

/// How many moments are kept. They are then at most a 128th of the time so far apart.
const MAX_POINTS: usize = 256;

/// The shares of a job's true time at which it is judged, in percent.
pub const MARKS: [u8; 5] = [10, 25, 50, 75, 90];

/// Whether the workflow of a job had run before on its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Familiarity {
    /// All its nodes had, in the same size.
    Known,
    /// Some had not.
    FirstTime,
    /// Its graph is not known.
    NoGraph,
}

/// What was said of one running job and when, thinned out: its memory is bounded, however long the job
/// runs.
#[derive(Debug, Clone)]
pub struct EstimateLog {
    familiarity: Familiarity,
    points: Vec<Point>,
    /// The least time between two points, in seconds.
    gap: f64,
}

/// What was said at one moment.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Timestamp,
    estimate: Estimate,
    /// 0 to 100.
    progress: u8,
}

/// How right it was at one of the [`MARKS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The mark, in percent of the job's true time.
    pub mark: u8,
    /// How far the remaining time was off, as a share of the job's duration; `None` where none was told.
    pub error: Option<f64>,
    /// Whether the true end was within the interval; `None` where none was told.
    pub is_inside: Option<bool>,
    /// How far the progress was off, in points.
    pub progress_error: f64,
}

impl Familiarity {
    /// Of a job that has just begun.
    fn of(job: &Job, model: &CostModel) -> Self {
        let (backend, plan) = (job.backend().unwrap_or_default(), job.plan());
        if plan.is_empty() {
            return Self::NoGraph;
        }
        let is_cached = |id: &str| job.nodes().is_cached(id);
        let mut ran = plan.needed().filter(|(id, _)| !is_cached(id));
        let is_known = ran.all(|(_, node)| {
            let is_cold = model.is_cold(backend, node, is_cached);
            model.predict(backend, node, is_cold).match_level == MatchLevel::Signature
        });
        match is_known {
            true => Self::Known,
            false => Self::FirstTime,
        }
    }
}

impl EstimateLog {
    /// The trail of a job that begins. The model decides whether its workflow is known.
    pub fn new(job: &Job, model: &CostModel) -> Self {
        Self {
            familiarity: Familiarity::of(job, model),
            points: Vec::new(),
            gap: 0.0,
        }
    }

    /// Whether the workflow was known when the trail began.
    pub fn familiarity(&self) -> Familiarity {
        self.familiarity
    }

    /// Takes note of what is said at a moment: the estimate, and the progress from 0 to 100.
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
        // At one moment, the last word counts.
        if let Some(last) = self.points.last_mut().filter(|last| last.at == at) {
            *last = point;
            return;
        }
        if self.points.len() >= MAX_POINTS {
            let span = at.duration_since(self.points[0].at).as_secs_f64();
            self.gap = span / (MAX_POINTS / 2) as f64;
            let mut kept: Option<Timestamp> = None;
            let gap = self.gap;
            self.points.retain(|point| {
                let is_far = |kept: Timestamp| point.at.duration_since(kept).as_secs_f64() >= gap;
                let keep = kept.is_none_or(is_far);
                if keep {
                    kept = Some(point.at);
                }
                keep
            });
        }
        self.points.push(point);
    }

    /// Holds what was said against the truth. Marks before the first word are left out.
    pub fn scores(&self, started_at: Timestamp, work_done_at: Timestamp) -> Vec<Score> {
        let duration = work_done_at.duration_since(started_at).as_secs_f64();
        if duration <= 0.0 {
            return Vec::new();
        }
        let scores = MARKS.iter().filter_map(|mark| {
            let passed = duration * f64::from(*mark) / 100.0;
            let said_by =
                |point: &&Point| point.at.duration_since(started_at).as_secs_f64() <= passed;
            let point = self.points.iter().take_while(said_by).last()?;
            let truth = duration - passed;
            let Estimate {
                remaining,
                low,
                high,
                ..
            } = point.estimate;
            Some(Score {
                mark: *mark,
                error: remaining.map(|told| (told - truth).abs() / duration),
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

    fn trail() -> EstimateLog {
        let job = Job::new(JobId::parse("j").unwrap(), at(0.0));
        EstimateLog::new(&job, &CostModel::default())
    }

    fn told(seconds: f64) -> Estimate {
        Estimate {
            fraction: 0.0,
            remaining: Some(seconds),
            low: Some(seconds - 5.0),
            high: Some(seconds + 5.0),
        }
    }

    #[test]
    fn what_was_said_is_held_against_the_truth() {
        let mut trail = trail();
        assert_eq!(trail.familiarity(), Familiarity::NoGraph);
        trail.record(Estimate::default(), 0, at(12.0));
        trail.record(told(90.0), 20, at(40.0));
        trail.record(told(25.0), 75, at(75.0));
        let scores = trail.scores(at(0.0), at(100.0));
        let marks: Vec<u8> = scores.iter().map(|score| score.mark).collect();
        assert_eq!(marks, [25, 50, 75, 90], "nothing was said at 10 %");
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
        assert!(trail.scores(at(1.0), at(1.0)).is_empty());
    }

    #[test]
    fn a_long_trail_is_thinned_and_stays_near_the_truth() {
        let mut trail = trail();
        for tenth in 0..100_000 {
            let now = f64::from(tenth) / 10.0;
            trail.record(told(10_000.0 - now), (now / 100.0) as u8, at(now));
            assert!(trail.points.len() <= MAX_POINTS);
        }
        let scores = trail.scores(at(0.0), at(10_000.0));
        assert_eq!(scores.len(), MARKS.len());
        for score in scores {
            assert!(score.error.unwrap() < 0.02, "{score:?}");
            assert!(score.progress_error <= 2.0, "{score:?}");
        }
    }

    /// Several events may bear one time.
    #[test]
    fn what_is_said_last_at_one_moment_counts() {
        let mut trail = trail();
        for number in 0..4 * MAX_POINTS {
            trail.record(told(number as f64), 50, at(5.0));
            assert!(trail.points.len() <= MAX_POINTS);
        }
        let last = (4 * MAX_POINTS - 1) as f64;
        let scores = trail.scores(at(0.0), at(10.0));
        assert_eq!(scores[0].mark, 50);
        assert_eq!(scores[0].error, Some((last - 5.0) / 10.0));
    }
}
