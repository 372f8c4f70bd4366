use super::kind::Kind;

/// What a job counts for as long as no runtime is known at all, in seconds. Only the ratio to other guesses
/// matters, and all of them are the same then.
const SECONDS_OF_UNKNOWN: f64 = 1.0;

/// From how many kinds the slowness of backends is read: more show the same.
const MAX_KINDS: usize = 256;

/// The rounds of the fit. Each at least halves the error where kinds and backends overlap.
const ROUNDS: usize = 20;

/// Stands in for runtimes that are not known: the usual runtime of the kind times how much longer than usual the
/// backend takes.
///
/// `ln runtime = usual + slowness` is fitted to the known runtimes by least squares, in turn over kinds and backends.
#[derive(Debug)]
pub(super) struct Guesses {
    backends: Vec<Slowness>,
    /// The seconds of a run on a usual backend, by kind; `None` of kinds that are known nowhere.
    usual: Vec<Option<f64>>,
    /// The mean over kinds.
    mean: f64,
}

/// How many times as long as on a usual backend jobs take on a backend.
#[derive(Debug, Clone, Copy)]
struct Slowness {
    factor: f64,
    /// Whether a kind that is known on it is known on another one as well.
    is_compared: bool,
}

/// A runtime in place of one that is not known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guess {
    pub(super) seconds: f64,
    /// Whether the kind is known elsewhere, and the backend is compared with others: good enough to be published.
    pub(super) is_derived: bool,
}

/// A known runtime.
struct KnownRuntime {
    kind: usize,
    backend: usize,
    log: f64,
}

impl Guesses {
    pub(super) fn of(backends: usize, kinds: &[Kind]) -> Self {
        let compared = kinds.iter().take(MAX_KINDS).enumerate();
        let logs = compared.flat_map(|(kind, one)| {
            known(one, backends).map(move |(backend, log)| KnownRuntime { kind, backend, log })
        });
        let slowness = fit(&logs.collect::<Vec<_>>(), backends);
        let usual = kinds.iter().map(|kind| {
            let logs = known(kind, backends);
            let at_usual = logs.map(|(backend, log)| log - slowness[backend].factor.ln());
            mean(at_usual).map(f64::exp)
        });
        let usual: Vec<Option<f64>> = usual.collect();
        Self {
            mean: mean(usual.iter().copied().flatten()).unwrap_or(SECONDS_OF_UNKNOWN),
            backends: slowness,
            usual,
        }
    }

    /// What a run of a kind takes on a backend.
    pub(super) fn of_kind(&self, kind: usize, backend: usize) -> Guess {
        let Slowness {
            factor,
            is_compared,
        } = self.backends[backend];
        Guess {
            seconds: self.usual[kind].unwrap_or(self.mean) * factor,
            is_derived: is_compared && self.usual[kind].is_some(),
        }
    }

    /// The seconds of any job on a backend.
    pub(super) fn of_backend(&self, backend: usize) -> f64 {
        self.mean * self.slowness(backend)
    }

    /// How many times as long as on a usual backend jobs take on a backend.
    pub(super) fn slowness(&self, backend: usize) -> f64 {
        self.backends[backend].factor
    }
}

/// The slowness of each backend. Kinds that are known on one backend say nothing about others.
fn fit(known: &[KnownRuntime], backends: usize) -> Vec<Slowness> {
    let kinds = known.iter().map(|one| one.kind + 1).max().unwrap_or(0);
    let mut counts = vec![0_usize; kinds];
    for one in known {
        counts[one.kind] += 1;
    }
    let shared = || known.iter().filter(|one| counts[one.kind] > 1);
    let mut slowness = vec![0.0; backends];
    let mut is_compared = vec![false; backends];
    shared().for_each(|one| is_compared[one.backend] = true);
    for _ in 0..ROUNDS {
        let usual = means(
            kinds,
            shared().map(|one| (one.kind, one.log - slowness[one.backend])),
        );
        slowness = means(
            backends,
            shared().map(|one| (one.backend, one.log - usual[one.kind])),
        );
    }
    let slowness = slowness.into_iter().zip(is_compared);
    slowness
        .map(|(log, is_compared)| Slowness {
            factor: log.exp(),
            is_compared,
        })
        .collect()
}

/// The mean of the values of each index; 0 without one.
fn means(length: usize, values: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
    let mut sums = vec![(0.0, 0_usize); length];
    for (index, value) in values {
        sums[index].0 += value;
        sums[index].1 += 1;
    }
    let sums = sums.into_iter();
    sums.map(|(sum, count)| sum / count.max(1) as f64).collect()
}

/// The logarithms of the known runtimes of a kind, with their backends. Those of no length are left out.
fn known(kind: &Kind, backends: usize) -> impl Iterator<Item = (usize, f64)> {
    let runtimes = kind.runtimes.iter().take(backends).enumerate();
    runtimes.filter_map(|(backend, runtime)| {
        let seconds = (*runtime)?.seconds(true)?;
        (seconds > 0.0).then(|| (backend, seconds.ln()))
    })
}

/// `None` of none.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), one| (sum + one, count + 1));
    (count > 0).then(|| sum / count as f64)
}
