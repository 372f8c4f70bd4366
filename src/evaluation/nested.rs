//! Nested cross-validation over families of recordings: whether other weights would estimate better jobs that
//! they were not chosen on.

use std::collections::BTreeMap;
use std::fmt;

use super::family::family;
use super::learner::Learner;
use crate::estimate::SpeedWeights;
use crate::recording::Recording;

/// The range in which each weight is tried: that of [`SpeedWeights::prior`] and those after it.
const RANGES: [(f64, f64); 4] = [(0.6, 4.0), (0.2, 0.9), (0.7, 1.0), (0.3, 1.0)];

/// The bases of the Halton sequence, one for each weight: it covers the ranges more evenly than random numbers do,
/// and is the same each time.
const BASES: [u32; 4] = [2, 3, 5, 7];

/// Of first-time and of known workflows: the sum of the mean errors of jobs, and how many jobs there are.
type Errors = [(f64, usize); 2];

/// How far estimates are off with the weights in use, and with weights that were chosen on other families.
#[derive(Debug)]
pub struct NestedScore {
    settings: usize,
    in_use: Errors,
    /// Each family with the weights that are best for all others.
    chosen: Errors,
    /// With the weights that are best for all families.
    best: (SpeedWeights, Errors),
}

/// The errors of one setting.
struct Trial {
    weights: SpeedWeights,
    by_family: BTreeMap<String, Errors>,
}

impl NestedScore {
    /// Tries so many settings of the weights, the one in use first, on recordings in their order.
    pub fn of(recordings: &[Recording], settings: usize) -> Self {
        let settings = settings.max(1);
        let trials: Vec<Trial> = (0..settings)
            .map(|number| Trial::of(recordings, weights(number)))
            .collect();
        let mut chosen = Errors::default();
        for family in trials[0].by_family.keys() {
            let best = best(&trials, |other| other != family);
            add(
                &mut chosen,
                best.by_family.get(family).copied().unwrap_or_default(),
            );
        }
        let best = best(&trials, |_| true);
        Self {
            settings,
            in_use: trials[0].sum(|_| true),
            chosen,
            best: (best.weights, best.sum(|_| true)),
        }
    }
}

impl Trial {
    fn of(recordings: &[Recording], weights: SpeedWeights) -> Self {
        let mut learner = Learner::with_weights(weights);
        let mut by_family: BTreeMap<String, Errors> = BTreeMap::new();
        for recording in recordings {
            let finished = learner.replay(recording, |_| true);
            for job in finished.into_iter().filter_map(|one| one.scored) {
                let name = family(&recording.meta.scenario).to_owned();
                let errors = by_family.entry(name).or_default();
                let (sum, jobs) = &mut errors[usize::from(job.is_known)];
                *sum += job.mean_error(0);
                *jobs += 1;
            }
        }
        Self { weights, by_family }
    }

    /// The errors of these families.
    fn sum(&self, counts: impl Fn(&str) -> bool) -> Errors {
        let mut sum = Errors::default();
        let families = self.by_family.iter().filter(|(family, _)| counts(family));
        families.for_each(|(_, errors)| add(&mut sum, *errors));
        sum
    }
}

/// The trial with the smallest errors in these families: the mean of known workflows plus that of first-time ones.
fn best(trials: &[Trial], counts: impl Fn(&str) -> bool) -> &Trial {
    let score = |trial: &&Trial| means(trial.sum(&counts)).iter().sum::<f64>();
    let best = trials.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
    best.unwrap_or(&trials[0])
}

fn add(sum: &mut Errors, errors: Errors) {
    for (sum, error) in sum.iter_mut().zip(errors) {
        sum.0 += error.0;
        sum.1 += error.1;
    }
}

fn means(errors: Errors) -> [f64; 2] {
    errors.map(|(sum, jobs)| sum / jobs.max(1) as f64)
}

/// The weights of a setting; 0 is the one in use.
fn weights(number: usize) -> SpeedWeights {
    if number == 0 {
        return SpeedWeights::default();
    }
    let at = |weight: usize| {
        let (low, high) = RANGES[weight];
        low + (high - low) * halton(number, BASES[weight])
    };
    SpeedWeights {
        prior: at(0),
        running_prior: at(1),
        trust: at(2),
        carry_over: at(3),
    }
}

/// The element of the van der Corput sequence with a base, 0 to 1: the digits of its number, mirrored at the point.
fn halton(number: usize, base: u32) -> f64 {
    let (mut rest, mut digit, mut value) = (number as f64, 1.0, 0.0);
    let base = f64::from(base);
    while rest > 0.0 {
        digit /= base;
        value += digit * (rest % base);
        rest = (rest / base).floor();
    }
    value
}

impl fmt::Display for NestedScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            settings,
            in_use,
            chosen,
            best: (weights, best),
        } = self;
        writeln!(
            f,
            "{settings} settings of the weights, in order{:>13} {:>11}",
            "known", "first-time"
        )?;
        for (name, errors) in [
            ("in use", in_use),
            ("chosen on the other families", chosen),
            ("chosen on all families", best),
        ] {
            let [first, known] = means(*errors).map(|mean| 100.0 * mean);
            writeln!(f, "{name:<36} {known:>10.2} % {first:>9.2} %")?;
        }
        write!(f, "the last are {weights:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_cover_their_ranges() {
        assert_eq!(weights(0), SpeedWeights::default());
        let priors: Vec<f64> = (1..=3).map(|number| halton(number, 2)).collect();
        assert_eq!(priors, [0.5, 0.25, 0.75]);
        for number in 1..200 {
            let SpeedWeights {
                trust, carry_over, ..
            } = weights(number);
            assert!((0.7..=1.0).contains(&trust) && (0.3..=1.0).contains(&carry_over));
        }
    }

    /// What is best for one family is chosen for the others only.
    #[test]
    fn each_family_is_scored_by_what_the_others_choose() {
        let trial = |errors: [(&str, f64); 2]| Trial {
            weights: SpeedWeights::default(),
            by_family: errors
                .map(|(family, error)| (family.to_owned(), [(0.0, 0), (error, 1)]))
                .into(),
        };
        let trials = [
            trial([("1", 0.1), ("2", 0.9)]),
            trial([("1", 0.8), ("2", 0.3)]),
        ];
        let mut chosen = Errors::default();
        for family in ["1", "2"] {
            let best = best(&trials, |other| other != family);
            add(&mut chosen, best.by_family[family]);
        }
        assert!((means(chosen)[1] - 0.85).abs() < 1e-9, "{chosen:?}");
    }
}
