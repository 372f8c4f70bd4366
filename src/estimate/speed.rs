use super::cusum::Change;

/// How far one job moves what is believed of a machine of late.
const STEP: f64 = 0.6;

/// How far it moves what is believed to be usual.
const USUAL_STEP: f64 = 0.06;

/// How far from the usual a machine is believed to be: what is farther seldom lasts.
const MAX_UNUSUAL: f64 = 0.3;

/// How far jobs are believed to be off the usual in the mean, before any has told. It counts as much as
/// some jobs do.
const DEVIATION: f64 = 0.2;
const DEVIATION_JOBS: f64 = 5.0;

/// The least that is believed of that.
const LEAST_DEVIATION: f64 = 0.15;

/// How far one job moves it, when many have told.
const DEVIATION_STEP: f64 = 0.03;

/// How much slower a machine is than its costs say: logarithms, below 0 where it is faster.
#[derive(Debug, Clone)]
pub(super) struct SpeedFactor {
    usual: f64,
    of_late: f64,
    /// How many jobs told of it.
    jobs: f64,
    /// How far they were off the usual in the mean.
    deviation: f64,
}

impl Default for SpeedFactor {
    fn default() -> Self {
        Self {
            usual: 0.0,
            of_late: 0.0,
            jobs: 0.0,
            deviation: DEVIATION,
        }
    }
}

impl SpeedFactor {
    /// Takes note of how slow a job was.
    pub(super) fn learn(&mut self, slowness: f64) {
        let off = (slowness - self.usual).abs();
        let step = DEVIATION_STEP.max(1.0 / (self.jobs + DEVIATION_JOBS));
        self.deviation += step * (off - self.deviation);
        self.deviation = self.deviation.max(LEAST_DEVIATION);
        self.jobs += 1.0;
        self.of_late += STEP * (slowness - self.of_late);
        // The mean, until there are so many jobs that old ones are to be forgotten.
        self.usual += USUAL_STEP.max(1.0 / self.jobs) * (slowness - self.usual);
    }

    /// Takes back what was learned since a change that is now known in another way.
    pub(super) fn unlearn(&mut self, change: Change) {
        self.usual = change.usual;
        self.of_late -= change.by;
    }

    pub(super) fn usual(&self) -> f64 {
        self.usual
    }

    pub(super) fn deviation(&self) -> f64 {
        self.deviation
    }

    /// What is believed of the next job.
    pub(super) fn now(&self) -> f64 {
        let unusual = self.of_late - self.usual;
        self.usual + MAX_UNUSUAL * (unusual / MAX_UNUSUAL).tanh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(jobs: impl IntoIterator<Item = f64>) -> f64 {
        let mut slowness = SpeedFactor::default();
        jobs.into_iter().for_each(|job| slowness.learn(job));
        slowness.now()
    }

    #[test]
    fn nothing_is_believed_of_a_machine_that_is_not_known() {
        assert_eq!(after([]), 0.0);
    }

    #[test]
    fn a_machine_that_is_slow_for_long_is_believed_to_be_so() {
        assert!((after([0.3; 50]) - 0.3).abs() < 1e-6);
    }

    #[test]
    fn one_slow_job_is_believed_in_part() {
        let jobs = [[0.1; 20].as_slice(), &[1.5]].concat();
        let believed = after(jobs);
        assert!((0.3..0.5).contains(&believed), "{believed}");
    }
}
