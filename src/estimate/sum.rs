use super::spread::Spread;

/// The sum of independent times.
///
/// What is expected of each is about its median, and times are skewed: each is seldom long, but one of
/// many often is. So the median of the sum is larger than the sum of the medians. By the expansion of
/// Cornish and Fisher (1938), to first order, the median of a distribution with the mean `μ`, the
/// variance `σ²` and the third cumulant `κ₃` is `μ − κ₃ / 6σ²`. Cumulants add up, and so do means. With
/// the expected time `mᵢ`, its excess `eᵢ = μᵢ − mᵢ` and its variance `vᵢ`, one time has
/// `κ₃ = 6·eᵢ·vᵢ`, and the sum has
///
/// ```text
/// median = Σ mᵢ + Σ eᵢ − (Σ eᵢ·vᵢ) / (Σ vᵢ)
/// ```
#[derive(Debug, Default)]
pub(super) struct DurationSum {
    /// `Σ mᵢ`
    seconds: f64,
    /// `Σ eᵢ`
    excess: f64,
    /// `Σ eᵢ·vᵢ`
    skew: f64,
    /// `Σ vᵢ`
    variance: f64,
}

impl DurationSum {
    pub(super) fn add(&mut self, seconds: f64, spread: Spread) {
        self.seconds += seconds;
        self.excess += spread.excess;
        self.skew += spread.excess * spread.variance;
        self.variance += spread.variance;
    }

    /// Adds the variance that all times have in common: a standard deviation as a share of the sum. It
    /// is taken as symmetric.
    pub(super) fn add_common_variance(&mut self, deviation: f64) {
        self.variance += (deviation * self.seconds).powi(2);
    }

    /// The median of the sum, in seconds.
    pub(super) fn median(&self) -> f64 {
        if self.variance > 0.0 {
            let median = self.seconds + self.excess - self.skew / self.variance;
            median.max(0.0)
        } else {
            self.seconds
        }
    }

    /// The standard deviation of the sum, in seconds.
    pub(super) fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 s or 3 s, equally often.
    const SKEWED: Spread = Spread {
        excess: 1.0,
        variance: 1.0,
    };

    #[test]
    fn a_single_time_takes_what_is_expected_of_it() {
        let mut sum = DurationSum::default();
        sum.add(1.0, SKEWED);
        assert_eq!((sum.median(), sum.deviation()), (1.0, 1.0));
    }

    #[test]
    fn many_times_take_about_their_mean() {
        let mut sum = DurationSum::default();
        (0..10).for_each(|_| sum.add(1.0, SKEWED));
        assert_eq!(sum.median(), 19.0);
    }

    #[test]
    fn with_a_large_common_variance_the_mean_counts() {
        let mut sum = DurationSum::default();
        sum.add(1.0, SKEWED);
        sum.add(10.0, Spread::default());
        assert_eq!(sum.median(), 11.0);
        sum.add_common_variance(1.0);
        assert!((11.9..12.0).contains(&sum.median()));
    }
}
