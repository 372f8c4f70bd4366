//! What the jobs of another relay cost: their states come over Redis.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::clients::Clients;
use crate::figures::{median, micros_each, percentiles};
use crate::options::LoadOptions;
use crate::process::{Server, Site};
use crate::publisher::{self, Pace};
use crate::tally::{Mark, Tally};
use crate::updates::Updates;

/// How many jobs there are, and how many subscribers in all.
const JOBS: usize = 1_000;
const SUBSCRIBERS: usize = 10_000;

/// The time between two states of a job.
const GAP: Duration = Duration::from_secs(1);

struct Round {
    /// Microseconds of the relay's processor time for each state that a subscriber gets.
    cpu: f64,
    /// From the report of a producer to a subscriber, p50 and p99 in milliseconds.
    latency: (f64, f64),
    is_sound: bool,
}

/// Where the jobs are that the relay's subscribers follow.
#[derive(Clone, Copy)]
enum Owner {
    /// At the relay itself, which publishes their states for others.
    Itself,
    /// At another relay.
    Another,
}

/// Prints what a state costs that another relay publishes, beside one of the relay's own.
pub(crate) fn measure(options: &LoadOptions) -> anyhow::Result<bool> {
    let Some(site) = Site::from_environment() else {
        println!(
            "remote: set DATABASE_URL to a PostgreSQL database and REDIS_URL to a Redis server"
        );
        return Ok(true);
    };
    let (mut own, mut remote) = (Vec::new(), Vec::new());
    for number in 0..options.rounds {
        own.push(run(Owner::Itself, &site, number, options)?);
        remote.push(run(Owner::Another, &site, number, options)?);
    }
    let cost = |rounds: &[Round], pick: fn(&Round) -> f64| {
        median(rounds.iter().map(pick).collect()).unwrap_or_default()
    };
    let (at_owner, elsewhere) = (cost(&own, |it| it.cpu), cost(&remote, |it| it.cpu));
    let is_sound = own.iter().chain(&remote).all(|round| round.is_sound);
    println!(
        "remote {JOBS} x {}: CPU of a delivery {at_owner:.1} µs for the relay's own jobs, {elsewhere:.1} µs for those of another: \
         {:.2}; latency p50 / p99 {:.1} / {:.1} ms and {:.1} / {:.1} ms; {}",
        SUBSCRIBERS / JOBS,
        elsewhere / at_owner,
        cost(&own, |it| it.latency.0),
        cost(&own, |it| it.latency.1),
        cost(&remote, |it| it.latency.0),
        cost(&remote, |it| it.latency.1),
        if is_sound {
            "every newest state came, in order"
        } else {
            "FAILED: states were lost or out of order"
        }
    );
    Ok(is_sound)
}

fn run(owner: Owner, site: &Site, number: u32, options: &LoadOptions) -> anyhow::Result<Round> {
    let name = match owner {
        Owner::Itself => format!("own{number}"),
        Owner::Another => format!("remote{number}"),
    };
    let site = site.of_its_own(&name);
    let relay = Server::at(&site, options)?;
    let other = match owner {
        Owner::Itself => None,
        Owner::Another => Some(Server::at(&site, options)?),
    };
    let publishing = other.as_ref().map_or(relay.address, |other| other.address);
    publisher::register(publishing, JOBS)?;
    let updates = Arc::new(Updates::new(JOBS));
    let each = SUBSCRIBERS / JOBS;
    let tally = Tally::new(updates.clone(), vec![each as u32; JOBS], 0, Mark::Report);
    let mut clients = Clients::new(relay.address, tally)?;
    let turns: Vec<usize> = (0..each).flat_map(|_| 0..JOBS).collect();
    clients.open(&turns)?;
    let total = SUBSCRIBERS as u64;
    let mut is_sound = clients.receive_until(|it| it.tally.states >= total)?;
    clients.tally.restart();
    let cpu = relay.cpu()?;
    let count = (options.seconds / GAP.as_secs_f64()).round().max(1.0) as u64;
    let posting = publisher::publish(publishing, updates, Pace::Every(GAP, count));
    let posted = clients.receive_while(posting)?;
    is_sound &= clients.receive_until(|clients| clients.tally.has_all(&posted))?;
    let states = clients.tally.states;
    Ok(Round {
        cpu: micros_each(relay.cpu()? - cpu, states).context("no state came")?,
        latency: percentiles(&mut clients.tally.latencies).unwrap_or_default(),
        is_sound: is_sound && clients.broken == 0 && clients.tally.out_of_order == 0,
    })
}
