/// What jobs of the same workflow have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// How long such a job runs, by backend; `None` where it cannot run. Backends past the end cannot run it.
    pub runtimes: Vec<Option<Runtime>>,
    /// The model that it works with, as a key; `None` if none or not known: its cold runtime counts then.
    pub model: Option<u64>,
}

/// The seconds that a job runs on a backend, from its start to its end.
///
/// A value that is not finite is not known. If one of the two is known, it counts for both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Runtime {
    /// Behind a job that has left its model loaded.
    pub warm: f64,
    /// With loading its model.
    pub cold: f64,
}

impl Runtime {
    /// Of a job of which nothing is known but that it can run.
    pub fn unknown() -> Self {
        Self {
            warm: f64::NAN,
            cold: f64::NAN,
        }
    }

    /// The seconds of loading its model; `None` if they are not known.
    pub(super) fn load(self) -> Option<f64> {
        let load = self.cold - self.warm;
        load.is_finite().then_some(load.max(0.0))
    }

    /// The seconds of such a run; `None` if nothing is known.
    pub(super) fn seconds(self, is_warm: bool) -> Option<f64> {
        let (own, other) = if is_warm {
            (self.warm, self.cold)
        } else {
            (self.cold, self.warm)
        };
        let mut known = [own, other].into_iter().filter(|one| one.is_finite());
        known.next().map(|seconds| seconds.max(0.0))
    }
}
