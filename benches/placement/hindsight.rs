//! [`Hindsight`]: the best that could have been, with all true durations known from the start.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sim_job::{SPEEDS, SimJob};
use crate::workflow::Workflow;

/// The moves of a local search.
const MOVES: u32 = 400_000;

/// How much longer a makespan the search accepts at its start, as a share of the lower bound. It falls to zero.
const TEMPERATURE: f64 = 0.01;

/// A bound that no schedule is below, and the best schedule that was found.
#[derive(Debug)]
pub(crate) struct Hindsight {
    pub(crate) lower_bound: f64,
    pub(crate) makespan: f64,
    /// The mean seconds from the arrival of a job to its end, in that schedule.
    pub(crate) mean_time: f64,
}

/// What a search knows of the jobs: when they arrive, the seconds and the model of each, and the seconds of loading it.
struct Problem {
    arrives: Vec<f64>,
    seconds: Vec<f64>,
    models: Vec<u64>,
    loads: Vec<f64>,
}

/// The jobs of each server, in the order in which they run.
type Sequences = Vec<Vec<usize>>;

impl Hindsight {
    /// Searches from longest-processing-time-first and from the schedules that others have made, so that it is never
    /// worse than these.
    pub(crate) fn of(
        seed: u64,
        jobs: &[SimJob],
        workflows: &[Workflow],
        others: impl IntoIterator<Item = Sequences>,
    ) -> Self {
        let problem = Problem::new(jobs, workflows);
        let lower_bound = problem.lower_bound();
        let mut random = StdRng::seed_from_u64(seed);
        let starts = others.into_iter().chain([problem.longest_first()]);
        let found = starts.map(|start| problem.search(start, lower_bound, &mut random));
        let best = found.min_by(|a, b| problem.makespan(a).total_cmp(&problem.makespan(b)));
        let best = best.expect("at least one start");
        Self {
            lower_bound,
            makespan: problem.makespan(&best),
            mean_time: problem.mean_time(&best),
        }
    }
}

impl Problem {
    fn new(jobs: &[SimJob], workflows: &[Workflow]) -> Self {
        let load = |job: &SimJob| job.seconds(workflows, false) - job.seconds(workflows, true);
        Self {
            arrives: jobs.iter().map(|job| job.arrives).collect(),
            seconds: jobs
                .iter()
                .map(|job| job.seconds(workflows, true))
                .collect(),
            models: jobs
                .iter()
                .map(|job| workflows[job.workflow].model.key)
                .collect(),
            loads: jobs.iter().map(load).collect(),
        }
    }

    /// The linear program without its integers: from each moment `r` on, all servers together do what arrives at `r`
    /// or later, without loading anything, `max r + Σ seconds / Σ speeds`; from the start on, each model is loaded once
    /// as well, at the least that any of its jobs shows. And a job takes as long as it takes on the fastest.
    fn lower_bound(&self) -> f64 {
        let speeds: f64 = SPEEDS.iter().sum();
        let mut bound: f64 = 0.0;
        for (job, arrives) in self.arrives.iter().enumerate() {
            // Jobs are in the order of their arrivals.
            let area: f64 = self.seconds[job..].iter().sum();
            bound = bound.max(arrives + area / speeds);
            bound = bound.max(arrives + self.seconds[job] / SPEEDS[SPEEDS.len() - 1]);
        }
        let mut loads = std::collections::BTreeMap::new();
        for (job, load) in self.loads.iter().enumerate() {
            let least = loads.entry(self.models[job]).or_insert(f64::INFINITY);
            *least = load.min(*least);
        }
        let all: f64 = self.seconds.iter().chain(loads.values()).sum();
        bound.max(all / speeds)
    }

    /// When the last job of a sequence ends.
    fn end(&self, server: usize, sequence: &[usize]) -> f64 {
        self.ends(server, sequence).last().unwrap_or(0.0)
    }

    fn ends(&self, server: usize, sequence: &[usize]) -> impl Iterator<Item = f64> {
        let (mut now, mut loaded) = (0.0_f64, None);
        sequence.iter().map(move |&job| {
            let load = if loaded == Some(self.models[job]) {
                0.0
            } else {
                self.loads[job]
            };
            loaded = Some(self.models[job]);
            now = now.max(self.arrives[job]) + (load + self.seconds[job]) / SPEEDS[server];
            now
        })
    }

    fn makespan(&self, sequences: &Sequences) -> f64 {
        let ends = sequences.iter().enumerate();
        ends.map(|(server, sequence)| self.end(server, sequence))
            .fold(0.0, f64::max)
    }

    fn mean_time(&self, sequences: &Sequences) -> f64 {
        let mut sum = 0.0;
        for (server, sequence) in sequences.iter().enumerate() {
            let ends = self.ends(server, sequence).zip(sequence);
            sum += ends.map(|(end, job)| end - self.arrives[*job]).sum::<f64>();
        }
        sum / self.seconds.len() as f64
    }

    /// The longest jobs first, each where it ends first without regard to arrivals; then in each server by arrival,
    /// or all jobs of a model together if all arrive at once.
    fn longest_first(&self) -> Sequences {
        let mut jobs: Vec<usize> = (0..self.seconds.len()).collect();
        jobs.sort_by(|a, b| self.seconds[*b].total_cmp(&self.seconds[*a]));
        let mut sequences = vec![Vec::new(); SPEEDS.len()];
        let mut work = [0.0; SPEEDS.len()];
        for job in jobs {
            let end = |server: &usize| (work[*server] + self.seconds[job]) / SPEEDS[*server];
            let first = (0..SPEEDS.len()).min_by(|a, b| end(a).total_cmp(&end(b)));
            let first = first.expect("there are servers");
            work[first] += self.seconds[job];
            sequences[first].push(job);
        }
        let key = |job: &usize| (self.arrives[*job], self.models[*job]);
        for sequence in &mut sequences {
            sequence.sort_by(|a, b| key(a).partial_cmp(&key(b)).expect("numbers"));
        }
        sequences
    }

    /// Simulated annealing: moves a job, or a run of jobs, to another place.
    fn search(&self, start: Sequences, lower_bound: f64, random: &mut StdRng) -> Sequences {
        let cost = |ends: &[f64]| {
            let longest = ends.iter().copied().fold(0.0, f64::max);
            // Where the longest stays, less work in all helps the next move.
            longest + 1e-3 * ends.iter().sum::<f64>()
        };
        let mut current = start;
        let ends = current.iter().enumerate();
        let mut ends: Vec<f64> = ends.map(|(server, jobs)| self.end(server, jobs)).collect();
        let (mut best, mut best_makespan) = (current.clone(), self.makespan(&current));
        for step in 0..MOVES {
            let from = random.random_range(0..current.len());
            let to = random.random_range(0..current.len());
            if current[from].is_empty() {
                continue;
            }
            let at = random.random_range(0..current[from].len());
            let count = random.random_range(1..=4.min(current[from].len() - at));
            let mut changed = current[from].clone();
            let moved: Vec<usize> = changed.drain(at..at + count).collect();
            let mut target = if from == to {
                std::mem::take(&mut changed)
            } else {
                current[to].clone()
            };
            let place = random.random_range(0..=target.len());
            target.splice(place..place, moved);
            let mut after = ends.clone();
            after[from] = self.end(from, &changed);
            after[to] = self.end(to, &target);
            let left = 1.0 - f64::from(step) / f64::from(MOVES);
            let slack = TEMPERATURE * lower_bound * left * left * random.random::<f64>().powi(8);
            if cost(&after) > cost(&ends) + slack {
                continue;
            }
            current[from] = changed;
            current[to] = target;
            ends = after;
            let makespan = ends.iter().copied().fold(0.0, f64::max);
            if makespan < best_makespan {
                (best, best_makespan) = (current.clone(), makespan);
            }
        }
        best
    }
}
