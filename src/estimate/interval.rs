/// What is believed before any job has told.
const START: f64 = 0.25;

/// How far one job moves what is believed, as a logarithm.
const STEP: f64 = 0.25;

/// The share of the ends that are to be inside the interval told at the start. While a job runs it comes to
/// be more, and about 80 of 100 altogether.
const INSIDE: f64 = 0.75;

/// The least and the most that is believed.
const RANGE: (f64, f64) = (0.05, 1.0);

/// How far jobs of known workflows are off what is expected of them: the standard deviation as a share of
/// the time of each node. Intervals are as wide as this makes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct IntervalWidth(f64);

impl Default for IntervalWidth {
    fn default() -> Self {
        Self(START)
    }
}

impl IntervalWidth {
    pub(super) fn deviation(self) -> f64 {
        self.0
    }

    /// Takes note of whether a job ended inside the interval that it began with. It grows and shrinks by as
    /// much where just the wanted share does.
    pub(super) fn learn(&mut self, is_inside: bool) {
        let step = if is_inside { INSIDE - 1.0 } else { INSIDE };
        let (least, most) = RANGE;
        self.0 = (self.0 * (STEP * step).exp()).clamp(least, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ends_inside_and_one_outside_change_nothing() {
        let mut interval_width = IntervalWidth::default();
        for is_inside in [true, true, false, true] {
            interval_width.learn(is_inside);
        }
        assert!((interval_width.deviation() - START).abs() < 1e-9);
    }

    #[test]
    fn it_stays_in_its_range() {
        let mut interval_width = IntervalWidth::default();
        (0..1_000).for_each(|_| interval_width.learn(true));
        assert_eq!(interval_width.deviation(), RANGE.0);
        (0..1_000).for_each(|_| interval_width.learn(false));
        assert_eq!(interval_width.deviation(), RANGE.1);
    }
}
