use super::spread::Spread;

/// How long several things take, one after the other.
///
/// What is expected of each is about its median, and times are skewed: each is seldom long, but that one
/// of many is long is not seldom. So the median of a sum is more than the sum of the medians. To the first
/// order (Cornish and Fisher) it is the mean less the third cumulant over six times the variance; and
/// each time by itself has an excess of its own third cumulant over six times its own variance.
#[derive(Debug, Default)]
pub(super) struct DurationSum {
    seconds: f64,
    excess: f64,
    /// The sum of the excesses, each times its variance.
    skew: f64,
    variance: f64,
}

impl DurationSum {
    pub(super) fn add(&mut self, seconds: f64, spread: Spread) {
        self.seconds += seconds;
        self.excess += spread.excess;
        self.skew += spread.excess * spread.variance;
        self.variance += spread.variance;
    }

    /// Adds what makes all longer or shorter together: a deviation as a share of them.
    pub(super) fn sway(&mut self, deviation: f64) {
        self.variance += (deviation * self.seconds).powi(2);
    }

    /// The seconds that are expected of all of them.
    pub(super) fn middle(&self) -> f64 {
        if self.variance > 0.0 {
            let middle = self.seconds + self.excess - self.skew / self.variance;
            middle.max(0.0)
        } else {
            self.seconds
        }
    }

    /// Their standard deviation.
    pub(super) fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes 1 s, and as often 3 s.
    const SKEWED: Spread = Spread {
        excess: 1.0,
        variance: 1.0,
    };

    #[test]
    fn what_is_alone_takes_what_is_expected_of_it() {
        let mut total = DurationSum::default();
        total.add(1.0, SKEWED);
        assert_eq!((total.middle(), total.deviation()), (1.0, 1.0));
    }

    #[test]
    fn many_together_take_about_their_mean() {
        let mut total = DurationSum::default();
        (0..10).for_each(|_| total.add(1.0, SKEWED));
        assert_eq!(total.middle(), 19.0);
    }

    #[test]
    fn beside_something_uncertain_the_mean_counts() {
        let mut total = DurationSum::default();
        total.add(1.0, SKEWED);
        total.add(10.0, Spread::default());
        assert_eq!(total.middle(), 11.0);
        total.sway(1.0);
        assert!((11.9..12.0).contains(&total.middle()));
    }
}
