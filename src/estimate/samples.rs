use std::collections::VecDeque;

use super::spread::Spread;

/// How many runs are remembered of one kind.
const KEPT: usize = 12;

/// A run counts half of what one counts that came so many runs later.
const HALF_LIFE: f64 = 8.0;

/// The quantile that is expected.
const MIDDLE: f64 = 0.42;

/// The shortest time that counts, in seconds: below it frames differ by chance.
const SHORTEST: f64 = 1e-3;

/// What one run of a node cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// From its start to its end.
    pub(super) seconds: f64,
    /// Seconds of one tick of its bar after the first.
    pub(super) tick: Option<f64>,
    /// The ticks of all its bars.
    pub(super) ticks: Option<f64>,
}

/// What runs of one kind cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ExpectedCost {
    /// In the middle.
    pub(super) cost: Cost,
    /// Of the seconds from start to end around that.
    pub(super) spread: Spread,
}

impl ExpectedCost {
    /// The same on a machine that takes so many times as long.
    pub(super) fn slowed(self, factor: f64) -> Self {
        Self {
            cost: self.cost.slowed(factor),
            spread: self.spread.scaled(factor),
        }
    }

    /// Between this and another, of which `share` counts, 0 to 1. The ticks stay.
    pub(super) fn toward(self, other: Self, share: f64) -> Self {
        Self {
            cost: self.cost.toward(other.cost, share),
            spread: self.spread.toward(other.spread, share),
        }
    }
}

impl Cost {
    /// The same on a machine that takes so many times as long.
    pub(super) fn slowed(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            tick: self.tick.map(|tick| tick * factor),
            ..self
        }
    }

    fn toward(self, other: Self, share: f64) -> Self {
        let mix = |own: f64, other: f64| {
            let (own, other) = (own.max(SHORTEST).ln(), other.max(SHORTEST).ln());
            (own + share * (other - own)).exp()
        };
        Self {
            seconds: mix(self.seconds, other.seconds),
            tick: self
                .tick
                .zip(other.tick)
                .map(|(own, other)| mix(own, other))
                .or(self.tick),
            ..self
        }
    }
}

/// The newest runs of one kind of node, and what they cost in the middle.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    runs: VecDeque<Cost>,
    expected: Option<ExpectedCost>,
}

impl Samples {
    pub(super) fn add(&mut self, run: Cost) {
        if self.runs.len() == KEPT {
            self.runs.pop_front();
        }
        self.runs.push_back(run);
        let seconds = self.weighed(|run| Some(run.seconds));
        let cost = Cost {
            seconds: middling(&seconds).unwrap_or(SHORTEST),
            tick: middling(&self.weighed(|run| run.tick)),
            ticks: middling(&self.weighed(|run| run.ticks)),
        };
        let spread = Spread::around(cost.seconds, &seconds);
        self.expected = Some(ExpectedCost { cost, spread });
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn expected(&self) -> Option<ExpectedCost> {
        self.expected
    }

    /// A value of each run that has it, the least first, and its weight: newer runs weigh more.
    fn weighed(&self, what: impl Fn(&Cost) -> Option<f64>) -> Vec<(f64, f64)> {
        let ages = (0..self.runs.len()).rev();
        let weighed = self.runs.iter().zip(ages).filter_map(|(run, age)| {
            let weight = 0.5_f64.powf(age as f64 / HALF_LIFE);
            Some((what(run)?, weight))
        });
        let mut values: Vec<(f64, f64)> = weighed.collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values
    }
}

/// About the median of values in their order and their weights. Somewhat below it: times are skewed, and
/// whoever expects the long ones is far off where they do not come.
fn middling(values: &[(f64, f64)]) -> Option<f64> {
    let enough = MIDDLE * values.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut below = 0.0;
    let middle = values.iter().find(|(_, weight)| {
        below += weight;
        below >= enough
    });
    middle.map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn middle(seconds: &[f64]) -> f64 {
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
        assert_eq!(middle(&[2.0, 2.1, 500.0, 2.2]), 2.1);
    }

    #[test]
    fn old_runs_are_forgotten() {
        let runs = [[1.0; KEPT], [2.0; KEPT]].concat();
        assert_eq!(middle(&runs), 2.0);
    }

    #[test]
    fn what_lasts_is_believed_before_it_is_the_most() {
        let runs = [[1.0; KEPT / 2 + 1].as_slice(), &[2.0; KEPT / 2 - 1]].concat();
        assert_eq!(middle(&runs), 1.0);
        let runs = [[1.0; KEPT / 2].as_slice(), &[2.0; KEPT / 2]].concat();
        assert_eq!(middle(&runs), 2.0);
    }
}
