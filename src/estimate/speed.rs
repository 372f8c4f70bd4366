use super::cusum::{Change, Cusum};

/// How far one job moves the recent log factor.
const RECENT_STEP: f64 = 0.6;

/// How far one job moves the long-term log factor.
const LONG_TERM_STEP: f64 = 0.06;

/// How far the expected log factor is from the long-term one at most: what is farther away seldom
/// lasts.
const MAX_UNUSUAL: f64 = 0.3;

/// The mean absolute deviation of jobs from the long-term log factor, as assumed before there are any.
const DEVIATION_PRIOR: f64 = 0.2;

/// The weight of that assumption, in jobs.
const DEVIATION_PRIOR_WEIGHT: f64 = 5.0;

/// The smallest deviation.
const MIN_DEVIATION: f64 = 0.15;

/// How far one job moves the deviation after many jobs.
const DEVIATION_STEP: f64 = 0.03;

/// How many times as long nodes take on a machine as their costs say, as a logarithm `x = ln f`: above
/// 0 the machine is slower than usual.
///
/// Two exponential moving averages follow the jobs' log factors `xₜ`: `recent += 0.6·(xₜ − recent)`
/// and, much more slowly, `long_term`.
#[derive(Debug, Clone)]
pub(super) struct SpeedFactor {
    long_term: f64,
    recent: f64,
    jobs: f64,
    /// The mean absolute deviation of the jobs from `long_term`.
    deviation: f64,
}

impl Default for SpeedFactor {
    fn default() -> Self {
        Self {
            long_term: 0.0,
            recent: 0.0,
            jobs: 0.0,
            deviation: DEVIATION_PRIOR,
        }
    }
}

impl SpeedFactor {
    /// Learns the log factor of a job.
    pub(super) fn learn(&mut self, log_factor: f64) {
        let residual = (log_factor - self.long_term).abs();
        let step = DEVIATION_STEP.max(1.0 / (self.jobs + DEVIATION_PRIOR_WEIGHT));
        self.deviation += step * (residual - self.deviation);
        self.deviation = self.deviation.max(MIN_DEVIATION);
        self.jobs += 1.0;
        self.recent += RECENT_STEP * (log_factor - self.recent);
        // The plain mean, until there are so many jobs that old ones should be forgotten.
        self.long_term += LONG_TERM_STEP.max(1.0 / self.jobs) * (log_factor - self.long_term);
    }

    /// Removes a change that a backend's persistent shift now accounts for.
    pub(super) fn unlearn(&mut self, change: Change) {
        self.long_term = change.before;
        self.recent -= change.by;
    }

    /// The log factor that the next job is expected to have, with `m` for [`MAX_UNUSUAL`]:
    /// `long_term + m·tanh((recent − long_term) / m)`.
    pub(super) fn log_factor(&self) -> f64 {
        let unusual = self.recent - self.long_term;
        self.long_term + MAX_UNUSUAL * (unusual / MAX_UNUSUAL).tanh()
    }
}

/// By how much a backend's speed has changed for good, as a log factor: by another graphics card, or
/// by a program that keeps running beside it. Its learned costs stay valid.
#[derive(Debug, Clone, Default)]
pub(super) struct PersistentShift {
    log_factor: f64,
    cusum: Cusum,
}

impl PersistentShift {
    /// Learns the log factor of a job beside the shift, and returns a change that it proves. `before`
    /// is the machine's speed before the job.
    pub(super) fn learn(&mut self, log_factor: f64, before: &SpeedFactor) -> Option<Change> {
        let change = self
            .cusum
            .add(log_factor, before.long_term, before.deviation)?;
        self.log_factor += change.by;
        Some(change)
    }

    /// The sum of all changes.
    pub(super) fn log_factor(&self) -> f64 {
        self.log_factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(jobs: impl IntoIterator<Item = f64>) -> f64 {
        let mut speed = SpeedFactor::default();
        jobs.into_iter().for_each(|job| speed.learn(job));
        speed.log_factor()
    }

    #[test]
    fn a_machine_without_jobs_has_the_usual_speed() {
        assert_eq!(after([]), 0.0);
    }

    #[test]
    fn a_machine_that_stays_slow_is_expected_to_be_slow() {
        assert!((after([0.3; 50]) - 0.3).abs() < 1e-6);
    }

    #[test]
    fn one_slow_job_counts_in_part() {
        let jobs = [[0.1; 20].as_slice(), &[1.5]].concat();
        let expected = after(jobs);
        assert!((0.3..0.5).contains(&expected), "{expected}");
    }

    #[test]
    fn changes_add_up() {
        let mut shift = PersistentShift::default();
        let machine = SpeedFactor::default();
        for (change, jobs, sum) in [(1.4, 5, 1.4), (-0.9, 12, 0.5)] {
            let changes = (0..jobs).filter_map(|_| shift.learn(change, &machine));
            assert_eq!(changes.count(), 1);
            assert!((shift.log_factor() - sum).abs() < 1e-9, "{shift:?}");
        }
    }
}
