//! What the answers of a trial come to.

use std::fmt;

use super::baseline::Algorithm;
use super::trial::{MOMENTS, Scored, moment};

pub(super) const LEGEND: &str = "\
at 10 … 90 %: mean |error of the remaining time| at that share of true time, in % of the job's duration
mean: the same, averaged over time     share: mean |progress - true share of time|, in points
back: backward moves of progress       ahead: the furthest that progress was ahead of time, in points
inside: true ends within the interval, in %     told: moments at which a remaining time was told, in %
A moment without an answer counts as an answer of 0 s.";

/// The shares of true time that have a column of their own.
const MARKS: [usize; 5] = [10, 25, 50, 75, 90];

/// A line for each algorithm.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

/// How one algorithm did. Shares are of 1.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) algorithm: Algorithm,
    pub(super) at_marks: [f64; MARKS.len()],
    pub(super) error: f64,
    pub(super) progress_error: f64,
    pub(super) backward_moves: usize,
    pub(super) overshoot: f64,
    pub(super) inside: Option<f64>,
    pub(super) told: f64,
}

impl Table {
    pub(super) fn of(jobs: &[&Scored]) -> Self {
        let rows = Algorithm::ALL.iter().enumerate();
        let rows = rows.map(|(index, algorithm)| Row::of(*algorithm, index, jobs));
        Self {
            rows: rows.collect(),
        }
    }
}

impl Row {
    fn of(algorithm: Algorithm, index: usize, jobs: &[&Scored]) -> Self {
        let answer = |job: &Scored, moment: usize| job.answers[moment][index];
        let ahead = |job: &Scored, at: usize| answer(job, at).progress - moment(at);
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
        let moves = |job: &&Scored| {
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
            told: mean(all().map(|(job, at)| f64::from(answer(job, at).remaining.is_some()))),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22}", "algorithm")?;
        for mark in MARKS {
            write!(f, " {:>6}", format!("{mark} %"))?;
        }
        writeln!(
            f,
            " {:>6} {:>6} {:>5} {:>6} {:>7} {:>5}",
            "mean", "share", "back", "ahead", "inside", "told"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
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
        let (ahead, told) = (100.0 * self.overshoot, 100.0 * self.told);
        write!(
            f,
            " {:>5} {ahead:>6.0} {inside:>7} {told:>5.0}",
            self.backward_moves
        )
    }
}
