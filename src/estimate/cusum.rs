/// The allowance `k`, in deviations: a value this far off adds no evidence, because loads come and go.
const ALLOWANCE: f64 = 2.5;

/// The threshold `h`: how much evidence proves a change.
const THRESHOLD: f64 = 12.0;

/// The most deviations that one value counts: a single outlier proves nothing.
const CLIP: f64 = 5.0;

/// Detects that values have become larger or smaller for good: a two-sided CUSUM chart (Page,
/// "Continuous inspection schemes", Biometrika 41, 1954).
///
/// With `zₜ = ±(xₜ − before) / deviation`, the evidence of each side is
/// `Sₜ = max(0, Sₜ₋₁ + min(zₜ, CLIP) − k)`, and `Sₜ > h` proves a change.
#[derive(Debug, Clone, Default)]
pub(super) struct Cusum {
    /// The current excursion above, and the one below; `None` while the evidence is 0.
    excursions: [Option<Excursion>; 2],
}

/// The values since the evidence of one side was last 0.
#[derive(Debug, Clone, Copy)]
struct Excursion {
    /// The usual value when it began.
    before: f64,
    /// The mean absolute deviation from that when it began.
    deviation: f64,
    count: f64,
    /// `Σ (xₜ − before)`
    sum: f64,
    /// `Sₜ`
    evidence: f64,
}

/// A persistent change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// The usual value before the change.
    pub(super) before: f64,
    /// The mean difference from that since the change.
    pub(super) by: f64,
}

impl Cusum {
    /// Adds a value, and returns the change that it proves; then it starts anew. `usual` is the usual
    /// value so far and `deviation` the mean absolute deviation from it.
    pub(super) fn add(&mut self, value: f64, usual: f64, deviation: f64) -> Option<Change> {
        let mut change = None;
        for (current, sign) in self.excursions.iter_mut().zip([1.0, -1.0]) {
            let mut excursion = current.take().unwrap_or(Excursion {
                before: usual,
                deviation,
                count: 0.0,
                sum: 0.0,
                evidence: 0.0,
            });
            let residual = value - excursion.before;
            excursion.count += 1.0;
            excursion.sum += residual;
            excursion.evidence += (sign * residual / excursion.deviation).min(CLIP) - ALLOWANCE;
            if excursion.evidence > THRESHOLD {
                change = Some(Change {
                    before: excursion.before,
                    by: excursion.sum / excursion.count,
                });
            }
            *current = Some(excursion).filter(|excursion| excursion.evidence > 0.0);
        }
        if change.is_some() {
            *self = Self::default();
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many equal values the change is detected.
    fn after(value: f64, deviation: f64) -> Option<usize> {
        let mut cusum = Cusum::default();
        (1..1_000).find(|_| {
            let change = cusum.add(value, 0.0, deviation);
            assert!(change.is_none_or(|change| (change.by - value).abs() < 1e-9));
            change.is_some()
        })
    }

    #[test]
    fn a_larger_change_is_detected_sooner() {
        assert_eq!(after(0.4, 0.2), None);
        assert_eq!(after(0.7, 0.2), Some(13));
        assert_eq!(after(0.9, 0.2), Some(7));
        assert_eq!(after(9.0, 0.2), Some(5));
        assert_eq!(after(-9.0, 0.2), Some(5));
    }

    #[test]
    fn values_that_alternate_are_no_change() {
        let mut cusum = Cusum::default();
        for _ in 0..100 {
            for value in [0.9, 0.9, 0.9, -0.9, -0.9, -0.9] {
                assert_eq!(cusum.add(value, 0.0, 0.2), None);
            }
        }
    }

    #[test]
    fn values_are_compared_with_the_usual_one_when_the_excursion_began() {
        let mut cusum = Cusum::default();
        let changes = (0..20).map(|number| cusum.add(0.9, 0.1 * f64::from(number), 0.2));
        let change = changes.flatten().next().unwrap();
        assert_eq!(change.before, 0.0);
        assert!((change.by - 0.9).abs() < 1e-9, "{change:?}");
    }
}
