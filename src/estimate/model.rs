use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::conditions::Conditions;
use super::costs::Costs;
use super::host::host;
use super::interval::IntervalWidth;
use super::level_evidence::{JobSpeedEvidence, LevelDeviations};
use super::message_cost::MessageCost;
use super::neighbours::NeighbourVariances;
use super::past_run::PastRun;
use super::prediction::{MatchLevel, Prediction};
use super::samples::{Cost, ExpectedCost};
use super::service::{ServiceFigures, ServiceTrust};
use super::speed::{PersistentShift, SpeedFactor};
use super::speed_day::SpeedDay;
use super::speed_weights::SpeedWeights;
use crate::job::{Job, PlannedNode, Role};

/// What finished nodes cost, by backend. Deterministic: the same runs in the same order give the same
/// model.
///
/// A node is predicted from the runs that match it most closely: those of its signature, then of its
/// class (scaled by units of work), on its backend and then on all; then those of its role; then a
/// built-in table. Costs are stored at the backend's usual speed.
///
/// Backends on the same host share a machine: its speed of the moment, and how far its jobs are off.
/// A persistent change, such as another graphics card, belongs to one backend.
#[derive(Debug, Clone, Default)]
pub struct CostModel {
    backends: HashMap<String, BackendCosts>,
    machines: HashMap<String, Machine>,
    everywhere: Costs,
    /// By the class of the partner node, whichever backend asks the service.
    services: HashMap<String, ServiceFigures>,
    weights: SpeedWeights,
}

/// What is known of a host.
#[derive(Debug, Clone, Default)]
struct Machine {
    /// The runs on all its backends.
    costs: Costs,
    speed: SpeedFactor,
    interval_width: IntervalWidth,
    message_cost: MessageCost,
    variances: NeighbourVariances,
    deviations: LevelDeviations,
}

/// What is known of one backend.
#[derive(Debug, Clone, Default)]
struct BackendCosts {
    costs: Costs,
    shift: PersistentShift,
    day: SpeedDay,
    /// The signatures of the loaders that the last job used: their models are in memory.
    loaded: Vec<String>,
    /// The classes of nodes that let others run beside them.
    parallel: HashSet<String>,
}

/// What a job that ended shows of its backend.
pub(super) struct JobEvidence<'a> {
    pub(super) runs: Vec<ObservedRun<'a>>,
    /// Whether the job ended inside the interval at its start; `None` if that cannot be judged.
    pub(super) was_inside: Option<bool>,
    /// The signatures of the loaders that it used.
    pub(super) loaded: Vec<String>,
    /// When it ended, if that is known.
    pub(super) ended_at: Option<Timestamp>,
}

/// One run of a node, and what was predicted of it.
pub(super) struct ObservedRun<'a> {
    pub(super) node: PlannedNode,
    pub(super) run: &'a PastRun<'a>,
    pub(super) prediction: Prediction,
}

/// The runs that match a node most closely.
struct ClosestRuns {
    expected: ExpectedCost,
    match_level: MatchLevel,
    /// Whether the size of the node's images is in what is expected.
    is_sized: bool,
}

impl ObservedRun<'_> {
    /// Whether its residual shows the machine's speed.
    fn shows_speed(&self) -> bool {
        self.prediction.match_level <= MatchLevel::OtherBackend
            && self.prediction.shows_speed
            && self.run.calls.is_some()
    }
}

impl CostModel {
    /// A model with other weights than those in use.
    pub fn with_weights(weights: SpeedWeights) -> Self {
        Self {
            weights,
            ..Self::default()
        }
    }

    /// Learns from a job that ended.
    pub(super) fn update(&mut self, backend: &str, job: JobEvidence<'_>) {
        let log_factor = self.learn_log_factor(backend, &job.runs);
        let factor = (log_factor * self.weights.trust + self.persistent_shift(backend)).exp();
        for ObservedRun { node, run, .. } in &job.runs {
            let cost = Cost {
                seconds: run.seconds,
                tick: run.tick,
                ticks: run.ticks,
            };
            let usual = cost.scaled(1.0 / factor);
            self.learn_variances(backend, node, run.is_cold, usual.seconds);
            for costs in self.costs_mut(backend) {
                match run.calls {
                    Some(_) => costs.add(node, run.is_cold, usual),
                    None => costs.add_by_signature(node, run.is_cold, usual),
                }
            }
        }
        let shows_speed = job.runs.iter().any(ObservedRun::shows_speed);
        let own = self.backends.entry(backend.to_owned()).or_default();
        let machine = self.machines.entry(host(backend).to_owned()).or_default();
        if let Some(was_inside) = job.was_inside {
            machine.interval_width.calibrate(was_inside);
        }
        if shows_speed {
            if let Some(ended_at) = job.ended_at {
                own.day.add(ended_at, own.shift.log_factor() + log_factor);
            }
            let change = own.shift.learn(log_factor, &machine.speed);
            machine.speed.learn(log_factor);
            if let Some(change) = change {
                machine.speed.unlearn(change);
            }
        }
        own.loaded = job.loaded;
    }

    /// The log speed factor that the runs of a job show beside the backend's persistent shift. How far each match level
    /// was off is learned.
    fn learn_log_factor(&mut self, backend: &str, runs: &[ObservedRun<'_>]) -> f64 {
        let prior = self.log_speed_factor(backend);
        let mut evidence = JobSpeedEvidence::default();
        for ObservedRun {
            node,
            run,
            prediction,
        } in runs.iter().filter(|run| run.shows_speed())
        {
            let level = prediction.match_level;
            evidence.add(level, node.role, run.seconds, prediction.seconds);
        }
        let machine = self.machines.entry(host(backend).to_owned()).or_default();
        let log_factor = evidence.log_factor(prior, self.weights.prior, &machine.deviations);
        machine.deviations.learn(&evidence, prior);
        log_factor
    }

    /// Learns from a job whose nodes' costs are guesses: they do not show the machine's speed.
    pub(super) fn update_from_guesses(
        &mut self,
        backend: &str,
        runs: Vec<(&PlannedNode, bool, Cost)>,
        loaded: Vec<String>,
    ) {
        let factor = self.persistent_shift(backend).exp();
        for costs in self.costs_mut(backend) {
            for (node, is_cold, cost) in &runs {
                costs.add(node, *is_cold, cost.scaled(1.0 / factor));
            }
        }
        let own = self.backends.entry(backend.to_owned()).or_default();
        own.loaded = loaded;
    }

    /// Learns how well a backend's own runs, and those of its machine, predict a run.
    fn learn_variances(&mut self, backend: &str, node: &PlannedNode, is_cold: bool, seconds: f64) {
        let own = self.backends.get(backend);
        let own = own.and_then(|own| own.costs.by_signature(node, is_cold));
        let Some(machine) = self.machines.get_mut(host(backend)) else {
            return;
        };
        let all = machine.costs.by_signature(node, is_cold);
        if let (Some(own), Some(all)) = (own, all)
            && own.runs != all.runs
        {
            machine
                .variances
                .learn(seconds, own.cost.seconds, all.cost.seconds);
        }
    }

    /// Where a run on a backend is added: its own costs, its machine's, and those of all backends.
    fn costs_mut(&mut self, backend: &str) -> [&mut Costs; 3] {
        let machine = self.machines.entry(host(backend).to_owned()).or_default();
        let own = self.backends.entry(backend.to_owned()).or_default();
        [&mut own.costs, &mut machine.costs, &mut self.everywhere]
    }

    /// Whether a node has to wait for its models to be read from the disk. A loader is warm if the job
    /// before it on the backend used the same file; any other node is warm if none of its loaders runs.
    pub(super) fn is_cold(
        &self,
        backend: &str,
        node: &PlannedNode,
        is_cached: impl Fn(&str) -> bool,
    ) -> bool {
        if node.role == Role::Loader {
            let loaded = self.backends.get(backend).map(|own| &own.loaded);
            return !loaded.is_some_and(|loaded| loaded.contains(&node.signature));
        }
        node.loaders.iter().any(|loader| !is_cached(loader))
    }

    /// What a node is expected to cost on a backend, from the runs that match it most closely.
    pub(super) fn predict(&self, backend: &str, node: &PlannedNode, is_cold: bool) -> Prediction {
        let Some(closest) = self.closest_runs(backend, node, is_cold) else {
            return Prediction {
                service: self.service_trust(node),
                ..Prediction::from_table(node, is_cold)
            };
        };
        let shift = self.persistent_shift(backend).exp();
        let ExpectedCost { cost, spread, runs } = closest.expected.scaled(shift);
        let is_counted = !node.is_partner;
        Prediction {
            seconds: cost.seconds,
            tick: cost.tick.filter(|_| is_counted),
            ticks: cost.ticks.filter(|_| is_counted),
            spread,
            match_level: closest.match_level,
            runs,
            is_cold,
            shows_speed: closest.is_sized,
            is_parallel: self.is_parallel(backend, &node.class_type),
            service: self.service_trust(node),
        }
    }

    /// Learns how far the figure of a service was off: it was to take `stated` seconds in all.
    pub(super) fn learn_figure(&mut self, class: &str, stated: f64, took: f64) {
        let figures = self.services.entry(class.to_owned()).or_default();
        figures.learn(stated, took);
    }

    fn service_trust(&self, node: &PlannedNode) -> ServiceTrust {
        let figures = self.services.get(&node.class_type);
        figures.map_or(ServiceTrust::PRIOR, ServiceFigures::trust)
    }

    /// Notes classes of nodes that let others run beside them.
    pub(super) fn add_parallel<'a>(
        &mut self,
        backend: &str,
        classes: impl Iterator<Item = &'a str>,
    ) {
        let mut classes = classes.map(str::to_owned).peekable();
        if classes.peek().is_some() {
            let own = self.backends.entry(backend.to_owned()).or_default();
            own.parallel.extend(classes);
        }
    }

    fn is_parallel(&self, backend: &str, class: &str) -> bool {
        let own = self.backends.get(backend);
        own.is_some_and(|own| own.parallel.contains(class))
    }

    /// What a node of a job is expected to cost.
    pub(super) fn predict_in(&self, job: &Job, node: &PlannedNode) -> Prediction {
        let backend = job.backend().unwrap_or_default();
        let is_cold = self.is_cold(backend, node, |id| job.nodes().is_cached(id));
        self.predict(backend, node, is_cold)
    }

    fn closest_runs(
        &self,
        backend: &str,
        node: &PlannedNode,
        is_cold: bool,
    ) -> Option<ClosestRuns> {
        let own = self.backends.get(backend).map(|own| &own.costs);
        let all = Some(&self.everywhere);
        let exact = |costs: &Costs, match_level| {
            Some(ClosestRuns {
                expected: costs.by_signature(node, is_cold)?,
                match_level,
                is_sized: true,
            })
        };
        let alike = |costs: &Costs, match_level| {
            let class = costs.by_class(node, is_cold)?;
            Some(ClosestRuns {
                expected: class.expected,
                match_level,
                is_sized: class.is_sized,
            })
        };
        let by_role = |costs: &Costs| {
            Some(ClosestRuns {
                expected: costs.by_role(node, is_cold)?,
                match_level: MatchLevel::Role,
                is_sized: node.units.is_some(),
            })
        };
        let own_exact = own.and_then(|own| exact(own, MatchLevel::Signature));
        own_exact
            .map(|closest| ClosestRuns {
                expected: self.shrunk_to_neighbours(backend, node, is_cold, closest.expected),
                ..closest
            })
            .or_else(|| own.and_then(|own| alike(own, MatchLevel::Class)))
            .or_else(|| all.and_then(|all| exact(all, MatchLevel::OtherBackend)))
            .or_else(|| all.and_then(|all| alike(all, MatchLevel::OtherBackend)))
            .or_else(|| own.and_then(by_role))
            .or_else(|| all.and_then(by_role))
    }

    /// A backend's own expectation from `n` runs, shrunk to the one of its machine with the weight
    /// `n₀`: `ln m = (n·ln own + n₀·ln machine) / (n + n₀)`.
    fn shrunk_to_neighbours(
        &self,
        backend: &str,
        node: &PlannedNode,
        is_cold: bool,
        own: ExpectedCost,
    ) -> ExpectedCost {
        let runs = self.backends.get(backend);
        let runs = runs.map_or(0, |known| known.costs.runs(node, is_cold)) as f64;
        let machine = self.machines.get(host(backend));
        let weight = machine.map_or(1.0, |machine| machine.variances.weight());
        let share = weight / (runs + weight);
        let neighbours = machine.and_then(|machine| machine.costs.by_signature(node, is_cold));
        neighbours.map_or(own, |neighbours| own.shrunk_to(neighbours, share))
    }

    /// What holds for all nodes of a job on the backend.
    pub(super) fn conditions(&self, backend: &str) -> Conditions {
        Conditions {
            log_speed_factor: self.log_speed_factor(backend),
            persistent_shift: self.persistent_shift(backend),
            width: self.interval_width(backend),
            message_cost: self.message_cost(backend),
            weights: self.weights,
        }
    }

    /// How many times as long as usual jobs took on a backend in each of the last 24 hours: medians, the current hour
    /// last, `None` for an hour without jobs. Empty if there is none.
    pub fn speed_of_day(&self, backend: &str, now: Timestamp) -> Vec<Option<f64>> {
        let own = self.backends.get(backend);
        own.map_or_else(Vec::new, |own| own.day.factors(now))
    }

    /// What the messages about the nodes of a job cost on the backend's machine.
    pub(super) fn message_cost(&self, backend: &str) -> MessageCost {
        let machine = self.machines.get(host(backend));
        machine.map_or_else(MessageCost::default, |machine| machine.message_cost)
    }

    /// Learns what the messages cost from the seconds of a job's nodes, in the order of their starts.
    pub(super) fn learn_message_cost(&mut self, backend: &str, seconds: &[f64]) {
        let machine = self.machines.entry(host(backend).to_owned()).or_default();
        machine.message_cost.learn(seconds);
    }

    /// How far jobs of known workflows are off on the backend's machine.
    fn interval_width(&self, backend: &str) -> IntervalWidth {
        self.machines
            .get(host(backend))
            .map_or_else(IntervalWidth::default, |machine| machine.interval_width)
    }

    /// By how much the backend's speed has changed for good, as a log factor.
    fn persistent_shift(&self, backend: &str) -> f64 {
        let own = self.backends.get(backend);
        own.map_or(0.0, |own| own.shift.log_factor())
    }

    /// The log speed factor that the next job on the backend's machine is expected to have, beside the
    /// persistent shift.
    pub(super) fn log_speed_factor(&self, backend: &str) -> f64 {
        self.machines
            .get(host(backend))
            .map_or(0.0, |machine| machine.speed.log_factor())
    }
}
