//! When a job will end. Pure: the caller passes the time.
//!
//! The remaining time of a job is the sum over its nodes. What each will cost comes from a
//! [`CostModel`], learned from nodes that have finished. While the job runs, its own nodes and bars
//! show how fast the machine is today and correct the rest. Progress is the share of *time*:
//! `elapsed / (elapsed + remaining)`.
//!
//! We publish the median: the estimate is too long as often as too short. `docs/estimates.md` derives
//! the mathematics.

mod accuracy;
mod call_costs;
mod conditions;
mod copies;
mod costs;
mod cusum;
mod evidence;
mod explanation;
mod forecast;
mod host;
mod interval;
mod level_evidence;
mod message_cost;
mod model;
mod neighbours;
mod open_node;
mod parallel;
mod past_run;
mod prediction;
mod samples;
mod service;
mod speed;
mod speed_day;
mod speed_weights;
mod spread;
mod start;
mod sum;
mod training;

use jiff::Timestamp;

use crate::job::{Job, Outcome, Plan, Remaining, Status};
pub use accuracy::{EstimateLog, MARKS, Score};
pub use explanation::{Explanation, NodeExplanation, SpeedExplanation, StartExplanation};
use forecast::Forecast;
pub use model::CostModel;
pub use past_run::PastRun;
pub use speed_weights::SpeedWeights;
pub use start::{Familiarity, StartForecast};

/// The largest fraction of a job that has not ended.
const MAX_FRACTION: f64 = 0.999;

/// Below this share of the work, a projection of the elapsed time varies too much to be published.
const MIN_PROJECTED_SHARE: f64 = 0.05;

/// Below this time, in seconds, it varies too much as well.
const MIN_PROJECTED_SECONDS: f64 = 1.0;

/// How far a job is, and how long it will still take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// The share of the job's time that has passed, 0 to 1.
    pub fraction: f64,
    /// The median of the seconds until the job ends; `None` while there is no evidence.
    pub remaining: Option<f64>,
    /// Their 10th percentile, in seconds.
    pub low: Option<f64>,
    /// Their 90th percentile, in seconds.
    pub high: Option<f64>,
    /// The median of the seconds until a job that waits begins; `None` for any other, and while there is no evidence.
    pub starts_in: Option<f64>,
}

impl Estimate {
    /// The estimate of a job at `now`. [`Estimate::queued`] is the one of a job that waits.
    ///
    /// If a producer other than ComfyUI reports the job, its own numbers count.
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
        if let Some(outcome) = job.socket_outcome() {
            // The progress of a failed job stays where it is.
            let is_done = *outcome == Outcome::Completed;
            return Self::exact(if is_done { MAX_FRACTION } else { 0.0 }, 0.0);
        }
        if job.plan().is_empty() {
            let share = job.resumed_fraction();
            let share = share.unwrap_or_else(|| job.nodes().share(job.plan()));
            return Self::projected(share, elapsed);
        }
        let forecast = Self::of_running(Forecast::of(job, model, now, elapsed), elapsed);
        // After a restart it is not known which nodes run, but how far the job was.
        let projected = job
            .resumed_fraction()
            .map(|share| Self::projected(share, elapsed));
        match (projected, forecast.remaining) {
            (Some(projected), None) => projected,
            (Some(projected), left)
                if projected.remaining.is_some() && projected.remaining < left =>
            {
                projected
            }
            _ => forecast,
        }
    }

    /// The estimate where nothing is left to do.
    pub fn none_left() -> Self {
        Self::exact(0.0, 0.0)
    }

    /// How long a prompt will run, from its start to its end. `cached` are the ids of the nodes that
    /// need not run.
    pub fn of_prompt(backend: &str, plan: &Plan, cached: &[String], model: &CostModel) -> Self {
        Self::from(Forecast::of_plan(backend, plan, cached, model))
    }

    /// When a job that waits will end: after the running prompt, and after all prompts before it.
    /// `None` if one of them cannot be estimated.
    ///
    /// `ahead` are the estimates of the running prompt ([`Estimate::of`]) and of the waiting ones
    /// ([`Estimate::of_prompt`]), those of other clients included, in any order; `own` is the job's.
    ///
    /// The prompts are taken as independent, so the half-widths of their intervals add up in squares:
    /// `high − remaining = √Σ(highᵢ − remainingᵢ)²`, and `low` likewise.
    pub fn queued(ahead: impl IntoIterator<Item = Self>, own: Self) -> Self {
        let (mut remaining, mut below, mut above) = (0.0, 0.0, 0.0);
        for one in ahead.into_iter().chain([own]) {
            let Some(seconds) = one.remaining else {
                return Self::default();
            };
            remaining += seconds;
            below += (seconds - one.low.unwrap_or(seconds)).powi(2);
            above += (one.high.unwrap_or(seconds) - seconds).powi(2);
        }
        Self {
            fraction: 0.0,
            remaining: Some(remaining),
            low: Some((remaining - f64::sqrt(below)).max(0.0)),
            high: Some(remaining + f64::sqrt(above)),
            starts_in: None,
        }
    }

    /// The same estimate `seconds` later, if everything goes as expected.
    pub fn later(self, seconds: f64) -> Self {
        let left = |then: f64| (then - seconds).max(0.0);
        Self {
            remaining: self.remaining.map(left),
            low: self.low.map(left),
            high: self.high.map(left),
            starts_in: self.starts_in.map(left),
            ..self
        }
    }

    /// The remaining time as it is published.
    pub fn remaining_time(&self) -> Option<Remaining> {
        Some(Remaining {
            seconds: self.remaining?,
            interval: self.low.zip(self.high),
            starts_in: self.starts_in,
        })
    }

    fn exact(fraction: f64, remaining: f64) -> Self {
        Self {
            fraction,
            remaining: Some(remaining),
            low: Some(remaining),
            high: Some(remaining),
            starts_in: None,
        }
    }

    /// The estimate of a job that has run for `elapsed` seconds.
    fn of_running(forecast: Forecast, elapsed: f64) -> Self {
        // Published progress never falls, so where everything is a guess it starts slowly.
        let left = if forecast.is_guess {
            forecast.interval().1
        } else {
            forecast.remaining
        };
        let whole = elapsed + left;
        Self {
            fraction: if whole > 0.0 {
                (elapsed / whole).min(MAX_FRACTION)
            } else {
                0.0
            },
            ..Self::from(forecast)
        }
    }

    /// The estimate of a job of which only the share `p` of the work is known that is done, as its bars show
    /// it, or as it was before a restart: `elapsed · (1 − p)/p` remain.
    ///
    /// The graph may arrive a moment later, and published progress never falls: one node that ends at
    /// once must not count as all of them.
    fn projected(share: f64, elapsed: f64) -> Self {
        let fraction = share.min(MAX_FRACTION);
        let is_enough = elapsed >= MIN_PROJECTED_SECONDS && fraction >= MIN_PROJECTED_SHARE;
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
        if !forecast.has_evidence {
            return Self::default();
        }
        let (low, high) = forecast.interval();
        Self {
            fraction: 0.0,
            remaining: Some(forecast.remaining),
            low: Some(low),
            high: Some(high),
            starts_in: None,
        }
    }
}

#[cfg(test)]
mod tests;
