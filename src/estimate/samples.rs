use std::collections::VecDeque;

use super::spread::Spread;

/// How many runs of one kind are kept.
const MAX_RUNS: usize = 12;

/// A run counts half as much as one that came this many runs later.
const HALF_LIFE: f64 = 8.0;

/// The quantile that is expected. Slightly below the median: times are skewed, and an estimate that
/// expects the long ones is far off when they do not come.
const QUANTILE: f64 = 0.39;

/// The shortest time that counts, in seconds: below it the delays of frames dominate.
const MIN_SECONDS: f64 = 1e-3;

/// What one run of a node cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// From its start to its end.
    pub(super) seconds: f64,
    /// Seconds of one tick of its bar, the first tick left out.
    pub(super) tick: Option<f64>,
    /// The ticks of all its bars.
    pub(super) ticks: Option<f64>,
}

/// What a run of one kind is expected to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ExpectedCost {
    pub(super) cost: Cost,
    /// The spread of the seconds around `cost.seconds`.
    pub(super) spread: Spread,
    /// How many runs it rests on.
    pub(super) runs: usize,
}

impl ExpectedCost {
    /// The same on a machine that takes `factor` times as long.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            cost: self.cost.scaled(factor),
            spread: self.spread.scaled(factor),
            ..self
        }
    }

    /// A mean of this cost and a prior, which counts the share `share`, 0 to 1. Its ticks and its number
    /// of runs stay.
    pub(super) fn shrunk_to(self, prior: Self, share: f64) -> Self {
        Self {
            cost: self.cost.shrunk_to(prior.cost, share),
            spread: self.spread.shrunk_to(prior.spread, share),
            ..self
        }
    }
}

impl Cost {
    /// The same on a machine that takes `factor` times as long.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            tick: self.tick.map(|tick| tick * factor),
            ..self
        }
    }

    /// The geometric mean: `ln x = (1 − share)·ln own + share·ln prior`.
    fn shrunk_to(self, prior: Self, share: f64) -> Self {
        let mix = |own: f64, prior: f64| {
            let (own, prior) = (own.max(MIN_SECONDS).ln(), prior.max(MIN_SECONDS).ln());
            (own + share * (prior - own)).exp()
        };
        Self {
            seconds: mix(self.seconds, prior.seconds),
            tick: self
                .tick
                .zip(prior.tick)
                .map(|(own, prior)| mix(own, prior))
                .or(self.tick),
            ..self
        }
    }
}

/// The newest runs of one kind of node, and what the next one is expected to cost.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    runs: VecDeque<Cost>,
    expected: Option<ExpectedCost>,
}

impl Samples {
    pub(super) fn add(&mut self, run: Cost) {
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(run);
        let mut seconds = self.weighted(|run| Some(run.seconds));
        let cost = Cost {
            seconds: quantile(&mut seconds, QUANTILE).unwrap_or(MIN_SECONDS),
            tick: quantile(&mut self.weighted(|run| run.tick), QUANTILE),
            ticks: quantile(&mut self.weighted(|run| run.ticks), QUANTILE),
        };
        let spread = Spread::around(cost.seconds, &seconds);
        self.expected = Some(ExpectedCost {
            cost,
            spread,
            runs: self.runs.len(),
        });
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// `None` if there are no runs.
    pub(super) fn expected(&self) -> Option<ExpectedCost> {
        self.expected
    }

    /// The value of each run that has it, with its weight `2^(−age / HALF_LIFE)`.
    fn weighted(&self, value: impl Fn(&Cost) -> Option<f64>) -> Vec<(f64, f64)> {
        let ages = (0..self.runs.len()).rev();
        let weighted = self.runs.iter().zip(ages).filter_map(|(run, age)| {
            let weight = 0.5_f64.powf(age as f64 / HALF_LIFE);
            Some((value(run)?, weight))
        });
        weighted.collect()
    }
}

/// The quantile `share` of values with their weights, which it sorts by value.
pub(super) fn quantile(values: &mut [(f64, f64)], share: f64) -> Option<f64> {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let target = share * values.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut below = 0.0;
    let found = values.iter().find(|(_, weight)| {
        below += weight;
        below >= target
    });
    found.map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(seconds: &[f64]) -> f64 {
        let mut samples = Samples::default();
        for &seconds in seconds {
            samples.add(Cost {
                seconds,
                tick: None,
                ticks: None,
            });
        }
        samples.expected().unwrap().cost.seconds
    }

    #[test]
    fn one_outlier_changes_little() {
        assert_eq!(expected(&[2.0, 2.1, 500.0, 2.2]), 2.1);
    }

    #[test]
    fn old_runs_are_forgotten() {
        let runs = [[1.0; MAX_RUNS], [2.0; MAX_RUNS]].concat();
        assert_eq!(expected(&runs), 2.0);
    }

    #[test]
    fn a_change_counts_before_most_runs_show_it() {
        let runs = [[1.0; MAX_RUNS / 2 + 1].as_slice(), &[2.0; MAX_RUNS / 2 - 1]].concat();
        assert_eq!(expected(&runs), 1.0);
        let runs = [[1.0; MAX_RUNS / 2].as_slice(), &[2.0; MAX_RUNS / 2]].concat();
        assert_eq!(expected(&runs), 2.0);
    }
}
