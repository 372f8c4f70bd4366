//! [`JobSpeedEvidence`]: what the nodes of a job show of a machine's speed, by how closely their predictions match.
//! `docs/estimates.md` derives it.

use super::evidence::SpeedEvidence;
use super::interval::IntervalWidth;
use super::prediction::MatchLevel;
use crate::job::Role;

/// The match levels whose residuals show something of the machine: those up to [`MatchLevel::OtherBackend`].
const LEVELS: [MatchLevel; 3] = [
    MatchLevel::Signature,
    MatchLevel::Class,
    MatchLevel::OtherBackend,
];

/// The mean absolute deviation of a normal distribution, in standard deviations: `√(2/π)`.
const MEAN_ABSOLUTE: f64 = 0.8;

/// The weight of what is assumed of a level before any job shows it, in jobs.
const PRIOR_JOBS: f64 = 1.0;

/// How far one job moves a deviation after many jobs.
const STEP: f64 = 0.1;

/// What the nodes of one job show of the machine's speed, by how closely their predictions match.
///
/// The residual of a node that is known by its class only has two parts: the speed of the machine, and how much more than
/// others of its class this node costs. All such nodes of a job may share the second part, as those that work with
/// a larger model do, so that more of them do not make it smaller. What has run exactly has no such part.
#[derive(Debug, Default)]
pub(super) struct JobSpeedEvidence {
    levels: [SpeedEvidence; LEVELS.len()],
}

impl JobSpeedEvidence {
    /// Adds a node that took `seconds` where `expected` were predicted. One of another level says nothing.
    pub(super) fn add(&mut self, level: MatchLevel, role: Role, seconds: f64, expected: f64) {
        if let Some(evidence) = self.levels.get_mut(level as usize) {
            evidence.add(role, seconds, expected);
        }
    }

    /// The job's log factor, shrunk to the prior `ln f₀` of the weight `w₀`, in seconds. The nodes of a level whose weights
    /// are `W` count as much as `w₀·W / (w₀ + ρ·W)`, with [`LevelDeviations::excess_variance`] for `ρ`: of those that are known
    /// by their class, however long they took, at most the share `1 / (1 + ρ)` of their residual is the machine's.
    pub(super) fn log_factor(
        &self,
        prior: f64,
        prior_weight: f64,
        deviations: &LevelDeviations,
    ) -> f64 {
        let mut all = SpeedEvidence::prior(prior_weight, prior);
        for (level, evidence) in LEVELS.iter().zip(&self.levels) {
            let weight = evidence.weight();
            if weight > 0.0 && prior_weight > 0.0 {
                let excess = deviations.excess_variance(*level);
                let counts = prior_weight * weight / (prior_weight + excess * weight);
                all.add_factor(counts, evidence.log_factor());
            }
        }
        all.log_factor()
    }
}

/// How far the jobs on a machine are off by match level, beside the speed that was expected: mean absolute residuals.
#[derive(Debug, Clone)]
pub(super) struct LevelDeviations {
    levels: [LevelDeviation; LEVELS.len()],
}

/// The mean absolute residual of one level.
#[derive(Debug, Clone, Copy)]
struct LevelDeviation {
    mean: f64,
    jobs: f64,
}

impl Default for LevelDeviations {
    fn default() -> Self {
        Self {
            levels: LEVELS.map(|level| LevelDeviation {
                mean: MEAN_ABSOLUTE * level.deviation(IntervalWidth::default()),
                jobs: PRIOR_JOBS,
            }),
        }
    }
}

impl LevelDeviations {
    /// Learns from a job that was expected to have the log factor `expected`.
    pub(super) fn learn(&mut self, job: &JobSpeedEvidence, expected: f64) {
        for (deviation, evidence) in self.levels.iter_mut().zip(&job.levels) {
            if evidence.weight() > 0.0 {
                let residual = (evidence.log_factor() - expected).abs();
                deviation.jobs += 1.0;
                // The plain mean, until there are so many jobs that old ones should be forgotten.
                deviation.mean += STEP.max(1.0 / deviation.jobs) * (residual - deviation.mean);
            }
        }
    }

    /// The variance `ρ` of what a level's residual has beside the speed, as a multiple of the variance of the speed:
    /// `(d_level / d_exact)² − 1`, and at least 0. The residuals of exact runs are those of the speed.
    fn excess_variance(&self, level: MatchLevel) -> f64 {
        let own = self.levels[level as usize].mean;
        let exact = self.levels[MatchLevel::Signature as usize].mean;
        let ratio = own / exact.max(f64::MIN_POSITIVE);
        (ratio * ratio - 1.0).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(level: MatchLevel, seconds: f64, residual: f64) -> JobSpeedEvidence {
        let mut job = JobSpeedEvidence::default();
        job.add(level, Role::Sampler, seconds * residual.exp(), seconds);
        job
    }

    /// After jobs whose exact nodes are off by so much, and whose class nodes are, in turn above and below.
    fn after(exact: f64, class: f64) -> LevelDeviations {
        let mut deviations = LevelDeviations::default();
        for number in 0..200 {
            let sign = if number % 2 == 0 { 1.0 } else { -1.0 };
            for (level, off) in [(MatchLevel::Signature, exact), (MatchLevel::Class, class)] {
                deviations.learn(&of(level, 10.0, sign * off), 0.0);
            }
        }
        deviations
    }

    #[test]
    fn an_hour_of_another_model_says_little_about_the_machine() {
        let deviations = LevelDeviations::default();
        let factor = |level| of(level, 3_600.0, -0.7).log_factor(0.0, 2.0, &deviations);
        assert!(factor(MatchLevel::Signature) < -0.69);
        assert!(factor(MatchLevel::Class) > -0.1);
    }

    #[test]
    fn classes_that_predict_as_well_as_exact_runs_count_as_much() {
        let factor = |deviations: &LevelDeviations| {
            of(MatchLevel::Class, 100.0, 0.2).log_factor(0.0, 2.0, deviations)
        };
        assert!(factor(&after(0.1, 0.1)) > 0.19);
        assert!(factor(&after(0.1, 0.5)) < 0.02);
    }

    #[test]
    fn a_deviation_follows_a_change() {
        let mut deviations = after(0.1, 0.1);
        for _ in 0..50 {
            deviations.learn(&of(MatchLevel::Class, 10.0, 0.8), 0.0);
        }
        let excess = deviations.excess_variance(MatchLevel::Class);
        assert!((50.0..=63.0).contains(&excess), "{excess}");
    }

    proptest! {
        /// Whatever the classes show, it moves the speed by less than the same residual of exact runs, in its direction, and
        /// by at most the share `1 / (1 + ρ)` of it.
        #[test]
        fn a_class_moves_the_speed_by_its_share_at_most(
            seconds in 0.01..1e5_f64,
            residual in -2.0..2.0_f64,
            exact in 0.02..0.5_f64,
            class in 0.02..2.0_f64,
            prior in -1.0..1.0_f64,
        ) {
            let deviations = after(exact, class);
            let moved = |level| {
                of(level, seconds, residual).log_factor(prior, 2.0, &deviations) - prior
            };
            let (by_class, by_exact) = (moved(MatchLevel::Class), moved(MatchLevel::Signature));
            let share = 1.0 / (1.0 + deviations.excess_variance(MatchLevel::Class));
            prop_assert!(by_class * by_exact >= 0.0);
            prop_assert!(by_class.abs() <= by_exact.abs() + 1e-9);
            prop_assert!(by_class.abs() <= share * (residual - prior).abs() + 1e-9);
        }
    }
}
