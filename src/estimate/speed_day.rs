use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

/// How many hours are remembered.
const HOURS: usize = 24;

/// Of how many jobs of an hour the median is taken: the newest ones.
const MAX_JOBS: usize = 64;

const SECONDS: i64 = 3_600;

/// How fast a backend was in each of the last hours. A value per hour and job, in memory: what is learned from the store
/// after a start fills it again, so that it needs no table and no query of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct SpeedDay {
    /// The log factors of jobs, by the hours since 1970 in which they ended.
    hours: BTreeMap<i64, VecDeque<f64>>,
}

impl SpeedDay {
    /// Adds the log factor of a job that ended at this time.
    pub(super) fn add(&mut self, ended_at: Timestamp, log_factor: f64) {
        let jobs = self.hours.entry(hour(ended_at)).or_default();
        if jobs.len() == MAX_JOBS {
            jobs.pop_front();
        }
        jobs.push_back(log_factor);
        while self.hours.len() > HOURS {
            self.hours.pop_first();
        }
    }

    /// The median factor of each of the last 24 hours, the one of `now` last; `None` for an hour without jobs. Empty if
    /// there is none.
    pub(super) fn factors(&self, now: Timestamp) -> Vec<Option<f64>> {
        let last = hour(now);
        let first = last - (HOURS as i64 - 1);
        if self.hours.range(first..=last).next().is_none() {
            return Vec::new();
        }
        let hours = (first..=last).map(|hour| self.hours.get(&hour).map(median));
        hours.map(|median| median.map(f64::exp)).collect()
    }
}

fn hour(time: Timestamp) -> i64 {
    time.as_second().div_euclid(SECONDS)
}

/// The lower one of two in the middle.
fn median(jobs: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = jobs.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * SECONDS + 600).unwrap()
    }

    #[test]
    fn each_hour_has_the_median_of_its_jobs() {
        let mut day = SpeedDay::default();
        assert!(day.factors(at(30)).is_empty());
        for factor in [1.0_f64, 8.0, 2.0] {
            day.add(at(30), factor.ln());
        }
        day.add(at(7), 0.5_f64.ln());
        let factors = day.factors(at(30));
        assert_eq!(factors.len(), HOURS);
        let near = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-9;
        assert!(
            near(factors[0], 0.5) && near(factors[23], 2.0),
            "{factors:?}"
        );
        assert!(factors[1..23].iter().all(Option::is_none));
        let later = day.factors(at(31));
        assert!(near(later[22], 2.0) && later[23].is_none(), "{later:?}");
        assert!(day.factors(at(54)).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut day = SpeedDay::default();
        for job in 0..10_000_i64 {
            day.add(at(job / 100), 0.0);
        }
        assert_eq!(day.hours.len(), HOURS);
        assert!(day.hours.values().all(|jobs| jobs.len() <= MAX_JOBS));
    }
}
