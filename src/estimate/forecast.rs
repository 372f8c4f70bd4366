//! What a job has left: its nodes' predictions, corrected by what they show live.

use std::collections::HashSet;

use jiff::Timestamp;

use super::interval::IntervalWidth;
use super::model::{CostModel, MatchLevel, Prediction, log_ratio, weight};
use super::spread::Spread;
use super::sum::DurationSum;
use crate::job::{Job, NodeTiming, Nodes, Plan, PlannedNode};

/// What is believed of the machine's speed at the start of a job beside what its nodes show, as a
/// share of the job's own seconds.
const SPEED_PRIOR_WEIGHT: f64 = 0.6;

/// How much of the machine's slowness is expected of the next job.
const SLOWNESS_LASTS: f64 = 0.5;

/// What the tick that was predicted counts beside the ticks that are seen, in ticks.
const TICK_PRIOR_WEIGHT: f64 = 1.0;

/// The most of a tick that its silence eats: it is not over before it is heard.
const MAX_TICK_SHARE: f64 = 0.9;

/// What a node that is silent for longer than expected will take still, as a share of its time so far.
const OVERTIME: f64 = 0.4;

/// The share of the expected time that has to be seen before it is evidence: the end of a node that does
/// nothing tells nothing.
const EVIDENCE: f64 = 0.02;

/// What an interval has at least on either side for each node, in seconds.
const JITTER: f64 = 0.02;

/// How many deviations the 10th and 90th percentile of a normal distribution are away from its middle.
const INTERVAL: f64 = 1.28;

/// What a job has left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forecast {
    /// Seconds.
    pub(super) remaining: f64,
    /// Their standard deviation.
    pub(super) deviation: f64,
    /// Whether it rests on anything but the built-in table.
    pub(super) is_founded: bool,
    /// Whether at least half of it is the built-in table's, corrected or not.
    pub(super) is_guess: bool,
}

/// A node whose time is not over.
struct OpenNode<'a> {
    prediction: Prediction,
    /// `None` while it has not begun.
    timing: Option<&'a NodeTiming>,
}

/// The sum over a job's nodes of what is known about its speed.
#[derive(Default)]
struct SpeedEvidence {
    weight: f64,
    residual: f64,
}

impl SpeedEvidence {
    fn add(&mut self, node: &PlannedNode, seconds: f64, expected: f64) {
        let weight = weight(node.role, seconds, expected);
        self.weight += weight;
        self.residual += weight * log_ratio(seconds, expected);
    }
}

impl MatchLevel {
    /// The deviation of what is predicted from such runs, as a share of it.
    fn deviation(self, interval_width: IntervalWidth) -> f64 {
        match self {
            Self::Signature => interval_width.deviation(),
            Self::Class => 0.8,
            Self::OtherBackend => 1.0,
            Self::Role => 1.2,
            Self::Default => 1.5,
        }
    }
}

impl Forecast {
    /// The forecast for a job that runs.
    pub(super) fn of(job: &Job, model: &CostModel, now: Timestamp) -> Self {
        let (backend, nodes) = (job.backend().unwrap_or_default(), job.nodes());
        let mut open: Vec<OpenNode<'_>> = Vec::new();
        let mut speed = SpeedEvidence::default();
        let mut expected = 0.0;
        let mut settled: HashSet<&str> = HashSet::new();
        for (id, node) in job.plan().nodes().rev() {
            let timing = nodes.timing(id);
            if is_settled(id, node, nodes, &settled) {
                settled.insert(id);
            }
            if timing.is_none() && (!node.needed || settled.contains(id)) {
                continue;
            }
            let is_cold = model.is_cold(backend, node, |id| nodes.is_cached(id));
            let prediction = model.predict(backend, node, is_cold);
            expected += prediction.seconds;
            let Some(timing) = timing else {
                open.push(OpenNode { prediction, timing });
                continue;
            };
            let seconds = timing.seconds(now);
            if timing.ended_at.is_some() {
                if !timing.was_missed {
                    speed.add(node, seconds, prediction.seconds);
                }
                continue;
            }
            match (timing.pace(), prediction.tick, timing.ticked_at()) {
                (Some((ticks, seconds)), Some(tick), _) => speed.add(node, seconds, tick * ticks),
                // The first tick tells something before there is a pace.
                (None, Some(tick), Some(at)) => {
                    let seconds = at.duration_since(timing.started_at).as_secs_f64();
                    speed.add(node, seconds, prediction.until(timing, tick));
                }
                _ if seconds > prediction.seconds => speed.add(node, seconds, prediction.seconds),
                _ => {}
            }
            open.push(OpenNode {
                prediction,
                timing: Some(timing),
            });
        }
        // A node that a loop or a subgraph made has a bar of its own, and nothing else is known of it.
        let made = nodes
            .active()
            .filter(|(run, ..)| job.plan().node(run).is_none());
        open.extend(made.map(|(.., timing)| OpenNode {
            prediction: Prediction::UNKNOWN,
            timing: Some(timing),
        }));
        let is_live = speed.weight > EVIDENCE * expected;
        let trust = trust(&open);
        let inertia = SPEED_PRIOR_WEIGHT * expected * trust;
        let known = model.slowness(backend) * SLOWNESS_LASTS;
        let slowness = match speed.weight + inertia {
            weight if weight > 0.0 => (speed.residual + inertia * known) / weight,
            _ => 0.0,
        };
        Self::sum(
            &open,
            slowness.exp(),
            model.interval_width(backend),
            is_live,
            now,
        )
    }

    /// The forecast for a prompt that has not begun, of which only some cached nodes may be known.
    pub(super) fn of_plan(
        backend: &str,
        plan: &Plan,
        cached: &[String],
        model: &CostModel,
    ) -> Self {
        let is_cached = |id: &str| cached.iter().any(|cached| cached == id);
        let waiting = plan.needed().filter(|(id, _)| !is_cached(id));
        let predictions = waiting
            .map(|(_, node)| model.predict(backend, node, model.is_cold(backend, node, is_cached)));
        Self::of_waiting(backend, predictions, model)
    }

    /// The forecast for nodes of which none has begun.
    pub(super) fn of_waiting(
        backend: &str,
        predictions: impl Iterator<Item = Prediction>,
        model: &CostModel,
    ) -> Self {
        let waits = |prediction| OpenNode {
            prediction,
            timing: None,
        };
        let open: Vec<OpenNode<'_>> = predictions.map(waits).collect();
        let slowness = (model.slowness(backend) * SLOWNESS_LASTS).exp();
        let interval_width = model.interval_width(backend);
        Self::sum(
            &open,
            slowness,
            interval_width,
            false,
            Timestamp::UNIX_EPOCH,
        )
    }

    /// The 10th and the 90th percentile.
    pub(super) fn interval(&self) -> (f64, f64) {
        let width = INTERVAL * self.deviation;
        ((self.remaining - width).max(0.0), self.remaining + width)
    }

    /// What waits comes one after the other; what runs, runs at the same time.
    fn sum(
        open: &[OpenNode<'_>],
        slowness: f64,
        interval_width: IntervalWidth,
        is_live: bool,
        now: Timestamp,
    ) -> Self {
        let mut total = DurationSum::default();
        let mut longest: Option<(f64, Spread)> = None;
        let mut in_table = 0.0;
        for node in open {
            let (left, spread) = match node.timing {
                None => node.whole(slowness, interval_width),
                Some(timing) => node.left(timing, slowness, interval_width, now),
            };
            if node.prediction.match_level == MatchLevel::Default {
                in_table += left;
            }
            if node.timing.is_none() {
                total.add(left, spread);
            } else if longest.is_none_or(|(longest, _)| left > longest) {
                longest = Some((left, spread));
            }
        }
        if let Some((left, spread)) = longest {
            total.add(left, spread);
        }
        // The machine's speed is the same for all of them.
        total.sway(interval_width.deviation());
        let remaining = total.middle();
        let is_guess = in_table * 2.0 >= remaining;
        Self {
            remaining,
            deviation: total.deviation(),
            is_founded: is_live || !is_guess,
            is_guess,
        }
    }
}

impl Prediction {
    /// When a node was expected to be as far as its newest tick: what it takes before its first one is
    /// what its ticks leave of its time.
    fn until(&self, timing: &NodeTiming, tick: f64) -> f64 {
        let ticks = self.ticks.unwrap_or_else(|| timing.expected_ticks());
        let left = (ticks - timing.ticks()).max(0.0) * tick;
        (self.seconds - left).max(timing.ticks() * tick)
    }
}

impl OpenNode<'_> {
    /// What a node takes that has not begun.
    fn whole(&self, slowness: f64, interval_width: IntervalWidth) -> (f64, Spread) {
        let seconds = self.prediction.seconds * slowness;
        let deviation = seconds * self.prediction.match_level.deviation(interval_width);
        (seconds, self.spread(slowness, deviation))
    }

    /// As the runs before tell, but with at least this deviation, in seconds.
    fn spread(&self, slowness: f64, deviation: f64) -> Spread {
        let told = self.prediction.spread.scaled(slowness);
        let variance = told.variance.max(even(deviation).variance);
        Spread { variance, ..told }
    }

    /// What a node at work has left.
    fn left(
        &self,
        timing: &NodeTiming,
        slowness: f64,
        interval_width: IntervalWidth,
        now: Timestamp,
    ) -> (f64, Spread) {
        let Prediction {
            seconds,
            tick,
            ticks,
            match_level,
            ..
        } = self.prediction;
        let elapsed = timing.seconds(now);
        let by_time = |silent: f64| {
            let expected = seconds * slowness;
            let left = (expected - elapsed).max(OVERTIME * silent);
            // The nearer its expected end, the less its deviation shrinks with what is left.
            let late = (expected / left.max(1e-3)).sqrt().clamp(1.0, 10.0);
            let share = (left / expected.max(1e-3)).min(1.0);
            let deviation = left * match_level.deviation(interval_width) * late;
            (left, self.spread(slowness * share, deviation))
        };
        let Some(ticked_at) = timing.ticked_at() else {
            return by_time(elapsed);
        };
        let expected = ticks.unwrap_or(0.0).max(timing.expected_ticks());
        let silent = now.duration_since(ticked_at).as_secs_f64().max(0.0);
        // Some work on when their bar is full, such as those that write a video.
        if timing.ticks() >= expected {
            return by_time(silent);
        }
        let (seen, tick, deviation) = match (timing.recent_pace(), tick) {
            (Some((seen, seconds)), Some(tick)) => {
                let tick =
                    (seconds + TICK_PRIOR_WEIGHT * tick * slowness) / (seen + TICK_PRIOR_WEIGHT);
                (seen, tick, interval_width.deviation())
            }
            (Some((seen, seconds)), None) => (seen, seconds / seen, interval_width.deviation()),
            (None, Some(tick)) => (0.0, tick * slowness, match_level.deviation(interval_width)),
            (None, None) => (
                0.0,
                elapsed / timing.ticks(),
                match_level.deviation(interval_width),
            ),
        };
        let left = (expected - timing.ticks()).max(0.0) * tick;
        let left = (left - silent.min(MAX_TICK_SHARE * tick)).max(0.0);
        let by_bar = (left, even(left * deviation / (1.0 + seen / 4.0).sqrt()));
        // How many more bars come is not known: then the time that such nodes take is the better guide.
        match by_time(0.0) {
            by_time if ticks.is_none() && timing.had_bars() && by_time.0 > left => by_time,
            _ => by_bar,
        }
    }
}

/// That of times that are not skewed, by their deviation in seconds.
fn even(deviation: f64) -> Spread {
    Spread {
        excess: 0.0,
        variance: (deviation + JITTER).powi(2),
    }
}

/// Whether a node has run, or will not: it is cached, or all who could have read what it makes have done
/// without, as those behind a switch do.
fn is_settled(id: &str, node: &PlannedNode, nodes: &Nodes, settled: &HashSet<&str>) -> bool {
    let is_idle = || {
        let mut consumers = node.consumers.iter();
        !node.consumers.is_empty() && consumers.all(|reader| settled.contains(reader.as_str()))
    };
    match nodes.timing(id) {
        Some(timing) => timing.ended_at.is_some(),
        None => nodes.is_cached(id) || is_idle(),
    }
}

/// How much the predictions of what is left count beside what the job shows itself.
fn trust(open: &[OpenNode<'_>]) -> f64 {
    let (mut sum, mut distance) = (0.0, 0.0);
    for node in open {
        sum += node.prediction.seconds;
        distance += node.prediction.seconds * f64::from(node.prediction.match_level as u8);
    }
    let distance = if sum > 0.0 { distance / sum } else { 0.0 };
    1.0 / (1.0 + 2.0 * distance * distance)
}
