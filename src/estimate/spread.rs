/// How times are spread around an expected time `m`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Spread {
    /// The mean less the expected time, `μ − m`, in seconds: the part of rare, long times.
    pub(super) excess: f64,
    /// In seconds squared.
    pub(super) variance: f64,
}

impl Spread {
    /// The spread of `(seconds, weight)` pairs around `expected`, sorted by their seconds. The longest
    /// time counts as the second longest: a single outlier shows no habit.
    pub(super) fn around(expected: f64, times: &[(f64, f64)]) -> Self {
        let second = times.iter().rev().nth(1);
        let max = second.map_or(expected, |(time, _)| time.max(expected));
        let weights: f64 = times.iter().map(|(_, weight)| weight).sum();
        let mean = |what: fn(f64) -> f64| {
            let all = times
                .iter()
                .map(|(time, weight)| what(time.min(max) - expected) * weight);
            all.sum::<f64>() / weights
        };
        let excess = mean(|residual| residual);
        Self {
            excess,
            variance: (mean(|residual| residual * residual) - excess * excess).max(0.0),
        }
    }

    /// A spread without skew, from a standard deviation in seconds.
    pub(super) fn symmetric(deviation: f64) -> Self {
        Self {
            excess: 0.0,
            variance: deviation.powi(2),
        }
    }

    /// The spread of the same times multiplied by `factor`.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            excess: self.excess * factor,
            variance: self.variance * factor * factor,
        }
    }

    /// A mean of this spread and a prior, which counts the share `share`, 0 to 1.
    pub(super) fn shrunk_to(self, prior: Self, share: f64) -> Self {
        let mix = |own: f64, prior: f64| own + share * (prior - own);
        Self {
            excess: mix(self.excess, prior.excess),
            variance: mix(self.variance, prior.variance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(expected: f64, times: &[f64]) -> Spread {
        let times: Vec<(f64, f64)> = times.iter().map(|time| (*time, 1.0)).collect();
        Spread::around(expected, &times)
    }

    #[test]
    fn equal_times_have_no_spread() {
        assert_eq!(around(2.0, &[2.0, 2.0, 2.0]), Spread::default());
        assert_eq!(around(2.0, &[2.0]), Spread::default());
    }

    #[test]
    fn a_single_outlier_does_not_count() {
        assert_eq!(around(2.0, &[2.0, 2.0, 500.0]), Spread::default());
        let twice = around(2.0, &[2.0, 2.0, 5.0, 500.0]);
        assert_eq!((twice.excess, twice.variance), (1.5, 2.25));
    }
}
