//! Crowds that connect at once and disconnect at once, while another subscriber follows a job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clients::Clients;
use crate::figures::{Figures, longest, percentiles};
use crate::options::LoadOptions;
use crate::process::Server;
use crate::publisher::{self, Pace};
use crate::tally::{Mark, Tally};
use crate::updates::Updates;

/// How many subscribers connect at once.
const CROWD: usize = 10_000;

/// How often they do so.
const CROWDS: usize = 3;

/// The job that the crowd follows.
const CROWDED: usize = 0;

/// The job that runs meanwhile.
const WATCHED: usize = 1;

/// The time between two of its states.
const GAP: Duration = Duration::from_millis(50);

/// How long the server has to return freed memory to the system.
const SETTLING: Duration = Duration::from_secs(3);

/// The longest that a state of the running job may take, in milliseconds.
const MAX_DELAY: f64 = 1_000.0;

/// Prints the results, and returns whether no state was delayed or lost.
pub(crate) fn measure(name: &str, options: &LoadOptions) -> anyhow::Result<bool> {
    let crowd = options.subscribers.map_or(CROWD, |count| count as usize);
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(run(crowd, options)?);
    }
    let figures = Figures::median(&rounds);
    let name = format!("{name} {CROWDS} x {crowd}");
    figures.print(&name, "relay");
    let slowest = figures.longest.unwrap_or(f64::INFINITY);
    println!("{:<22} the longest delay of a state: {slowest:.0} ms", "");
    let is_sound = slowest <= MAX_DELAY && figures.lost == 0 && figures.out_of_order == 0;
    if !is_sound {
        println!(
            "{:<22} FAILED: more than {MAX_DELAY} ms, or states are missing",
            ""
        );
    }
    Ok(is_sound)
}

fn run(crowd: usize, options: &LoadOptions) -> anyhow::Result<Figures> {
    let server = Server::relay(None, options)?;
    publisher::register(server.address, 2)?;
    let updates = Arc::new(Updates::new(2));
    let tally = Tally::new(
        updates.clone(),
        vec![crowd as u32, 1],
        WATCHED,
        Mark::Report,
    );
    let mut clients = Clients::new(server.address, tally)?;
    clients.open(&[WATCHED])?;
    // Memory that is kept for the next crowd is not a leak: one crowd comes before the measurement.
    connect_and_disconnect(&mut clients, crowd)?;
    settle(&mut clients)?;
    let before = server.memory()?;
    clients.tally.restart();
    let count = (options.seconds / GAP.as_secs_f64()).ceil() as u64;
    let publishing = publisher::publish(server.address, updates, Pace::Watched(GAP, count));
    let began = Instant::now();
    for _ in 0..CROWDS {
        connect_and_disconnect(&mut clients, crowd)?;
    }
    let connects = (CROWDS * crowd) as f64 / began.elapsed().as_secs_f64();
    clients.receive_while(publishing)?;
    settle(&mut clients)?;
    let left = server.memory()?.saturating_sub(before);
    Ok(Figures {
        connects,
        memory: Some(left as f64 / (CROWDS * crowd) as f64),
        longest: longest(&clients.tally.latencies),
        latency: percentiles(&mut clients.tally.latencies),
        lost: clients.tally.lost,
        out_of_order: clients.tally.out_of_order,
        ..Figures::default()
    })
}

fn connect_and_disconnect(clients: &mut Clients, crowd: usize) -> anyhow::Result<()> {
    clients.open(&vec![CROWDED; crowd])?;
    clients.disconnect(CROWDED);
    Ok(())
}

fn settle(clients: &mut Clients) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLING;
    clients.receive_until(|_| Instant::now() >= until)?;
    Ok(())
}
