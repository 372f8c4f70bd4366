//! What waiting jobs have in common: the plans of their graphs, and how long those run on each backend.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::repeat;

use crate::estimate::Estimate;
use crate::job::{Plan, Role};
use crate::placement::{Kind, Runtime};
use crate::relay::backend::Backend;
use crate::relay::backends::Backends;
use crate::relay::estimates::Estimator;
use crate::relay::queue::allowed_backends::AllowedBackends;

/// How many nodes are predicted in one pass, each in about a microsecond.
const MAX_PREDICTED: usize = 5_000;

/// The kinds of the jobs that wait.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    records: Vec<KindRecord>,
    /// For the plan, by the same indices.
    kinds: Vec<Kind>,
    /// By the hash of the plan and of where it may run.
    by_hash: HashMap<u64, Vec<usize>>,
    /// Indices that no job uses.
    free: Vec<usize>,
}

#[derive(Debug)]
struct KindRecord {
    plan: Plan,
    allowed: AllowedBackends,
    hash: u64,
    /// How many jobs are of this kind.
    jobs: usize,
    /// The revisions of the cost model and of the backends for which the estimates hold.
    revision: Option<(u64, u64)>,
    /// The revision of the backends for which it is known where jobs may run.
    placed_at: u64,
    /// By backend.
    estimates: Vec<KindEstimate>,
    /// For the plan, by backend: of what has run there. Guesses for the others follow from the kinds and backends that are known.
    runtimes: Vec<Runtime>,
}

/// How long jobs of a kind run on a backend, from their start to their end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KindEstimate {
    /// Behind a job that has left its models loaded.
    warm: Estimate,
    /// With loading its models.
    cold: Estimate,
}

impl Kinds {
    /// Adds a job of a kind, and returns the kind's index.
    pub(super) fn add(&mut self, plan: Plan, allowed: AllowedBackends) -> usize {
        let hash = hash(&plan, &allowed);
        let same = self.by_hash.get(&hash).into_iter().flatten().copied();
        let mut same = same.filter(|index| {
            let record = &self.records[*index];
            record.plan == plan && record.allowed == allowed
        });
        if let Some(index) = same.next() {
            self.records[index].jobs += 1;
            return index;
        }
        let kind = Kind {
            runtimes: Vec::new(),
            model: model_key(&plan),
        };
        let record = KindRecord {
            plan,
            allowed,
            hash,
            jobs: 1,
            revision: None,
            placed_at: 0,
            estimates: Vec::new(),
            runtimes: Vec::new(),
        };
        let index = match self.free.pop() {
            Some(index) => {
                (self.records[index], self.kinds[index]) = (record, kind);
                index
            }
            None => {
                self.records.push(record);
                self.kinds.push(kind);
                self.records.len() - 1
            }
        };
        self.by_hash.entry(hash).or_default().push(index);
        index
    }

    /// Removes a job of a kind.
    pub(super) fn remove(&mut self, index: usize) {
        let record = &mut self.records[index];
        record.jobs -= 1;
        if record.jobs > 0 {
            return;
        }
        record.plan = Plan::default();
        let hash = record.hash;
        if let Some(same) = self.by_hash.get_mut(&hash) {
            same.retain(|other| *other != index);
            if same.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        self.free.push(index);
    }

    /// Brings the estimates up to date with what was learned, as far as one pass may take; the rest stays as it was until the
    /// next one.
    pub(super) fn refresh(&mut self, backends: &Backends, estimator: &Estimator) {
        let revision = (estimator.learning.revision(), backends.revision());
        let mut predicted = 0;
        for (record, kind) in self.records.iter_mut().zip(&mut self.kinds) {
            let is_current = record.revision == Some(revision);
            // Of those without any, at least one backend must be known.
            let is_late = record.revision.is_some() && predicted > MAX_PREDICTED;
            if record.jobs == 0 || is_current {
                continue;
            }
            if is_late {
                // Where they may run is known at once, and how long is guessed.
                if record.placed_at != backends.revision() {
                    record.placed_at = backends.revision();
                    kind.runtimes = record.runtimes(backends);
                }
                continue;
            }
            predicted += record.plan.nodes().count() * backends.iter().count() * 2;
            record.predict(backends, estimator);
            record.revision = Some(revision);
            record.placed_at = backends.revision();
            kind.runtimes = record.runtimes(backends);
        }
    }

    /// The plan of a kind, and where its jobs may run.
    pub(super) fn parts(&self, index: usize) -> (Plan, AllowedBackends) {
        let record = &self.records[index];
        (record.plan.clone(), record.allowed.clone())
    }

    /// For the plan.
    pub(super) fn as_slice(&self) -> &[Kind] {
        &self.kinds
    }

    /// The key of the model with which a kind works.
    pub(super) fn model(&self, index: usize) -> Option<u64> {
        self.kinds[index].model
    }

    /// How long a job of a kind runs on a backend, behind one that has left this model.
    pub(super) fn estimate(&self, index: usize, backend: usize, model: Option<u64>) -> Estimate {
        let estimates = self.records[index].estimates.get(backend);
        let estimates = estimates.copied().unwrap_or_default();
        let is_warm = model.is_some() && model == self.kinds[index].model;
        if is_warm {
            estimates.warm
        } else {
            estimates.cold
        }
    }

    /// Why no backend can run jobs of a kind, as a part of a sentence.
    pub(super) fn lack(&self, index: usize, backends: &Backends) -> String {
        self.records[index].allowed.lack(backends)
    }

    /// Whether a backend may run jobs of a kind, and has the node classes for them, as far as they are known.
    pub(super) fn can_run(&self, index: usize, backend: usize) -> bool {
        let runtimes = &self.kinds[index].runtimes;
        runtimes.get(backend).is_some_and(Option::is_some)
    }
}

impl KindRecord {
    fn predict(&mut self, backends: &Backends, estimator: &Estimator) {
        let loaded: Vec<String> = loaders(&self.plan).map(|(id, _)| id.to_owned()).collect();
        let plan = &self.plan;
        let estimates = backends.slots().map(|backend| {
            if backend.is_removed() {
                return KindEstimate::default();
            }
            KindEstimate {
                warm: estimator.predict(backend, plan, &loaded),
                cold: estimator.predict(backend, plan, &[]),
            }
        });
        self.estimates = estimates.collect();
        let known = |backend: &Backend, loaded: &[String], estimate: Estimate| {
            let seconds = estimate
                .remaining
                .filter(|_| estimator.is_known(backend, plan, loaded));
            seconds.unwrap_or(f64::NAN)
        };
        let estimated = backends.slots().zip(&self.estimates);
        let runtimes = estimated.map(|(backend, estimate)| Runtime {
            warm: known(backend, &loaded, estimate.warm),
            cold: known(backend, &[], estimate.cold),
        });
        self.runtimes = runtimes.collect();
    }

    /// Where it may run, and how long.
    fn runtimes(&self, backends: &Backends) -> Vec<Option<Runtime>> {
        let may_run = |backend: &Backend| !backend.is_removed() && self.allowed.contains(backend);
        let unknown = Runtime {
            warm: f64::NAN,
            cold: f64::NAN,
        };
        let known = self.runtimes.iter().copied().chain(repeat(unknown));
        let runtimes = backends.slots().zip(known);
        let runtimes = runtimes.map(|(backend, runtime)| may_run(backend).then_some(runtime));
        runtimes.collect()
    }
}

/// The nodes of a plan that load models.
fn loaders(plan: &Plan) -> impl Iterator<Item = (&str, &str)> {
    let needed = plan.needed();
    let loaders = needed.filter(|(_, node)| node.role == Role::Loader);
    loaders.map(|(id, node)| (id, node.signature.as_str()))
}

/// Plans that load the same models have the same key; `None` of a plan that loads none.
fn model_key(plan: &Plan) -> Option<u64> {
    let mut signatures: Vec<&str> = loaders(plan).map(|(_, signature)| signature).collect();
    signatures.sort_unstable();
    let mut hasher = DefaultHasher::new();
    signatures.hash(&mut hasher);
    (!signatures.is_empty()).then(|| hasher.finish())
}

fn hash(plan: &Plan, allowed: &AllowedBackends) -> u64 {
    let mut hasher = DefaultHasher::new();
    allowed.hash(&mut hasher);
    for (id, node) in plan.nodes() {
        (id, &node.signature).hash(&mut hasher);
    }
    hasher.finish()
}
