use super::kind::Kind;

/// What a job counts for as long as no runtime is known at all, in seconds. Only the ratio to other guesses
/// matters, and all of them are the same then.
const SECONDS_OF_UNKNOWN: f64 = 1.0;

/// From how many kinds the slowness of backends is read: more show the same.
const MAX_KINDS: usize = 256;

/// Stands in for runtimes that are not known, where backends are compared: the usual runtime of the kind times
/// how much longer than usual the backend takes. Never published.
#[derive(Debug)]
pub(super) struct Guesses {
    /// How many times as long as on a usual backend jobs take, by backend.
    slowness: Vec<f64>,
    /// The seconds of a run on a usual backend, by kind; the mean for kinds that are known everywhere or nowhere.
    usual: Vec<f64>,
    /// The mean over kinds.
    mean: f64,
}

impl Guesses {
    /// `slowness` is the geometric mean, over kinds with at least two known runtimes, of `runtime / geometric mean of the
    /// kind`: kinds that are known on one backend say nothing about others.
    pub(super) fn of(backends: usize, kinds: &[Kind]) -> Self {
        let compared = &kinds[..kinds.len().min(MAX_KINDS)];
        let mut logs = vec![(0.0, 0_usize); backends];
        for kind in compared {
            let Some((mean, count)) = mean_log(known(kind, backends).map(|(_, log)| log)) else {
                continue;
            };
            if count > 1 {
                for (backend, log) in known(kind, backends) {
                    logs[backend].0 += log - mean;
                    logs[backend].1 += 1;
                }
            }
        }
        let slowness = logs.iter().map(|(sum, count)| match count {
            0 => 1.0,
            _ => f64::exp(sum / *count as f64),
        });
        let slowness: Vec<f64> = slowness.collect();
        let usual = |kind: &Kind| {
            let at_usual = |(backend, log): (usize, f64)| log - slowness[backend].ln();
            mean_log(known(kind, backends).map(at_usual)).map(|(mean, _)| mean.exp())
        };
        let found = compared.iter().filter_map(usual);
        let (sum, count) = found.fold((0.0, 0_usize), |(sum, count), one| (sum + one, count + 1));
        let mean = if count > 0 {
            sum / count as f64
        } else {
            SECONDS_OF_UNKNOWN
        };
        let usual = kinds
            .iter()
            .map(|kind| is_partly_known(kind).then(|| usual(kind)).flatten())
            .map(|usual| usual.unwrap_or(mean))
            .collect();
        Self {
            slowness,
            usual,
            mean,
        }
    }

    /// The seconds of a run of a kind on a backend.
    pub(super) fn seconds(&self, kind: usize, backend: usize) -> f64 {
        self.usual[kind] * self.slowness[backend]
    }

    /// The seconds of any job on a backend.
    pub(super) fn of_backend(&self, backend: usize) -> f64 {
        self.mean * self.slowness[backend]
    }

    /// How many times as long as on a usual backend jobs take on a backend, if there is such a backend.
    pub(super) fn slowness(&self, backend: usize) -> Option<f64> {
        self.slowness.get(backend).copied()
    }
}

/// Whether a kind has runtimes that are known, and others that are not.
fn is_partly_known(kind: &Kind) -> bool {
    let mut runtimes = kind.runtimes.iter().flatten();
    let is_known = runtimes
        .next()
        .map(|runtime| runtime.seconds(true).is_some());
    runtimes.any(|runtime| Some(runtime.seconds(true).is_some()) != is_known)
}

/// The logarithms of the known runtimes of a kind, with their backends. Those of no length are left out.
fn known(kind: &Kind, backends: usize) -> impl Iterator<Item = (usize, f64)> {
    let runtimes = kind.runtimes.iter().take(backends).enumerate();
    runtimes.filter_map(|(backend, runtime)| {
        let seconds = (*runtime)?.seconds(true)?;
        (seconds > 0.0).then(|| (backend, seconds.ln()))
    })
}

/// The mean, and of how many; `None` of none.
fn mean_log(logs: impl Iterator<Item = f64>) -> Option<(f64, usize)> {
    let (sum, count) = logs.fold((0.0, 0_usize), |(sum, count), log| (sum + log, count + 1));
    (count > 0).then(|| (sum / count as f64, count))
}
