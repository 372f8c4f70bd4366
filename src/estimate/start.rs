use std::collections::HashMap;

use jiff::Timestamp;

use super::Estimate;
use super::conditions::Conditions;
use super::forecast::Observation;
use super::model::CostModel;
use super::prediction::{MatchLevel, Prediction};
use crate::job::{Job, Plan};
use crate::wire_schema::word_schema;

/// The most predictions that are kept of one job. Those of the shortest nodes are left out.
const MAX_NODES: usize = 1_000;

/// Whether the workflow of a job had run before on its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Familiarity {
    /// All its nodes had, with the same signatures.
    Known,
    /// Some had not.
    FirstTime,
    /// Its graph is not known.
    NoGraph,
}

impl Familiarity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Known, Self::FirstTime, Self::NoGraph];

    /// Of a prompt that has not begun. `cached` are the ids of the nodes that need not run.
    pub fn of_prompt(backend: &str, plan: &Plan, cached: &[String], model: &CostModel) -> Self {
        if plan.is_empty() {
            return Self::NoGraph;
        }
        let is_cached = |id: &str| cached.iter().any(|cached| cached == id);
        let mut runs = plan.needed().filter(|(id, _)| !is_cached(id));
        let is_known = runs.all(|(_, node)| {
            let is_cold = model.is_cold(backend, node, is_cached);
            model.predict(backend, node, is_cold).match_level == MatchLevel::Signature
        });
        if is_known {
            Self::Known
        } else {
            Self::FirstTime
        }
    }

    /// Its word in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::FirstTime => "first_time",
            Self::NoGraph => "no_graph",
        }
    }
}

word_schema!(
    Familiarity,
    "Whether the workflow of a job had run before on its server."
);

/// What was predicted of a job when it began: kept to explain its estimates when the model has learned
/// from it. Its memory is bounded, however many nodes the job has.
#[derive(Debug, Clone)]
pub struct StartForecast {
    familiarity: Familiarity,
    /// How many nodes were known to be cached.
    cached: usize,
    /// When it was made: at the start, or when more became known of it.
    pub(super) at: Timestamp,
    pub(super) estimate: Estimate,
    /// Whether at least half of the estimate comes from the built-in table.
    pub(super) is_guess: bool,
    pub(super) conditions: Conditions,
    /// By the ids of the nodes.
    predictions: Vec<(Box<str>, Prediction)>,
}

impl StartForecast {
    /// What the model predicts of a job that begins.
    pub(super) fn of(job: &Job, model: &CostModel, now: Timestamp) -> Self {
        let mut predictions: Vec<(Box<str>, Prediction)> = Vec::new();
        let conditions = model.conditions(job.backend().unwrap_or_default());
        let observed = Observation::of(job, now, &conditions, |id, node| {
            let prediction = model.predict_in(job, node);
            predictions.push((id.into(), prediction));
            Some(prediction)
        });
        let is_exact =
            |(_, prediction): &(_, Prediction)| prediction.match_level == MatchLevel::Signature;
        let familiarity = if job.plan().is_empty() {
            Familiarity::NoGraph
        } else if predictions.iter().all(is_exact) {
            Familiarity::Known
        } else {
            Familiarity::FirstTime
        };
        if predictions.len() > MAX_NODES {
            predictions.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
            predictions.truncate(MAX_NODES);
        }
        predictions.shrink_to_fit();
        Self {
            familiarity,
            cached: job.nodes().cached_ids().count(),
            at: now,
            estimate: Estimate::of(job, model, now),
            is_guess: observed.forecast(&conditions, now).is_guess,
            conditions,
            predictions,
        }
    }

    /// Whether the workflow was known.
    pub fn familiarity(&self) -> Familiarity {
        self.familiarity
    }

    /// The 90th percentile of the seconds that the job takes from its start to its end; `None` if nothing is known.
    pub fn upper_end(&self) -> Option<f64> {
        self.estimate.high
    }

    /// Whether more is known of the job's start now: its graph, or before a node has begun, which of them
    /// are cached.
    pub(super) fn is_outdated(&self, job: &Job) -> bool {
        let has_graph = self.familiarity == Familiarity::NoGraph && !job.plan().is_empty();
        let nodes = job.nodes();
        has_graph || (!nodes.has_begun() && nodes.cached_ids().count() != self.cached)
    }

    /// The predictions by the ids of the nodes.
    pub(super) fn predictions(&self) -> HashMap<&str, Prediction> {
        let predictions = self.predictions.iter();
        predictions
            .map(|(id, prediction)| (&**id, *prediction))
            .collect()
    }
}
