//! When a job will end. Pure: the caller names the moment.
//!
//! The seconds that a job has left are those of its nodes. What each will cost comes from a
//! [`CostModel`], learned from nodes that have finished. As the job runs, its own nodes and bars show
//! how fast the machine is today, and correct the rest. The share that is done is the share of *time*:
//! what has passed, over what has passed and what is left.
//!
//! What is told is the middle of what may come, so that it is too long as often as too short. For one node
//! that is about the median of its runs, for many somewhat more than the sum of theirs.

mod accuracy;
mod costs;
mod cusum;
mod forecast;
mod interval;
mod level;
mod model;
mod samples;
mod speed;
mod spread;
mod sum;
mod training;

use jiff::Timestamp;

use crate::job::{Job, Outcome, Plan, Remaining, Status};
pub use accuracy::{EstimateLog, Familiarity, MARKS, Score};
use forecast::Forecast;
pub use model::CostModel;
pub use training::PastRun;

/// The most that is shown of a job that has not ended.
const MAX_SHARE: f64 = 0.999;

/// The share below which a projection of the time so far is too wild to be shown.
const MIN_SHARE: f64 = 0.05;

/// The seconds of running below which it is too wild as well.
const MIN_ELAPSED: f64 = 1.0;

/// How far a job is, and how long it will take still.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// The share of its time that is over, 0 to 1.
    pub fraction: f64,
    /// Seconds until the job ends; `None` while there is no evidence.
    pub remaining: Option<f64>,
    /// The 10th percentile of that.
    pub low: Option<f64>,
    /// The 90th percentile of that.
    pub high: Option<f64>,
}

impl Estimate {
    /// The estimate for a job at a moment. For one that waits see [`Estimate::queued`].
    pub fn of(job: &Job, model: &CostModel, now: Timestamp) -> Self {
        if job.status().is_final() {
            return Self::exact(f64::from(u8::from(job.status() == Status::Completed)), 0.0);
        }
        if let Some((report, at)) = job.report() {
            let since = now.duration_since(at).as_secs_f64().max(0.0);
            let left = |seconds: u64| (seconds as f64 - since).max(0.0);
            return Self {
                fraction: f64::from(report.progress) / 100.0,
                remaining: report.estimated_remaining.map(left),
                ..Self::default()
            };
        }
        let Some(started_at) = job.started_at() else {
            return Self::default();
        };
        let elapsed = now.duration_since(started_at).as_secs_f64().max(0.0);
        if let Some(socket_outcome) = job.socket_outcome() {
            // What failed stays where it is.
            let is_done = *socket_outcome == Outcome::Completed;
            return Self::exact(if is_done { MAX_SHARE } else { 0.0 }, 0.0);
        }
        if job.plan().is_empty() {
            return Self::projected(job, elapsed);
        }
        let forecast = Forecast::of(job, model, now);
        // Progress that ran ahead would have to stand still: where all is a guess, it keeps back.
        let left = match forecast.is_guess {
            true => forecast.interval().1,
            false => forecast.remaining,
        };
        let whole = elapsed + left;
        Self {
            fraction: if whole > 0.0 {
                (elapsed / whole).min(MAX_SHARE)
            } else {
                0.0
            },
            ..Self::from(forecast)
        }
    }

    /// How long a prompt will run once its turn has come.
    pub fn of_prompt(backend: &str, plan: &Plan, cached: &[String], model: &CostModel) -> Self {
        Self::from(Forecast::of_plan(backend, plan, cached, model))
    }

    /// When a job ends that waits: after what the running prompt has left, and after all the prompts
    /// before it. `None` where nothing is known of one of them.
    ///
    /// `ahead` are the estimates of the running prompt ([`Estimate::of`]) and of the waiting ones
    /// ([`Estimate::of_prompt`]), those of other clients included, in any order; `own` is the job's.
    pub fn queued(ahead: impl IntoIterator<Item = Self>, own: Self) -> Self {
        let (mut remaining, mut below, mut above) = (0.0, 0.0, 0.0);
        for one in ahead.into_iter().chain([own]) {
            let Some(seconds) = one.remaining else {
                return Self::default();
            };
            remaining += seconds;
            // What deviates alone adds up in squares.
            below += (seconds - one.low.unwrap_or(seconds)).powi(2);
            above += (one.high.unwrap_or(seconds) - seconds).powi(2);
        }
        Self {
            fraction: 0.0,
            remaining: Some(remaining),
            low: Some((remaining - f64::sqrt(below)).max(0.0)),
            high: Some(remaining + f64::sqrt(above)),
        }
    }

    /// The same estimate some seconds later, where everything goes as expected.
    pub fn later(self, seconds: f64) -> Self {
        let left = |then: f64| (then - seconds).max(0.0);
        Self {
            remaining: self.remaining.map(left),
            low: self.low.map(left),
            high: self.high.map(left),
            ..self
        }
    }

    /// What subscribers are told of it.
    pub fn remaining_time(&self) -> Option<Remaining> {
        Some(Remaining {
            seconds: self.remaining?,
            interval: self.low.zip(self.high),
        })
    }

    fn exact(fraction: f64, remaining: f64) -> Self {
        Self {
            fraction,
            remaining: Some(remaining),
            low: Some(remaining),
            high: Some(remaining),
        }
    }

    /// Where no graph is known: the time so far, projected over the share of the bars that was seen.
    ///
    /// The graph may come a moment later, and what was shown does not fall: one node that is done at
    /// once is not to be taken for all.
    fn projected(job: &Job, elapsed: f64) -> Self {
        let fraction = job.nodes().share(job.plan()).min(MAX_SHARE);
        let is_enough = elapsed >= MIN_ELAPSED && fraction >= MIN_SHARE;
        let remaining = is_enough.then(|| elapsed * (1.0 - fraction) / fraction);
        Self {
            fraction: if is_enough { fraction } else { 0.0 },
            remaining,
            ..Self::default()
        }
    }
}

impl From<Forecast> for Estimate {
    fn from(forecast: Forecast) -> Self {
        if !forecast.is_founded {
            return Self::default();
        }
        let (low, high) = forecast.interval();
        Self {
            fraction: 0.0,
            remaining: Some(forecast.remaining),
            low: Some(low),
            high: Some(high),
        }
    }
}

#[cfg(test)]
mod tests;
