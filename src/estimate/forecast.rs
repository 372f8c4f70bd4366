use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::conditions::Conditions;
use super::evidence::SpeedEvidence;
use super::message_cost::MessageCost;
use super::model::CostModel;
use super::open_node::{OVERTIME, OpenNode, Pace};
use super::parallel::ParallelLevels;
use super::prediction::Prediction;
use super::spread::Spread;
use super::sum::DurationSum;
use crate::job::{Job, Plan, PlannedNode};

/// The share of the expected seconds that a job's nodes have to show before it is evidence: nodes that
/// do nothing end at once.
const MIN_EVIDENCE: f64 = 0.02;

/// The 10th and 90th percentile of a normal distribution are this many standard deviations from its
/// median.
const Z_90: f64 = 1.28;

/// The remaining time of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forecast {
    /// The median, in seconds.
    pub(super) remaining: f64,
    /// The standard deviation, in seconds.
    pub(super) deviation: f64,
    /// Whether it rests on more than the built-in table.
    pub(super) has_evidence: bool,
    /// Whether at least half of it comes from the built-in table, corrected or not.
    pub(super) is_guess: bool,
}

/// What the nodes of a job show.
#[derive(Default)]
pub(super) struct Observation<'a> {
    /// The nodes that have not ended.
    open: Vec<OpenNode<'a>>,
    speed: SpeedEvidence,
    /// The predicted seconds of all nodes that run in this job, those that ended included.
    expected: f64,
    /// How many nodes are in the messages about the next one; `None` if the server sends no such messages.
    begun: Option<usize>,
}

impl<'a> Observation<'a> {
    /// Observes the nodes of a job that have begun or will run. `predict` returns what is expected of a
    /// node, or `None` to leave it out.
    pub(super) fn of(
        job: &'a Job,
        now: Timestamp,
        conditions: &Conditions,
        mut predict: impl FnMut(&'a str, &PlannedNode) -> Option<Prediction>,
    ) -> Self {
        let nodes = job.nodes();
        let begun = (!nodes.has_begun() || nodes.are_reported()).then(|| nodes.begun());
        let mut observed = Self {
            begun,
            ..Self::default()
        };
        let message = begun.map_or(0.0, |begun| {
            conditions.message_cost.mean_while_running(begun)
        });
        let mut settled: HashSet<&str> = HashSet::new();
        let mut levels = ParallelLevels::default();
        for (id, node) in job.plan().nodes().rev() {
            let timing = nodes.timing(id);
            if is_settled(id, node, job, &settled) {
                settled.insert(id);
            }
            if timing.is_none() && (!node.needed || settled.contains(id)) {
                continue;
            }
            if let Some(prediction) = predict(id, node) {
                if job.plan().is_copied(id) {
                    observed.add_copies(job, id, node, prediction);
                    continue;
                }
                let open = OpenNode {
                    id,
                    prediction,
                    timing,
                    expanded_at: nodes.expanded_at(id),
                    level: levels.add(id, node, prediction.is_parallel),
                    measured: None,
                };
                observed.add(node, open, message, now);
            }
        }
        // A node that a loop or a subgraph made has a bar of its own; nothing else is known of it.
        let made = nodes.active().filter(|(run, display, _)| {
            job.plan().node(run).is_none() && !job.plan().is_copied(display)
        });
        observed.open.extend(made.map(|(id, _, timing)| OpenNode {
            id,
            prediction: Prediction::UNKNOWN,
            timing: Some(timing),
            expanded_at: None,
            level: None,
            measured: None,
        }));
        observed
    }

    /// Adds a node; `message` are the seconds in which messages about others are made while one runs.
    fn add(&mut self, node: &PlannedNode, open: OpenNode<'a>, message: f64, now: Timestamp) {
        let (prediction, timing) = (open.prediction, open.timing);
        self.expected += prediction.seconds;
        match timing {
            Some(timing) if timing.ended_at.is_some() => {
                if !timing.was_missed && prediction.shows_speed {
                    let (seconds, expected) = (timing.seconds(now), prediction.seconds + message);
                    self.speed.add(node.role, seconds, expected);
                }
            }
            Some(timing) => {
                if prediction.shows_speed
                    && let Some((seconds, expected)) = prediction.compared_with(timing, now)
                {
                    self.speed.add(node.role, seconds, expected);
                }
                self.open.push(open);
            }
            None => self.open.push(open),
        }
    }

    /// Adds a node of which a loop makes copies: those that run, and those that are to come. Those that have ended show what one
    /// takes.
    fn add_copies(&mut self, job: &'a Job, id: &'a str, node: &PlannedNode, one: Prediction) {
        let (nodes, copies) = (job.nodes(), job.plan().copies(id));
        let measured = nodes.measured_copies(id);
        self.expected += one.seconds * copies;
        if let Some((runs, mean)) = measured.filter(|_| one.shows_speed) {
            self.speed.add(node.role, runs * mean, runs * one.seconds);
        }
        let before = self.open.len();
        let running = nodes.active();
        let running = running.filter(|(run, display, _)| *display == id && *run != id);
        self.open.extend(running.map(|(run, _, timing)| OpenNode {
            id: run,
            prediction: one,
            timing: Some(timing),
            expanded_at: None,
            level: None,
            measured,
        }));
        let running = (self.open.len() - before) as f64;
        let waiting = copies - nodes.ended_copies(id, job.plan()) - running;
        if waiting > 0.0 {
            self.open.push(OpenNode {
                id,
                prediction: one.times(waiting),
                timing: None,
                expanded_at: None,
                level: None,
                measured: measured.map(|(runs, mean)| (runs, mean * waiting)),
            });
        }
    }

    /// How fast this job's nodes run: what they show, shrunk to the speed of the machine so far.
    pub(super) fn pace(&self, conditions: &Conditions) -> Pace {
        let prior = conditions.log_speed_factor * conditions.weights.carry_over;
        let prior_weight = conditions.weights.running_prior * self.expected * trust(&self.open);
        Pace {
            factor: self.speed.shrunk_to(prior, prior_weight).exp(),
            usual_factor: prior.exp(),
            width: conditions.width,
        }
    }

    /// The forecast for the nodes that have not ended.
    pub(super) fn forecast(&self, conditions: &Conditions, now: Timestamp) -> Forecast {
        let is_live = self.speed.weight() > MIN_EVIDENCE * self.expected;
        let message_cost = match self.begun {
            Some(_) => conditions.message_cost,
            None => MessageCost::NONE,
        };
        let messages = messages(&self.open, message_cost, self.begun.unwrap_or(0));
        Forecast::sum(&self.open, self.pace(conditions), messages, is_live, now)
    }

    /// The ids of the nodes that have not ended, and what each has left, in seconds.
    pub(super) fn left(
        &self,
        conditions: &Conditions,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let pace = self.pace(conditions);
        let open = self.open.iter();
        open.map(move |node| (node.id, node.remaining(pace, now).0))
    }
}

impl Forecast {
    /// The forecast for a job that has run for `elapsed` seconds.
    pub(super) fn of(job: &Job, model: &CostModel, now: Timestamp, elapsed: f64) -> Self {
        let conditions = model.conditions(job.backend().unwrap_or_default());
        let observed = Observation::of(job, now, &conditions, |_, node| {
            Some(model.predict_in(job, node))
        });
        let forecast = observed.forecast(&conditions, now);
        if job.nodes().has_begun() {
            return forecast;
        }
        // Nothing is received of a prompt of another client: it counts as one node without a bar.
        Self {
            remaining: (forecast.remaining - elapsed).max(OVERTIME * elapsed),
            ..forecast
        }
    }

    /// The forecast for a prompt that has not begun. `cached` are the nodes that are known not to run.
    pub(super) fn of_plan(
        backend: &str,
        plan: &Plan,
        cached: &[String],
        model: &CostModel,
    ) -> Self {
        let is_cached = |id: &str| cached.iter().any(|cached| cached == id);
        let waiting: Vec<_> = plan.needed().filter(|(id, _)| !is_cached(id)).collect();
        let mut levels = ParallelLevels::default();
        let open = waiting.into_iter().rev().map(|(id, node)| {
            let one = model.predict(backend, node, model.is_cold(backend, node, is_cached));
            let prediction = if plan.is_copied(id) {
                one.times(plan.copies(id))
            } else {
                one
            };
            let level = levels.add(id, node, prediction.is_parallel);
            OpenNode::waiting(prediction, level)
        });
        Self::of_open(backend, &open.collect::<Vec<_>>(), model)
    }

    /// The forecast for nodes of which none has begun, one after another.
    pub(super) fn of_waiting(
        backend: &str,
        predictions: impl Iterator<Item = Prediction>,
        model: &CostModel,
    ) -> Self {
        let open = predictions.map(|prediction| OpenNode::waiting(prediction, None));
        Self::of_open(backend, &open.collect::<Vec<_>>(), model)
    }

    fn of_open(backend: &str, open: &[OpenNode<'_>], model: &CostModel) -> Self {
        let conditions = model.conditions(backend);
        let factor = (conditions.log_speed_factor * conditions.weights.carry_over).exp();
        let pace = Pace {
            factor,
            usual_factor: factor,
            width: conditions.width,
        };
        let messages = messages(open, conditions.message_cost, 0);
        Self::sum(open, pace, messages, false, Timestamp::UNIX_EPOCH)
    }

    /// The 10th and the 90th percentile, in seconds: `remaining ± 1.28·deviation`.
    pub(super) fn interval(&self) -> (f64, f64) {
        let width = Z_90 * self.deviation;
        ((self.remaining - width).max(0.0), self.remaining + width)
    }

    /// Nodes that wait run one after the other, except those of one level; those that run, run at the same time. `messages`
    /// are the seconds in which the messages about them are made.
    fn sum(
        open: &[OpenNode<'_>],
        pace: Pace,
        messages: f64,
        is_live: bool,
        now: Timestamp,
    ) -> Self {
        let mut sum = DurationSum::default();
        let runs = open.iter().filter(|node| node.timing.is_some());
        let begun: Vec<u32> = runs.filter_map(|node| node.level).collect();
        // Of those that run or can begin beside them, and of those of each other level.
        let mut longest: BTreeMap<Option<u32>, (f64, Spread)> = BTreeMap::new();
        let mut from_table = 0.0;
        for node in open {
            let (left, spread) = node.remaining(pace, now);
            if node.is_guess() {
                from_table += left;
            }
            if node.timing.is_none() && node.level.is_none() {
                sum.add(left, spread);
                continue;
            }
            let waits_for = node
                .level
                .filter(|level| node.timing.is_none() && !begun.contains(level));
            let longest = longest.entry(waits_for).or_insert((left, spread));
            if left > longest.0 {
                *longest = (left, spread);
            }
        }
        for (left, spread) in longest.into_values() {
            sum.add(left, spread);
        }
        sum.add(messages * pace.factor, Spread::default());
        // The machine's speed is the same for all nodes.
        sum.add_common_variance(pace.width.deviation());
        let remaining = sum.median();
        let is_guess = from_table * 2.0 >= remaining;
        Self {
            remaining,
            deviation: sum.deviation(),
            has_evidence: is_live || !is_guess,
            is_guess,
        }
    }
}

/// The seconds in which the messages about nodes that wait are made, behind so many that have begun.
fn messages(open: &[OpenNode<'_>], cost: MessageCost, begun: usize) -> f64 {
    let waiting = open.iter().filter(|node| node.timing.is_none()).count();
    cost.of_waiting(waiting, begun)
}

/// Whether a node has run or never will: it is cached, or all its consumers have ended without it, as
/// those behind a switch do.
fn is_settled(id: &str, node: &PlannedNode, job: &Job, settled: &HashSet<&str>) -> bool {
    let (nodes, plan) = (job.nodes(), job.plan());
    let is_unused = || {
        let mut consumers = node.consumers.iter();
        !node.consumers.is_empty() && consumers.all(|consumer| settled.contains(consumer.as_str()))
    };
    match nodes.timing(id) {
        Some(timing) => timing.ended_at.is_some(),
        None => nodes.has_passed(id) || nodes.have_copies_ended(id, plan) || is_unused(),
    }
}

/// How much the predictions of the open nodes count beside what the job itself shows, 0 to 1: with
/// their mean distance `d` from an exact match, weighted by seconds, `1 / (1 + 2·d²)`.
fn trust(open: &[OpenNode<'_>]) -> f64 {
    let (mut sum, mut distance) = (0.0, 0.0);
    for node in open {
        sum += node.prediction.seconds;
        distance += node.prediction.seconds * f64::from(node.prediction.match_level.distance());
    }
    let distance = if sum > 0.0 { distance / sum } else { 0.0 };
    1.0 / (1.0 + 2.0 * distance * distance)
}
