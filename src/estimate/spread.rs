/// How times are spread around what is expected of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Spread {
    /// How much longer they are in the mean, in seconds: what comes seldom and is long is in it.
    pub(super) excess: f64,
    /// The square of their standard deviation, in seconds squared.
    pub(super) variance: f64,
}

impl Spread {
    /// Of times and their weights around a middle, the shortest first. The longest counts as the second
    /// longest: what came once is no habit.
    pub(super) fn around(middle: f64, times: &[(f64, f64)]) -> Self {
        let second = times.iter().rev().nth(1);
        let most = second.map_or(middle, |(time, _)| time.max(middle));
        let weights: f64 = times.iter().map(|(_, weight)| weight).sum();
        let mean = |what: fn(f64) -> f64| {
            let all = times
                .iter()
                .map(|(time, weight)| what(time.min(most) - middle) * weight);
            all.sum::<f64>() / weights
        };
        let excess = mean(|off| off);
        Self {
            excess,
            variance: (mean(|off| off * off) - excess * excess).max(0.0),
        }
    }

    /// That of times that are so many times as long.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            excess: self.excess * factor,
            variance: self.variance * factor * factor,
        }
    }

    /// Between this and another, of which `share` counts, 0 to 1.
    pub(super) fn toward(self, other: Self, share: f64) -> Self {
        let mix = |own: f64, other: f64| own + share * (other - own);
        Self {
            excess: mix(self.excess, other.excess),
            variance: mix(self.variance, other.variance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(middle: f64, times: &[f64]) -> Spread {
        let times: Vec<(f64, f64)> = times.iter().map(|time| (*time, 1.0)).collect();
        Spread::around(middle, &times)
    }

    #[test]
    fn times_that_are_all_the_same_have_none() {
        assert_eq!(around(2.0, &[2.0, 2.0, 2.0]), Spread::default());
        assert_eq!(around(2.0, &[2.0]), Spread::default());
    }

    #[test]
    fn what_came_once_is_no_habit() {
        assert_eq!(around(2.0, &[2.0, 2.0, 500.0]), Spread::default());
        let twice = around(2.0, &[2.0, 2.0, 5.0, 500.0]);
        assert_eq!((twice.excess, twice.variance), (1.5, 2.25));
    }
}
