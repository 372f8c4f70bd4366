//! What nodes cost, learned from those that have run.

use std::collections::HashMap;

use super::costs::Costs;
use super::forecast::Forecast;
use super::interval::IntervalWidth;
use super::level::PersistentShift;
use super::samples::{Cost, ExpectedCost};
use super::speed::SpeedFactor;
use super::spread::Spread;
use super::training::PastRun;
use crate::job::{Job, NodeRun, NodeState, PlannedNode, Role, Status};

/// What is believed of a machine's speed beside what the nodes of one job show, in seconds of work.
const SPEED_PRIOR_WEIGHT: f64 = 1.0;

/// What the residual at a node tells of the machine's speed for each step that its prediction came from
/// farther away: more of it is then the node's own, and the less of it counts.
const MATCH_DISCOUNT: f64 = 0.5;

/// The share of a job's own slowness that is taken out of its costs: the rest is the nodes' own.
const SPEED_TRUST: f64 = 0.9;

/// What the runs on the other servers of a machine count beside a server's own, in runs.
const NEIGHBOUR_RUNS: f64 = 1.0;

/// The shortest job that tells how far jobs are off, in seconds: below it frames measure their own delays.
const SHORTEST_TOLD: f64 = 0.3;

/// The largest factor that is believed between what was expected and what came, as a logarithm.
const MAX_RESIDUAL: f64 = 2.5;

/// What finished nodes cost, by backend. Deterministic: the same runs in the same order give the same
/// model.
///
/// A node is looked up by its signature, then by its class (scaled by its units), on its backend, then
/// on all of them; then by its role. A built-in table is the last word.
///
/// Servers on one machine share its speed, and what is slow on one now is slow on the others: all ports
/// of a host are one machine. What lasts, such as another graphics card, is a server's own.
#[derive(Debug, Clone, Default)]
pub struct CostModel {
    backends: HashMap<String, BackendCosts>,
    machines: HashMap<String, Machine>,
    everywhere: Costs,
}

#[derive(Debug, Clone, Default)]
struct Machine {
    /// Of all its servers.
    costs: Costs,
    slowness: SpeedFactor,
    interval_width: IntervalWidth,
}

#[derive(Debug, Clone, Default)]
struct BackendCosts {
    costs: Costs,
    level: PersistentShift,
    /// The signatures of the loaders that the last job used: their models are warm.
    loaded: Vec<String>,
}

/// How near the runs were that a prediction is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchLevel {
    /// Runs of the same signature on the same backend.
    Signature,
    /// Runs of the same class.
    Class,
    /// Runs on other backends.
    OtherBackend,
    /// Runs of other classes with the same role.
    Role,
    /// None: the built-in table.
    Default,
}

/// What a node is expected to cost at the backend's usual speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prediction {
    pub(super) seconds: f64,
    pub(super) tick: Option<f64>,
    pub(super) ticks: Option<f64>,
    /// Of the seconds, as far as runs tell.
    pub(super) spread: Spread,
    pub(super) match_level: MatchLevel,
}

impl Prediction {
    /// Of a node of which not even the class is known.
    pub(super) const UNKNOWN: Self = Self {
        seconds: 0.0,
        tick: None,
        ticks: None,
        spread: Spread {
            excess: 0.0,
            variance: 0.0,
        },
        match_level: MatchLevel::Default,
    };
}

impl CostModel {
    /// Takes note of what the nodes of a job that is over have cost.
    pub fn learn(&mut self, job: &Job) {
        let (Some(name), Some(_)) = (job.backend(), job.started_at()) else {
            return;
        };
        let runs: Vec<PastRun<'_>> = self.runs(job).into_iter().map(|(_, run)| run).collect();
        let cached = job.plan().needed();
        let cached = cached.filter(|(id, _)| job.nodes().is_cached(id));
        let cached: Vec<&PlannedNode> = cached.map(|(_, node)| node).collect();
        if runs.is_empty() && cached.is_empty() {
            return;
        }
        // A loader that the job did not come to has loaded nothing.
        let ran = runs.iter().map(|run| (run.class, run.signature));
        let cached = cached
            .iter()
            .map(|node| (&*node.class_type, &*node.signature));
        let loaded = loaders(ran.chain(cached));
        self.take(name, &runs, loaded);
    }

    /// What there is to learn of a job that is over: the runs of its nodes by their ids, in the order
    /// of their starts.
    pub fn runs<'a>(&self, job: &'a Job) -> Vec<(&'a str, PastRun<'a>)> {
        let (Some(name), Some(work_done_at)) = (job.backend(), job.work_done_at()) else {
            return Vec::new();
        };
        let is_finished = |run: &NodeRun<'_>| {
            run.state == NodeState::Finished
                && (job.status() == Status::Completed
                    || run.ended_at.is_some_and(|end| end < work_done_at))
        };
        let ran = job.runs().into_iter().filter(is_finished);
        let ran = ran.filter_map(|run| {
            let timing = job.nodes().timing(run.id)?;
            let node = job.plan().node(run.id)?;
            (!timing.was_missed).then_some((run, node, timing))
        });
        let runs = ran.map(|(ran, node, timing)| {
            let pace = timing.pace();
            let run = PastRun {
                class: &node.class_type,
                signature: &node.signature,
                units: Some(node.units),
                steps: node.steps,
                is_cold: self.is_cold(name, node, |id| job.nodes().is_cached(id)),
                is_cached: false,
                seconds: ran.seconds(work_done_at),
                tick: pace.map(|(ticks, seconds)| seconds / ticks),
                ticks: Some(timing.ticks()).filter(|ticks| *ticks > 0.0),
            };
            (ran.id, run)
        });
        runs.collect()
    }

    /// Takes note of the runs of one job, in their order, as far as they can be true, and of the
    /// signatures of the loaders that it used.
    pub(super) fn take(&mut self, name: &str, runs: &[PastRun<'_>], loaded: Vec<String>) {
        let runs: Vec<(PlannedNode, &PastRun<'_>)> = runs
            .iter()
            .filter(|run| run.is_sound())
            .map(|run| (run.node(), run))
            .collect();
        let predictions = runs
            .iter()
            .map(|(node, run)| self.predict(name, node, run.is_cold));
        let predictions: Vec<Prediction> = predictions.collect();
        let (mut weights, mut residual) =
            (SPEED_PRIOR_WEIGHT, SPEED_PRIOR_WEIGHT * self.slowness(name));
        let mut is_judged = false;
        for ((node, run), expected) in runs.iter().zip(&predictions) {
            // Where its work is not known, nothing can be expected of it.
            if expected.match_level <= MatchLevel::OtherBackend && run.units.is_some() {
                let weight = weight(node.role, run.seconds, expected.seconds)
                    * MATCH_DISCOUNT.powi(expected.match_level as i32);
                weights += weight;
                residual += weight * log_ratio(run.seconds, expected.seconds);
                is_judged = true;
            }
        }
        let took: f64 = runs.iter().map(|(_, run)| run.seconds).sum();
        let is_inside = self.is_inside(name, &predictions, took);
        let slowness = residual / weights;
        let pace = (slowness * SPEED_TRUST + self.level(name)).exp();
        let backend = self.backends.entry(name.to_owned()).or_default();
        let machine = self.machines.entry(host(name).to_owned()).or_default();
        for (node, run) in runs {
            let cost = Cost {
                seconds: run.seconds,
                tick: run.tick,
                ticks: run.ticks,
            };
            let usual = cost.slowed(1.0 / pace);
            for costs in [&mut backend.costs, &mut machine.costs, &mut self.everywhere] {
                match run.units {
                    Some(_) => costs.add(&node, run.is_cold, usual),
                    None => costs.add_exact(&node, run.is_cold, usual),
                }
            }
        }
        if let Some(is_inside) = is_inside {
            machine.interval_width.learn(is_inside);
        }
        if is_judged {
            let change = backend.level.note(slowness, &machine.slowness);
            machine.slowness.learn(slowness);
            if let Some(change) = change {
                machine.slowness.unlearn(change);
            }
        }
        backend.loaded = loaded;
    }

    /// Whether nodes took as many seconds altogether as would have been told before they began; `None`
    /// where they are not all known.
    fn is_inside(&self, name: &str, predictions: &[Prediction], seconds: f64) -> Option<bool> {
        let is_known = |prediction: &Prediction| prediction.match_level == MatchLevel::Signature;
        let (low, high) = Forecast::of_waiting(name, predictions.iter().copied(), self).interval();
        (seconds >= SHORTEST_TOLD && predictions.iter().all(is_known))
            .then(|| (low..=high).contains(&seconds))
    }

    /// Takes note of a whole prompt of which only the costs of its nodes are guessed: a backend's speed
    /// is not judged by it.
    pub(super) fn take_guess(
        &mut self,
        name: &str,
        runs: Vec<(&PlannedNode, bool, Cost)>,
        loaded: Vec<String>,
    ) {
        let pace = self.level(name).exp();
        for costs in self.costs_mut(name) {
            for (node, is_cold, cost) in &runs {
                costs.add(node, *is_cold, cost.slowed(1.0 / pace));
            }
        }
        let backend = self.backends.entry(name.to_owned()).or_default();
        backend.loaded = loaded;
    }

    /// All the books in which a run on a backend stands.
    fn costs_mut(&mut self, backend: &str) -> [&mut Costs; 3] {
        let machine = self.machines.entry(host(backend).to_owned()).or_default();
        let own = self.backends.entry(backend.to_owned()).or_default();
        [&mut own.costs, &mut machine.costs, &mut self.everywhere]
    }

    /// Whether a node finds its models on the disk only. A loader is warm where the job before it on
    /// the backend needed the same file; any other node is warm where no loader of its runs.
    pub(super) fn is_cold(
        &self,
        backend: &str,
        node: &PlannedNode,
        is_cached: impl Fn(&str) -> bool,
    ) -> bool {
        if node.role == Role::Loader {
            let loaded = self.backends.get(backend).map(|backend| &backend.loaded);
            return !loaded.is_some_and(|loaded| loaded.contains(&node.signature));
        }
        node.loaders.iter().any(|loader| !is_cached(loader))
    }

    pub(super) fn predict(&self, backend: &str, node: &PlannedNode, is_cold: bool) -> Prediction {
        let own = self.backends.get(backend).map(|backend| &backend.costs);
        let all = Some(&self.everywhere);
        let look = |costs: Option<&Costs>,
                    by: fn(&Costs, &PlannedNode, bool) -> Option<ExpectedCost>| {
            by(costs?, node, is_cold)
        };
        let near = |match_level: MatchLevel| move |expected: ExpectedCost| (expected, match_level);
        let machine = self
            .machines
            .get(host(backend))
            .map(|machine| &machine.costs);
        let beside = |own_runs: ExpectedCost| {
            let runs = own.map_or(0, |own| own.runs(node, is_cold)) as f64;
            let share = NEIGHBOUR_RUNS / (runs + NEIGHBOUR_RUNS);
            let neighbours = look(machine, Costs::exact);
            neighbours.map_or(own_runs, |neighbours| own_runs.toward(neighbours, share))
        };
        let found = (look(own, Costs::exact)
            .map(beside)
            .map(near(MatchLevel::Signature)))
        .or_else(|| look(own, Costs::class).map(near(MatchLevel::Class)))
        .or_else(|| look(all, Costs::exact).map(near(MatchLevel::OtherBackend)))
        .or_else(|| look(all, Costs::class).map(near(MatchLevel::OtherBackend)))
        .or_else(|| look(own, Costs::role).map(near(MatchLevel::Role)))
        .or_else(|| look(all, Costs::role).map(near(MatchLevel::Role)));
        let from_table = Prediction {
            seconds: usual_seconds(node.role) * node.units,
            ..Prediction::UNKNOWN
        };
        found.map_or(from_table, |(expected, match_level)| {
            let ExpectedCost { cost, spread } = expected.slowed(self.level(backend).exp());
            Prediction {
                seconds: cost.seconds,
                tick: cost.tick,
                ticks: cost.ticks,
                spread,
                match_level,
            }
        })
    }

    /// How far known nodes are off on a backend's machine.
    pub(super) fn interval_width(&self, backend: &str) -> IntervalWidth {
        self.machines
            .get(host(backend))
            .map_or_else(IntervalWidth::default, |machine| machine.interval_width)
    }

    /// How much slower a backend has become for good, as a logarithm.
    fn level(&self, backend: &str) -> f64 {
        let backend = self.backends.get(backend);
        backend.map_or(0.0, |backend| backend.level.now())
    }

    /// How much slower a backend's machine is now than its costs say, as a logarithm.
    pub(super) fn slowness(&self, backend: &str) -> f64 {
        self.machines
            .get(host(backend))
            .map_or(0.0, |machine| machine.slowness.now())
    }
}

/// The signatures of those nodes that load models, of nodes by their classes and signatures.
pub(super) fn loaders<'a>(nodes: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let loaders = nodes.filter(|(class, _)| Role::of(class) == Role::Loader);
    loaders.map(|(_, signature)| signature.to_owned()).collect()
}

/// The machine that a backend runs on: its name without port and path.
fn host(backend: &str) -> &str {
    let authority = backend
        .split_once('/')
        .map_or(backend, |(before, _)| before);
    match authority.rsplit_once(':') {
        // An address such as [::1] has colons of its own.
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

/// Seconds for one unit of work on a common machine. Only the ratios matter: the first nodes that
/// finish show the machine's speed.
fn usual_seconds(role: Role) -> f64 {
    match role {
        Role::Loader => 2.0,
        Role::Sampler | Role::Vae => 0.5,
        Role::Text => 0.3,
        Role::Upscale => 2.0,
        Role::Save => 0.2,
        Role::Other => 0.02,
    }
}

/// What a node's time tells of the machine's speed: much where it computes, little where it reads or
/// writes files. One that takes far longer than expected is an accident of its own.
pub(super) fn weight(role: Role, seconds: f64, expected: f64) -> f64 {
    let time = seconds.min(3.0 * expected) + expected;
    match role {
        Role::Loader | Role::Save => 0.05 * time,
        _ => time,
    }
}

pub(super) fn log_ratio(seconds: f64, expected: f64) -> f64 {
    (seconds.max(1e-3) / expected.max(1e-3))
        .ln()
        .clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn all_ports_of_a_host_are_one_machine() {
        assert_eq!(host("box:8188"), "box");
        assert_eq!(host("box:8188/comfy"), "box");
        assert_eq!(host("box/comfy:2"), "box");
        assert_eq!(host("[::1]:8188"), "[::1]");
        assert_eq!(host("[::1]"), "[::1]");
    }
}
