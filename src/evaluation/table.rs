use std::fmt;

use super::baseline::Algorithm;
use super::score::{MOMENTS, ScoredJob, time_share};

/// Explains the columns of a [`ScoreTable`].
pub const LEGEND: &str = "\
at 10 … 90 %: mean |error of the remaining time| at that share of the true duration, in % of the duration
mean: the same, averaged over time     share: mean |progress - true share of time|, in points
back: backward moves of progress       ahead: the most that progress was ahead of time, in points
inside: true ends within the interval, in %     given: moments with a remaining time, in %
A missing answer counts as 0 s.";

/// The shares of a job's duration with a column of their own, in percent.
const MARKS: [usize; 5] = [10, 25, 50, 75, 90];

/// How well each algorithm did on a set of jobs.
#[derive(Debug)]
pub struct ScoreTable {
    /// In the order of [`Algorithm::ALL`].
    pub rows: Vec<ScoreRow>,
}

/// How well one algorithm did. Errors of the remaining time are shares of the job's duration.
#[derive(Debug)]
pub struct ScoreRow {
    /// Whose answers were scored.
    pub algorithm: Algorithm,
    /// The mean absolute error of the remaining time at 10, 25, 50, 75 and 90 % of the duration.
    pub at_marks: [f64; MARKS.len()],
    /// The mean absolute error of the remaining time over all moments.
    pub error: f64,
    /// The mean absolute difference of progress and the true share of time, 0 to 1.
    pub progress_error: f64,
    /// How many times progress fell.
    pub backward_moves: usize,
    /// The most that progress was ahead of the true share of time, 0 to 1.
    pub overshoot: f64,
    /// The share of the true ends within the interval; `None` if there is no interval.
    pub inside: Option<f64>,
    /// The share of the moments with a remaining time.
    pub given: f64,
}

impl ScoreTable {
    /// Scores the answers of each algorithm for these jobs.
    pub fn of(jobs: &[&ScoredJob]) -> Self {
        let rows = Algorithm::ALL.iter().enumerate();
        let rows = rows.map(|(index, algorithm)| ScoreRow::of(*algorithm, index, jobs));
        Self {
            rows: rows.collect(),
        }
    }
}

impl ScoreRow {
    fn of(algorithm: Algorithm, index: usize, jobs: &[&ScoredJob]) -> Self {
        let answer = |job: &ScoredJob, moment: usize| job.answers[moment][index];
        let ahead = |job: &ScoredJob, at: usize| answer(job, at).progress - time_share(at);
        let all = || {
            jobs.iter()
                .flat_map(|job| (0..MOMENTS).map(move |at| (*job, at)))
        };
        let intervals: Vec<bool> = all()
            .filter_map(|(job, at)| {
                let (low, high) = answer(job, at).interval?;
                Some((low..=high).contains(&job.remaining(at)))
            })
            .collect();
        let moves = |job: &&ScoredJob| {
            let back = |at: &usize| answer(job, *at).progress < answer(job, at - 1).progress - 1e-9;
            (1..MOMENTS).filter(back).count()
        };
        Self {
            algorithm,
            at_marks: MARKS.map(|mark| {
                mean(
                    jobs.iter()
                        .map(|job| job.error(index, mark * MOMENTS / 100)),
                )
            }),
            error: mean(jobs.iter().map(|job| job.mean_error(index))),
            progress_error: mean(all().map(|(job, at)| ahead(job, at).abs())),
            backward_moves: jobs.iter().map(moves).sum(),
            overshoot: all().map(|(job, at)| ahead(job, at)).fold(0.0, f64::max),
            inside: (!intervals.is_empty())
                .then(|| mean(intervals.iter().map(|inside| f64::from(*inside)))),
            given: mean(all().map(|(job, at)| f64::from(answer(job, at).remaining.is_some()))),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

impl fmt::Display for ScoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22}", "algorithm")?;
        for mark in MARKS {
            write!(f, " {:>6}", format!("{mark} %"))?;
        }
        writeln!(
            f,
            " {:>6} {:>6} {:>5} {:>6} {:>7} {:>5}",
            "mean", "share", "back", "ahead", "inside", "given"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ScoreRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22}", self.algorithm.name())?;
        for error in self
            .at_marks
            .iter()
            .chain([&self.error, &self.progress_error])
        {
            write!(f, " {:>6.1}", 100.0 * error)?;
        }
        let inside = self
            .inside
            .map_or_else(|| "-".to_owned(), |inside| format!("{:.0}", 100.0 * inside));
        let (ahead, given) = (100.0 * self.overshoot, 100.0 * self.given);
        write!(
            f,
            " {:>5} {ahead:>6.0} {inside:>7} {given:>5.0}",
            self.backward_moves
        )
    }
}
