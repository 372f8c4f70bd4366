use std::collections::HashMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::Estimate;
use super::conditions::Conditions;
use super::forecast::Observation;
use super::model::CostModel;
use super::prediction::{MatchLevel, Prediction};
use super::start::{Familiarity, StartForecast};
use crate::job::{Job, NodeRun, NodeState, PlannedNode};

/// Why the estimate of a job is what it is. Times are in seconds, in whole milliseconds.
///
/// Of a job that has ended, the predictions are those of its start: the model has learned from it since.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Explanation {
    /// `known`, `first_time` or `no_graph`; `None` before it runs, and if its start was not seen.
    #[schemars(with = "Option<Familiarity>")]
    pub familiarity: Option<&'static str>,
    /// Whether at least half of the remaining time comes from the built-in table; of a job that has
    /// ended, of what remained at its start.
    pub is_guess: Option<bool>,
    /// Since execution began.
    #[serde(serialize_with = "milliseconds")]
    pub elapsed: Option<f64>,
    /// The median of the remaining time.
    #[serde(serialize_with = "milliseconds")]
    pub remaining: Option<f64>,
    /// Its 10th percentile.
    #[serde(serialize_with = "milliseconds")]
    pub low: Option<f64>,
    /// Its 90th percentile.
    #[serde(serialize_with = "milliseconds")]
    pub high: Option<f64>,
    /// What was estimated when it began.
    pub at_start: Option<StartExplanation>,
    /// How fast its nodes run; `None` if nothing is predicted of them.
    pub speed: Option<SpeedExplanation>,
    /// Its nodes: those that are cached, those that have begun in the order of their starts, and those
    /// that have not, sources before their consumers.
    pub nodes: Vec<NodeExplanation>,
}

/// What was estimated when a job began, or when its graph became known.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize)]
pub struct StartExplanation {
    /// How long it had run then.
    #[serde(serialize_with = "milliseconds")]
    pub elapsed: Option<f64>,
    /// The median of the remaining time.
    #[serde(serialize_with = "milliseconds")]
    pub remaining: Option<f64>,
    /// Its 10th percentile.
    #[serde(serialize_with = "milliseconds")]
    pub low: Option<f64>,
    /// Its 90th percentile.
    #[serde(serialize_with = "milliseconds")]
    pub high: Option<f64>,
}

/// How fast the nodes of a job run, as factors: 2 is twice as long.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize)]
pub struct SpeedExplanation {
    /// How many times as long as predicted, as the jobs before on the same machine make expect.
    #[serde(serialize_with = "thousandths")]
    pub machine: f64,
    /// How many times as long as predicted, by what this job's own nodes show as well. The predictions
    /// of the nodes that have not begun are multiplied by it.
    #[serde(serialize_with = "thousandths")]
    pub job: f64,
    /// By how much the backend has changed for good. The predictions contain it.
    #[serde(serialize_with = "thousandths")]
    pub shift: f64,
    /// The standard deviation of the time of a node that has run before, as a share of it.
    #[serde(serialize_with = "thousandths")]
    pub interval_width: f64,
}

/// One node of a job: what was predicted of it, from what, and what it took.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize)]
pub struct NodeExplanation {
    /// Its id; such as `5.0.0.1` for a run that a loop or a subgraph made, of which nothing is predicted.
    pub id: String,
    /// Its class.
    pub class_type: Option<String>,
    /// The title that the author of the graph gave it.
    pub title: Option<String>,
    /// `waiting`, `running`, `finished`, `cached`, `failed`, `interrupted`, or `not_run` if it will not
    /// run or did not until the end; `None` if it is not known any more.
    #[schemars(extend("enum" = ["waiting", "running", "finished", "cached", "failed", "interrupted", "not_run", null]))]
    pub state: Option<&'static str>,
    /// How long it takes, at the backend's usual speed.
    #[serde(serialize_with = "milliseconds")]
    pub predicted: Option<f64>,
    /// The runs behind the prediction: of the same `signature` or `class` on its backend, on an
    /// `other_backend`, of the same `role`, or none but a built-in `table`.
    #[schemars(with = "Option<MatchLevel>")]
    pub source: Option<&'static str>,
    /// By what runs of other nodes of a class or a role were scaled to this one: its `size`, or only
    /// the `calls` of its model.
    #[schemars(extend("enum" = ["size", "calls", null]))]
    pub scaled_by: Option<&'static str>,
    /// How many runs there are behind the prediction, of the newest ones that are kept.
    pub runs: Option<usize>,
    /// Whether it is expected to wait for its models to be read from the disk.
    pub cold: Option<bool>,
    /// The steps of its bars that are expected. A bar that counts in fractions has a hundred.
    #[serde(serialize_with = "milliseconds")]
    pub steps: Option<f64>,
    /// The steps of its bars so far.
    #[serde(serialize_with = "milliseconds")]
    pub steps_seen: Option<f64>,
    /// Its units of work: about the calls of its model times images of 512 by 512 pixels; `None` if its
    /// size is not known.
    #[serde(serialize_with = "milliseconds")]
    pub units: Option<f64>,
    /// When it began, after the start of the job.
    #[serde(serialize_with = "milliseconds")]
    pub began: Option<f64>,
    /// How long it took, or has taken so far.
    #[serde(serialize_with = "milliseconds")]
    pub took: Option<f64>,
    /// What it has left, at the speed of this job; `None` unless it waits or runs.
    #[serde(serialize_with = "milliseconds")]
    pub left: Option<f64>,
}

/// Where a node's prediction and its run are looked up.
struct Sources<'a> {
    job: &'a Job,
    predictions: HashMap<&'a str, Prediction>,
    /// The remaining seconds of nodes that have not ended.
    left: HashMap<&'a str, f64>,
    runs: HashMap<&'a str, NodeRun<'a>>,
    now: Timestamp,
}

impl Explanation {
    /// Explains the estimate of a job at `now`. `start` is what was predicted when it began, if that was
    /// seen.
    pub fn of(
        job: &Job,
        estimate: Estimate,
        start: Option<&StartForecast>,
        model: &CostModel,
        now: Timestamp,
    ) -> Self {
        let has_ended = job.status().is_final();
        let at_start = start.map(StartForecast::predictions).unwrap_or_default();
        let mut predictions: HashMap<&str, Prediction> = HashMap::new();
        let conditions = if has_ended {
            start.map(|start| start.conditions)
        } else {
            Some(model.conditions(job.backend().unwrap_or_default()))
        };
        let assumed = conditions.unwrap_or_default();
        let observed = Observation::of(job, now, &assumed, |id, node| {
            let prediction = if has_ended {
                at_start.get(id).copied()?
            } else {
                model.predict_in(job, node)
            };
            predictions.insert(id, prediction);
            Some(prediction)
        });
        let conditions = conditions.filter(|_| !job.plan().is_empty());
        let is_guess = match start {
            Some(start) if has_ended => Some(start.is_guess),
            _ => conditions.map(|conditions| observed.forecast(&conditions, now).is_guess),
        };
        let left = match conditions {
            Some(conditions) if !has_ended => observed.left(&conditions, now).collect(),
            _ => HashMap::new(),
        };
        let runs = job.runs().into_iter().map(|run| (run.id, run)).collect();
        let sources = Sources {
            job,
            predictions,
            left,
            runs,
            now,
        };
        Self {
            familiarity: start.map(|start| start.familiarity().as_str()),
            is_guess: is_guess.filter(|_| conditions.is_some()),
            elapsed: job.elapsed(now),
            remaining: estimate.remaining,
            low: estimate.low,
            high: estimate.high,
            at_start: start.map(|start| StartExplanation::of(start, job)),
            speed: conditions.map(|conditions| SpeedExplanation::of(&observed, &conditions)),
            nodes: sources.nodes(),
        }
    }
}

impl StartExplanation {
    fn of(start: &StartForecast, job: &Job) -> Self {
        let since = job.started_at();
        Self {
            elapsed: since.map(|since| start.at.duration_since(since).as_secs_f64().max(0.0)),
            remaining: start.estimate.remaining,
            low: start.estimate.low,
            high: start.estimate.high,
        }
    }
}

impl SpeedExplanation {
    fn of(observed: &Observation<'_>, conditions: &Conditions) -> Self {
        let pace = observed.pace(conditions);
        Self {
            machine: pace.usual_factor,
            job: pace.factor,
            shift: conditions.persistent_shift.exp(),
            interval_width: conditions.width.deviation(),
        }
    }
}

impl<'a> Sources<'a> {
    fn nodes(&self) -> Vec<NodeExplanation> {
        let plan = self.job.plan();
        let planned = plan
            .nodes()
            .filter(|(id, node)| node.needed || self.runs.contains_key(id));
        let planned = planned.map(|(id, node)| self.node(id, Some(node)));
        let mut made: Vec<&NodeRun<'_>> = self.runs.values().collect();
        made.retain(|run| plan.node(run.id).is_none());
        made.sort_by_key(|run| (run.started_at, run.id));
        let made = made.into_iter().map(|run| NodeExplanation {
            class_type: plan.node(run.display).map(|node| node.class_type.clone()),
            title: plan.node(run.display).and_then(|node| node.title.clone()),
            ..self.node(run.id, None)
        });
        let mut nodes: Vec<NodeExplanation> = planned.chain(made).collect();
        nodes.sort_by(|a, b| {
            let ((rank_a, began_a), (rank_b, began_b)) = (a.place(), b.place());
            rank_a.cmp(&rank_b).then(began_a.total_cmp(&began_b))
        });
        nodes
    }

    fn node(&self, id: &'a str, planned: Option<&PlannedNode>) -> NodeExplanation {
        let run = self.runs.get(id);
        let timing = self.job.nodes().timing(id);
        let prediction = self.predictions.get(id);
        let steps = prediction.and_then(|prediction| prediction.ticks);
        let planned_steps = planned.and_then(|node| node.steps).map(f64::from);
        let began = run.zip(self.job.started_at());
        NodeExplanation {
            id: id.to_owned(),
            class_type: planned.map(|node| node.class_type.clone()),
            title: planned.and_then(|node| node.title.clone()),
            state: Some(self.state(id, run)),
            predicted: prediction.map(|prediction| prediction.seconds),
            source: prediction.map(|prediction| prediction.match_level.as_str()),
            scaled_by: prediction.and_then(scaled_by),
            runs: prediction.map(|prediction| prediction.runs),
            cold: prediction.map(|prediction| prediction.is_cold),
            steps: steps.or(planned_steps),
            steps_seen: timing
                .filter(|timing| !timing.is_percentage)
                .map(|timing| timing.ticks())
                .filter(|ticks| *ticks > 0.0),
            units: planned.and_then(|node| node.units),
            began: began
                .map(|(run, since)| run.started_at.duration_since(since).as_secs_f64().max(0.0)),
            took: run
                .filter(|_| timing.is_some_and(|timing| !timing.was_missed))
                .map(|run| run.seconds(self.now)),
            left: self.left.get(id).copied(),
        }
    }

    fn state(&self, id: &str, run: Option<&NodeRun<'_>>) -> &'static str {
        let (nodes, plan) = (self.job.nodes(), self.job.plan());
        let copies = || nodes.state_of(id, plan).filter(|_| plan.is_copied(id));
        match run.map(|run| run.state).or_else(copies) {
            Some(state) => state.as_str(),
            None if nodes.is_cached(id) => NodeState::Cached.as_str(),
            None if self.left.contains_key(id) => "waiting",
            None => "not_run",
        }
    }
}

impl NodeExplanation {
    /// Where it is listed: cached nodes come first, then those that have begun.
    fn place(&self) -> (u8, f64) {
        match (self.began, self.state) {
            (None, Some("cached")) => (0, 0.0),
            (Some(began), _) => (1, began),
            (None, Some("waiting")) => (2, 0.0),
            (None, _) => (3, 0.0),
        }
    }
}

/// By what runs were scaled to a node that is not exactly like theirs.
fn scaled_by(prediction: &Prediction) -> Option<&'static str> {
    match prediction.match_level {
        MatchLevel::Class | MatchLevel::Role if prediction.shows_speed => Some("size"),
        MatchLevel::Class | MatchLevel::Role => Some("calls"),
        MatchLevel::Signature | MatchLevel::OtherBackend | MatchLevel::Default => None,
    }
}

fn thousandths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1000.0).round() / 1000.0)
}

/// Seconds in whole milliseconds.
fn milliseconds<S: Serializer>(seconds: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match seconds {
        Some(seconds) => thousandths(seconds, serializer),
        None => serializer.serialize_none(),
    }
}
