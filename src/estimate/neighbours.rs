use super::open_node::JITTER;

/// The squared residuals that are assumed of both before there are any.
const PRIOR: f64 = 0.04;

/// How far one node moves the mean squares at most.
const STEP: f64 = 0.02;

/// The largest absolute residual that counts.
const MAX_RESIDUAL: f64 = 1.0;

/// The smallest and the largest weight.
const RANGE: (f64, f64) = (0.2, 5.0);

/// How well the runs of one backend predict the next one on it, and how well those of its whole machine do: the
/// mean squares of their log residuals, as exponential moving averages.
#[derive(Debug, Clone, Copy)]
pub(super) struct NeighbourVariances {
    own: f64,
    machine: f64,
}

impl Default for NeighbourVariances {
    fn default() -> Self {
        Self {
            own: PRIOR,
            machine: PRIOR,
        }
    }
}

impl NeighbourVariances {
    /// Learns the seconds `t` of a run, and what the backend's runs and those of the machine had predicted.
    ///
    /// With the jitter `j`, the log residual of either has a part of the variance `(j / t)²` that tells nothing of the
    /// runs it was predicted from. So the run counts the share `t² / (t² + j²)`: the many nodes that take a few
    /// milliseconds would make both look alike.
    pub(super) fn learn(&mut self, seconds: f64, own: f64, machine: f64) {
        let square = |predicted: f64| {
            let residual = (seconds.max(1e-3) / predicted.max(1e-3)).ln();
            residual.clamp(-MAX_RESIDUAL, MAX_RESIDUAL).powi(2)
        };
        let step = STEP / (1.0 + (JITTER / seconds.max(1e-3)).powi(2));
        self.own += step * (square(own) - self.own);
        self.machine += step * (square(machine) - self.machine);
    }

    /// The weight of the machine's runs beside the backend's own, in runs.
    pub(super) fn weight(self) -> f64 {
        let (min, max) = RANGE;
        (self.own / self.machine.max(1e-9)).clamp(min, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_that_predict_better_count_more() {
        let mut variances = NeighbourVariances::default();
        assert_eq!(variances.weight(), 1.0);
        // Each run is unlike the one before it; the machine's runs are right in the mean.
        (0..500).for_each(|_| variances.learn(1.0, 1.3, 1.1));
        assert!(variances.weight() > 3.0, "{variances:?}");
        // A server that is twice as fast as the others on its machine.
        (0..500).for_each(|_| variances.learn(1.0, 1.05, 2.0));
        assert_eq!(variances.weight(), RANGE.0);
    }

    #[test]
    fn nodes_of_a_few_milliseconds_do_not_hide_what_the_long_ones_show() {
        let mut variances = NeighbourVariances::default();
        for _ in 0..500 {
            variances.learn(1.0, 1.05, 2.0);
            // Of either, such a node is off by its jitter alone.
            (0..10).for_each(|_| variances.learn(0.002, 0.006, 0.006));
        }
        assert_eq!(variances.weight(), RANGE.0, "{variances:?}");
    }
}
