//! [`Simulation`]: the servers work through the jobs by a simulated clock.

use comfy_relay::placement::{BackendLoad, WaitingJob, plan};

use crate::eta_log::{EtaErrors, EtaLog};
use crate::learned::Learned;
use crate::policy::Policy;
use crate::sim_job::{SPEEDS, SimJob};
use crate::sim_server::SimServer;
use crate::workflow::Workflow;

/// How often the waiting jobs are planned again if nothing happens, in seconds.
const PASS_INTERVAL: f64 = 5.0;

/// The servers, and the jobs on their way through them.
#[derive(Debug)]
pub(crate) struct Simulation<'a> {
    policy: Policy,
    jobs: &'a [SimJob],
    workflows: &'a [Workflow],
    servers: Vec<SimServer>,
    learned: Learned,
    /// The jobs that have arrived and were not handed in, in the order of their arrivals.
    waiting: Vec<usize>,
    /// How many have arrived, and how many were handed in.
    arrived: usize,
    handed_in: usize,
    /// When each server last got a job, as a number of that job.
    turns: Vec<u64>,
    handed_in_at: Vec<f64>,
    ends: Vec<f64>,
    eta_log: EtaLog,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// The seconds until the last job has ended.
    pub(crate) makespan: f64,
    /// The mean seconds from the arrival of a job to its end.
    pub(crate) mean_time: f64,
    /// How far the ends were off that waiting jobs were shown; `None` if they were shown none.
    pub(crate) eta: Option<EtaErrors>,
    /// The jobs of each server, in the order in which they ran.
    pub(crate) sequences: Vec<Vec<usize>>,
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(policy: Policy, jobs: &'a [SimJob], workflows: &'a [Workflow]) -> Self {
        let servers = SPEEDS.iter().enumerate();
        let servers = servers.map(|(index, speed)| SimServer::new(index, *speed));
        let servers: Vec<SimServer> = servers.collect();
        Self {
            policy,
            jobs,
            workflows,
            learned: Learned::new(workflows, &servers),
            turns: vec![0; servers.len()],
            servers,
            waiting: Vec::new(),
            arrived: 0,
            handed_in: 0,
            handed_in_at: vec![0.0; jobs.len()],
            ends: vec![0.0; jobs.len()],
            eta_log: EtaLog::new(jobs.len()),
        }
    }

    /// Runs until all jobs have ended.
    pub(crate) fn run(mut self) -> Outcomes {
        let mut sequences = vec![Vec::new(); self.servers.len()];
        let mut now = 0.0;
        let mut next_pass = 0.0;
        let mut ended = 0;
        while ended < self.jobs.len() {
            let mut is_due = now >= next_pass;
            while self.arrived < self.jobs.len() && self.jobs[self.arrived].arrives <= now {
                self.waiting.push(self.arrived);
                self.arrived += 1;
                is_due = true;
            }
            for (server, sequence) in sequences.iter_mut().enumerate() {
                if let Some((index, job)) = self.servers[server].advance(now) {
                    self.ends[index] = now;
                    sequence.push(index);
                    ended += 1;
                    self.servers[server].begin(self.jobs, self.workflows, now);
                    self.learned.learn(&job, self.workflows, &self.servers);
                    is_due = true;
                }
            }
            if is_due {
                self.hand_in(now);
                next_pass = now + PASS_INTERVAL;
            }
            now = self.next_moment(next_pass);
        }
        let jobs = self.jobs.iter().zip(&self.ends);
        let times: f64 = jobs.map(|(job, end)| end - job.arrives).sum();
        Outcomes {
            makespan: self.ends.iter().copied().fold(0.0, f64::max),
            mean_time: times / self.jobs.len() as f64,
            eta: self.eta_log.errors(&self.handed_in_at, &self.ends),
            sequences,
        }
    }

    /// When the next thing happens.
    fn next_moment(&self, next_pass: f64) -> f64 {
        let events = self.servers.iter().filter_map(SimServer::next_event);
        let arrival = self.jobs.get(self.arrived).map(|job| job.arrives);
        events.chain(arrival).fold(next_pass, f64::min)
    }

    fn hand_in(&mut self, now: f64) {
        if self.policy == Policy::Placement {
            self.place(now);
            return;
        }
        while let Some(job) = self.waiting.first().copied() {
            let Some(server) = self.policy.choose(&self.servers, self.handed_in) else {
                return;
            };
            self.waiting.remove(0);
            self.give(job, server, now);
        }
    }

    /// One pass of the relay's placement.
    fn place(&mut self, now: f64) {
        let servers = self.servers.iter().enumerate();
        let loads = servers.map(|(index, server)| {
            let turn = self.turns[index];
            self.learned
                .load(server, self.jobs, self.workflows, turn, now)
        });
        let loads: Vec<BackendLoad> = loads.collect();
        let waiting = self.waiting.iter().map(|job| WaitingJob {
            kind: self.jobs[*job].workflow,
            priority: 0,
            order: *job as u64,
            share: None,
        });
        let waiting: Vec<WaitingJob> = waiting.collect();
        let planned = plan(&loads, &self.learned.kinds, &waiting, None);
        let jobs = std::mem::take(&mut self.waiting);
        for (job, planned) in jobs.into_iter().zip(planned) {
            match planned {
                Some(planned) if planned.now => self.give(job, planned.backend, now),
                planned => {
                    let end = planned.map(|planned| now + planned.ends_in);
                    self.eta_log
                        .record(job, now, end.filter(|end| end.is_finite()));
                    self.waiting.push(job);
                }
            }
        }
    }

    fn give(&mut self, job: usize, server: usize, now: f64) {
        self.handed_in += 1;
        self.turns[server] = self.handed_in as u64;
        self.handed_in_at[job] = now;
        self.servers[server].ready.push_back(job);
        self.servers[server].begin(self.jobs, self.workflows, now);
    }
}
