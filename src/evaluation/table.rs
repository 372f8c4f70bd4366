use std::fmt;

use super::baseline::Algorithm;
use super::kind::JobKind;
use super::score::{MOMENTS, ScoredJob, time_share};

/// Explains the columns of a [`ScoreTable`].
pub const LEGEND: &str = "\
at 10 … 90 %: mean |error of the remaining time| at that share of the true duration, in % of the duration
mean: the same, averaged over time; median: of the jobs     share: mean |progress - true share of time|, in points
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
    /// The median of the jobs' mean absolute errors.
    pub median: f64,
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
            median: median(jobs.iter().map(|job| job.mean_error(index)).collect()),
            progress_error: mean(all().map(|(job, at)| ahead(job, at).abs())),
            backward_moves: jobs.iter().map(moves).sum(),
            overshoot: all().map(|(job, at)| ahead(job, at)).fold(0.0, f64::max),
            inside: (!intervals.is_empty())
                .then(|| mean(intervals.iter().map(|inside| f64::from(*inside)))),
            given: mean(all().map(|(job, at)| f64::from(answer(job, at).remaining.is_some()))),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => 0.0,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

impl fmt::Display for ScoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<23}", "algorithm")?;
        for mark in MARKS {
            write!(f, " {:>6}", format!("{mark} %"))?;
        }
        writeln!(
            f,
            " {:>6} {:>6} {:>6} {:>5} {:>6} {:>7} {:>5}",
            "mean", "median", "share", "back", "ahead", "inside", "given"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ScoreRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<23}", self.algorithm.name())?;
        for error in self
            .at_marks
            .iter()
            .chain([&self.error, &self.median, &self.progress_error])
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

/// How well the relay did on each kind of job.
#[derive(Debug)]
pub struct KindTable {
    /// For each kind with jobs: first-time workflows, then known ones.
    pub rows: Vec<(JobKind, [KindScore; 2])>,
}

/// How well the relay did on some jobs: shares of the job's duration.
#[derive(Debug, Clone, Copy)]
pub struct KindScore {
    /// How many jobs there are.
    pub jobs: usize,
    /// The mean absolute error of the remaining time.
    pub error: f64,
    /// The median of the jobs' errors.
    pub median: f64,
}

impl KindTable {
    /// Scores the relay's answers by the kind of the job.
    pub fn of(jobs: &[ScoredJob]) -> Self {
        let rows = JobKind::ALL.into_iter().map(|kind| {
            let score = |is_known: bool| {
                let jobs = jobs.iter();
                let jobs = jobs.filter(|job| job.kind == kind && job.is_known == is_known);
                let errors: Vec<f64> = jobs.map(|job| job.mean_error(0)).collect();
                KindScore {
                    jobs: errors.len(),
                    error: mean(errors.iter().copied()),
                    median: median(errors),
                }
            };
            (kind, [false, true].map(score))
        });
        let has_jobs = |row: &(JobKind, [KindScore; 2])| row.1.iter().any(|score| score.jobs > 0);
        Self {
            rows: rows.filter(has_jobs).collect(),
        }
    }
}

impl fmt::Display for KindTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = |f: &mut fmt::Formatter<'_>, title: &str| {
            write!(f, " | {title:>10} {:>6} {:>6}", "mean", "median")
        };
        write!(f, "{:<25}", "comfy-relay, by kind")?;
        header(f, "first-time")?;
        header(f, "known")?;
        for (kind, scores) in &self.rows {
            write!(f, "\n{kind:<25}")?;
            for score in scores {
                if score.jobs == 0 {
                    write!(f, " | {:>10} {:>6} {:>6}", "-", "-", "-")?;
                } else {
                    let (error, median) = (100.0 * score.error, 100.0 * score.median);
                    write!(f, " | {:>10} {error:>6.1} {median:>6.1}", score.jobs)?;
                }
            }
        }
        writeln!(f)
    }
}
