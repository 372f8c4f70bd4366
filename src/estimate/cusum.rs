/// How far values may be off without telling of a change, in deviations: loads come and go.
const ALLOWED: f64 = 2.5;

/// How much more than that they have to be off altogether.
const THRESHOLD: f64 = 12.0;

/// The most that one of them counts for that: one alone is no change.
const CLIP: f64 = 5.0;

/// Watches for values that become larger or smaller for good: the cumulative sums of Page (1954).
#[derive(Debug, Clone, Default)]
pub(super) struct Cusum {
    /// Those since they began to be too large, and those since they began to be too small.
    runs: [Option<Excursion>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Excursion {
    /// What was usual before it.
    usual: f64,
    /// How far values were off in the mean before it.
    deviation: f64,
    count: f64,
    /// How far its values were off altogether.
    off: f64,
    /// What that tells, in deviations.
    evidence: f64,
}

/// What was usual before values changed, and by how much they did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) usual: f64,
    pub(super) by: f64,
}

impl Cusum {
    /// Takes note of a value. Before it, `usual` was so, and values were off that by `deviation` in the
    /// mean. After a change it begins anew.
    pub(super) fn note(&mut self, value: f64, usual: f64, deviation: f64) -> Option<Change> {
        let mut change = None;
        for (kept, sign) in self.runs.iter_mut().zip([1.0, -1.0]) {
            let mut run = kept.take().unwrap_or(Excursion {
                usual,
                deviation,
                count: 0.0,
                off: 0.0,
                evidence: 0.0,
            });
            run.count += 1.0;
            let off = value - run.usual;
            run.off += off;
            run.evidence += (sign * off / run.deviation).min(CLIP) - ALLOWED;
            if run.evidence > THRESHOLD {
                change = Some(Change {
                    usual: run.usual,
                    by: run.off / run.count,
                });
            }
            *kept = Some(run).filter(|run| run.evidence > 0.0);
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

    /// After how many of the same values a change is seen.
    fn after(value: f64, deviation: f64) -> Option<usize> {
        let mut watch = Cusum::default();
        (1..1_000).find(|_| {
            let change = watch.note(value, 0.0, deviation);
            assert!(change.is_none_or(|change| (change.by - value).abs() < 1e-9));
            change.is_some()
        })
    }

    #[test]
    fn the_larger_a_change_is_the_sooner_it_is_seen() {
        assert_eq!(after(0.4, 0.2), None);
        assert_eq!(after(0.7, 0.2), Some(13));
        assert_eq!(after(0.9, 0.2), Some(7));
        assert_eq!(after(9.0, 0.2), Some(5));
        assert_eq!(after(-9.0, 0.2), Some(5));
    }

    #[test]
    fn what_comes_and_goes_is_no_change() {
        let mut watch = Cusum::default();
        for _ in 0..100 {
            for value in [0.9, 0.9, 0.9, -0.9, -0.9, -0.9] {
                assert_eq!(watch.note(value, 0.0, 0.2), None);
            }
        }
    }

    #[test]
    fn it_is_held_against_what_was_usual_when_it_began() {
        let mut watch = Cusum::default();
        let notes = (0..20).map(|number| watch.note(0.9, 0.1 * f64::from(number), 0.2));
        let change = notes.flatten().next().unwrap();
        assert_eq!(change.usual, 0.0);
        assert!((change.by - 0.9).abs() < 1e-9, "{change:?}");
    }
}
