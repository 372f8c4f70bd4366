use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::fair_share::FairShare;
use super::waiting_job::WaitingJob;

/// The waiting jobs in the order in which they are planned: by priority, then first in, first out. With fair share
/// the jobs of each share in a priority are a line, and the line whose share has had least goes next.
#[derive(Debug)]
pub(super) struct Order<'a> {
    waiting: &'a [WaitingJob],
    /// The indices of `waiting` by priority, line and [`WaitingJob::order`].
    sorted: Vec<usize>,
    /// How many of them are in lines, or were.
    begun: usize,
    /// The lines of the current priority, without `current`.
    lines: BinaryHeap<Reverse<Line>>,
    /// The line of the last job.
    current: Option<Line>,
    /// The shares, sorted; empty without fair share: all jobs are in one line then.
    shares: Vec<Option<u32>>,
    /// The seconds that each share has had, those of this plan included; without fair share those of all.
    had: Vec<f64>,
}

/// The jobs of a share in one priority.
#[derive(Debug)]
struct Line {
    had: f64,
    /// The order of its first job.
    order: u64,
    /// The index of its share.
    share: usize,
    /// Its jobs in `sorted`.
    jobs: Range<usize>,
}

impl Line {
    fn key(&self) -> (u64, usize) {
        (self.order, self.share)
    }
}

impl Ord for Line {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_had = self.had.total_cmp(&other.had);
        by_had.then_with(|| self.key().cmp(&other.key()))
    }
}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Line {}

impl<'a> Order<'a> {
    pub(super) fn of(waiting: &'a [WaitingJob], fair: Option<&FairShare>) -> Self {
        let mut shares: Vec<Option<u32>> = Vec::new();
        let mut had = vec![0.0];
        if let Some(fair) = fair {
            shares.extend(waiting.iter().map(|job| job.share));
            shares.sort_unstable();
            shares.dedup();
            had = shares.iter().map(|share| fair.had(*share)).collect();
        }
        let mut order = Self {
            waiting,
            sorted: (0..waiting.len()).collect(),
            begun: 0,
            lines: BinaryHeap::new(),
            current: None,
            shares,
            had,
        };
        let mut sorted = std::mem::take(&mut order.sorted);
        sorted.sort_by_cached_key(|index| {
            let job = &waiting[*index];
            (Reverse(job.priority), order.share(*index), job.order)
        });
        order.sorted = sorted;
        order
    }

    /// The index of the next job.
    pub(super) fn next(&mut self) -> Option<usize> {
        if let Some(last) = self.current.take() {
            self.push(last.share, last.jobs);
        }
        if self.lines.is_empty() {
            self.begin_priority();
        }
        let Reverse(mut line) = self.lines.pop()?;
        let index = line.jobs.next().map(|at| self.sorted[at]);
        self.current = Some(line);
        index
    }

    /// Records that the last job runs for `seconds`.
    pub(super) fn add_seconds(&mut self, seconds: f64) {
        if let Some(line) = &self.current {
            self.had[line.share] += seconds;
        }
    }

    /// Makes the lines of the next priority.
    fn begin_priority(&mut self) {
        let priority = |at: usize| self.waiting[self.sorted[at]].priority;
        let begin = self.begun;
        let mut end = begin;
        while end < self.sorted.len() && priority(end) == priority(begin) {
            end += 1;
        }
        self.begun = end;
        let mut from = begin;
        while from < end {
            let share = self.share(self.sorted[from]);
            let mut to = from + 1;
            while to < end && self.share(self.sorted[to]) == share {
                to += 1;
            }
            self.push(share, from..to);
            from = to;
        }
    }

    fn push(&mut self, share: usize, jobs: Range<usize>) {
        if let Some(first) = self.sorted[jobs.clone()].first() {
            self.lines.push(Reverse(Line {
                had: self.had[share],
                order: self.waiting[*first].order,
                share,
                jobs,
            }));
        }
    }

    /// The index of a job's share.
    fn share(&self, index: usize) -> usize {
        let share = self.shares.binary_search(&self.waiting[index].share);
        share.unwrap_or(0)
    }
}
