//! The scenarios, and how most of them are measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::clients::{Clients, join};
use crate::figures::{Figures, micros_each, percentiles, print_ratio};
use crate::options::LoadOptions;
use crate::process::{Server, own_cpu};
use crate::publisher::{self, Pace};
use crate::tally::{Mark, Tally};
use crate::updates::Updates;
use crate::{chain, door, flood, leave, queue, remembered, remote};

/// How long the servers are left alone before their memory is measured: what only connecting needs
/// is freed by then.
const SETTLING: Duration = Duration::from_secs(2);

/// States a second for 19,000 subscribers: more would overload the two cores.
const HELD_RATE: f64 = 2.0;

/// What is measured
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 10,000 subscribers of one job, states at a pace
    Paced,
    /// 10,000 subscribers of one job, states as fast as they are delivered
    Saturated,
    /// 100 subscribers of each of 100 jobs, states at a pace
    Jobs,
    /// 10 subscribers of each of 100 jobs, states at a pace: what a publication costs
    Few,
    /// One subscriber of a job beside 10,000 of another one, whose states come as fast as they are
    /// delivered; latencies of the one subscriber
    Beside,
    /// 10,000 subscribers without any state: connecting, and memory
    Idle,
    /// 10,000 subscribers of a job that is registered only when all have connected: connecting, and memory
    Waiting,
    /// 19,000 subscribers in one process, 2 states a second
    Held,
    /// 10,000 subscribers of a job that ends
    Finals,
    /// 10,000 subscribers that connect at once and disconnect at once, three times, beside one of a
    /// running job; latencies of the one subscriber, memory that is left for each that connected
    Leave,
    /// 2,000 messages a second from ComfyUI, each on 100 nodes; the relay alone
    Flood,
    /// 50 servers that play a recording 15 times as fast as it was made; the relay alone
    Chain,
    /// 10,000 prompts that wait, and 50 servers with 100 open jobs each; the relay alone
    Queue,
    /// 10,000 jobs of 100 nodes that have ended: memory; the relay alone
    Remembered,
    /// 10 subscribers of each of 1,000 jobs that another relay publishes over Redis
    Remote,
    /// ComfyUI's own API through the relay, beside the same of ComfyUI itself
    Door,
}

/// How a scenario is run.
struct Plan {
    /// Subscribers of each job.
    counts: Vec<usize>,
    /// The first job of which latencies are taken.
    first_timed: usize,
    pace: Option<Pace>,
    settles: bool,
    /// Jobs are registered before subscribers connect.
    registers_first: bool,
    ends: bool,
}

/// A server that is measured.
#[derive(Clone, Copy)]
enum Kind {
    Floor,
    Relay,
}

impl Scenario {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 16] = [
        Self::Paced,
        Self::Saturated,
        Self::Jobs,
        Self::Few,
        Self::Beside,
        Self::Idle,
        Self::Waiting,
        Self::Held,
        Self::Finals,
        Self::Leave,
        Self::Flood,
        Self::Chain,
        Self::Queue,
        Self::Remembered,
        Self::Remote,
        Self::Door,
    ];

    /// Runs all rounds, prints the results, and returns whether everything arrived that had to.
    pub(crate) fn measure(self, options: &LoadOptions) -> anyhow::Result<bool> {
        match self {
            Self::Flood => return flood::measure(options),
            Self::Chain => return chain::measure(options),
            Self::Queue => return queue::measure(options),
            Self::Remembered => return remembered::measure(options),
            Self::Remote => return remote::measure(options),
            Self::Door => return door::measure(options),
            Self::Leave => return leave::measure(&self.name(), options),
            _ => {}
        }
        let plan = self.plan(options);
        let (mut floor, mut relay) = (Vec::new(), Vec::new());
        let mut is_sound = true;
        for round in 0..options.rounds {
            // Each server goes first as often as the other.
            let order = match round % 2 {
                0 => [Kind::Floor, Kind::Relay],
                _ => [Kind::Relay, Kind::Floor],
            };
            for kind in order {
                let (figures, all_arrived) = plan.run(kind, options)?;
                let may_skip = matches!(self, Self::Saturated | Self::Beside);
                is_sound &= all_arrived && figures.out_of_order == 0;
                is_sound &= may_skip || figures.lost == 0;
                match kind {
                    Kind::Floor => floor.push(figures),
                    Kind::Relay => relay.push(figures),
                }
            }
        }
        let (floor, relay) = (Figures::median(&floor), Figures::median(&relay));
        let name = format!("{} {} x {}", self.name(), plan.counts.len(), plan.counts[0]);
        floor.print(&name, "floor");
        relay.print("", "relay");
        print_ratio("CPU of a delivery", relay.cpu, floor.cpu);
        if !is_sound {
            println!(
                "{:<22} FAILED: see above what did not arrive as it should",
                ""
            );
        }
        Ok(is_sound)
    }

    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn plan(self, options: &LoadOptions) -> Plan {
        let (jobs, subscribers) = match self {
            Self::Jobs => (100, 10_000),
            Self::Few => (100, 1_000),
            Self::Held => (1, 19_000),
            _ => (1, 10_000),
        };
        let subscribers = options
            .subscribers
            .map_or(subscribers, |count| count as usize);
        let every = |rate: f64| {
            let count = (options.seconds * rate).round().max(1.0) as u64;
            Some(Pace::Every(Duration::from_secs_f64(1.0 / rate), count))
        };
        let mut counts = vec![(subscribers / jobs).max(1); jobs];
        if self == Self::Beside {
            counts.push(1);
        }
        Plan {
            first_timed: usize::from(self == Self::Beside),
            counts,
            pace: match self {
                Self::Paced | Self::Jobs | Self::Few => every(options.rate),
                Self::Held => every(options.rate.min(HELD_RATE)),
                Self::Saturated => Some(Pace::Saturated(Duration::from_secs_f64(options.seconds))),
                Self::Beside => Some(Pace::Beside(Duration::from_secs_f64(options.seconds))),
                Self::Idle
                | Self::Waiting
                | Self::Finals
                | Self::Leave
                | Self::Flood
                | Self::Chain
                | Self::Queue
                | Self::Remembered
                | Self::Remote
                | Self::Door => None,
            },
            settles: matches!(self, Self::Idle | Self::Waiting | Self::Held),
            registers_first: self != Self::Waiting,
            ends: self == Self::Finals,
        }
    }
}

impl Plan {
    /// The job of each subscriber, with the jobs in turn.
    fn turns(&self) -> Vec<usize> {
        let most = self.counts.iter().max().copied().unwrap_or_default();
        let turn = |round: usize| {
            let jobs = self.counts.iter().enumerate();
            jobs.filter(move |(_, count)| round < **count)
                .map(|(job, _)| job)
        };
        (0..most).flat_map(turn).collect()
    }

    /// Runs one round with one server. Returns also whether everything arrived.
    fn run(&self, kind: Kind, options: &LoadOptions) -> anyhow::Result<(Figures, bool)> {
        let server = match kind {
            Kind::Floor => Server::floor()?,
            Kind::Relay => Server::relay(None, options)?,
        };
        let jobs = self.counts.len();
        if self.registers_first {
            publisher::register(server.address, jobs)?;
        }
        let total: usize = self.counts.iter().sum();
        let before = server.memory()?;
        let updates = Arc::new(Updates::new(jobs));
        let counts = self.counts.iter().map(|&count| count as u32).collect();
        let tally = Tally::new(updates.clone(), counts, self.first_timed, Mark::Report);
        let mut clients = Clients::new(server.address, tally)?;
        let (cpu, own) = (server.cpu()?, own_cpu()?);
        let opening = clients.open(&self.turns())?;
        let mut figures = Figures {
            connects: total as f64 / opening.as_secs_f64(),
            // Of a connect, unless states are published.
            cpu: micros_each(server.cpu()? - cpu, total as u64),
            client_cpu: micros_each(own_cpu()? - own, total as u64),
            ..Figures::default()
        };
        if self.settles {
            let until = Instant::now() + SETTLING;
            clients.receive_until(|_| Instant::now() >= until)?;
            let grown = server.memory()?.saturating_sub(before);
            figures.memory = Some(grown as f64 / total as f64);
        }
        let mut all_arrived = true;
        if !self.registers_first {
            publisher::register(server.address, jobs)?;
            all_arrived &= clients.receive_until(|it| it.tally.states >= total as u64)?;
        }
        if let Some(pace) = self.pace {
            let (cpu, own, began) = (server.cpu()?, own_cpu()?, Instant::now());
            clients.tally.restart();
            let publishing = publisher::publish(server.address, updates, pace);
            let posted = clients.receive_while(publishing)?;
            all_arrived &= clients.receive_until(|clients| clients.tally.has_all(&posted))?;
            let states = clients.tally.states;
            figures.cpu = micros_each(server.cpu()? - cpu, states);
            figures.client_cpu = micros_each(own_cpu()? - own, states);
            figures.rate = Some(states as f64 / began.elapsed().as_secs_f64());
            figures.latency = percentiles(&mut clients.tally.latencies);
        }
        if self.ends {
            let (cpu, own, began) = (server.cpu()?, own_cpu()?, Instant::now());
            clients.tally.restart();
            let address = server.address;
            let ending = std::thread::spawn(move || publisher::complete(address, jobs));
            let has_ended = |clients: &Clients| clients.closed + clients.broken == total;
            all_arrived &= clients.receive_until(has_ended)?;
            join(ending)?;
            figures.cpu = micros_each(server.cpu()? - cpu, total as u64);
            figures.client_cpu = micros_each(own_cpu()? - own, total as u64);
            figures.rate = Some(total as f64 / began.elapsed().as_secs_f64());
            let wrong = clients.tally.repeated_finals + clients.broken as u64;
            let arrived = clients.tally.finals.min(clients.closed as u64);
            figures.finals = Some((arrived.saturating_sub(wrong), total as u64));
            all_arrived &= wrong == 0 && arrived == total as u64;
        }
        all_arrived &= clients.broken == 0;
        figures.lost = clients.tally.lost;
        figures.out_of_order = clients.tally.out_of_order;
        Ok((figures, all_arrived))
    }
}
