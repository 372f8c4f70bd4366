/// The width before any job has ended.
const START: f64 = 0.25;

/// How far one job moves the width: the step of the stochastic approximation, as a logarithm.
const STEP: f64 = 0.25;

/// The share of the jobs that should end inside the interval given at their start. While a job runs
/// the share grows; over a job's whole time it is about 0.8, as between the 10th and 90th percentile.
const TARGET: f64 = 0.75;

/// The smallest and the largest width.
const RANGE: (f64, f64) = (0.05, 1.0);

/// How far jobs of known workflows are off: the standard deviation `s` of a node's time, as a share of
/// it. Intervals are proportional to it.
///
/// Calibrated by stochastic approximation of the quantile (Robbins and Monro, 1951): after each job
/// `ln s += STEP·(TARGET − 1)` if it ended inside its interval, else `ln s += STEP·TARGET`. The
/// expected step is 0 where a share `TARGET` of the jobs ends inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct IntervalWidth(f64);

impl Default for IntervalWidth {
    fn default() -> Self {
        Self(START)
    }
}

impl IntervalWidth {
    /// The standard deviation, as a share of the expected time.
    pub(super) fn deviation(self) -> f64 {
        self.0
    }

    /// Learns whether a job ended inside the interval given at its start.
    pub(super) fn calibrate(&mut self, was_inside: bool) {
        let step = if was_inside { TARGET - 1.0 } else { TARGET };
        let (min, max) = RANGE;
        self.0 = (self.0 * (STEP * step).exp()).clamp(min, max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ends_inside_and_one_outside_change_nothing() {
        let mut width = IntervalWidth::default();
        for was_inside in [true, true, false, true] {
            width.calibrate(was_inside);
        }
        assert!((width.deviation() - START).abs() < 1e-9);
    }

    #[test]
    fn the_width_stays_in_its_range() {
        let mut width = IntervalWidth::default();
        (0..1_000).for_each(|_| width.calibrate(true));
        assert_eq!(width.deviation(), RANGE.0);
        (0..1_000).for_each(|_| width.calibrate(false));
        assert_eq!(width.deviation(), RANGE.1);
    }
}
