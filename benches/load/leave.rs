//! Crowds that come at once and leave at once, while somebody waits for a job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Args;
use crate::board::Board;
use crate::clients::Clients;
use crate::figures::{Figures, longest, percentiles};
use crate::process::Server;
use crate::publisher::{self, Pace};
use crate::scenario::{Scenario, listen_while};
use crate::tally::{Mark, Tally};

/// How many come at once.
const CROWD: usize = 10_000;

/// How often they do.
const CROWDS: usize = 3;

/// The job that the crowd follows.
const CROWDED: usize = 0;

/// The job that goes on meanwhile.
const WATCHED: usize = 1;

/// How far apart its states are.
const GAP: Duration = Duration::from_millis(50);

/// After which memory that is free should have been given back.
const SETTLING: Duration = Duration::from_secs(3);

/// The longest that a state may take to who waits for it, in milliseconds.
const MAX_DELAY: f64 = 1_000.0;

/// Prints what came of it, and says whether nobody was held up, and nothing was lost.
pub(crate) fn measure(args: &Args) -> anyhow::Result<bool> {
    let crowd = args.subscribers.map_or(CROWD, |count| count as usize);
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        rounds.push(play(crowd, args)?);
    }
    let figures = Figures::median(&rounds);
    let name = format!("{} {CROWDS} x {crowd}", Scenario::Leave.name());
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

fn play(crowd: usize, args: &Args) -> anyhow::Result<Figures> {
    let server = Server::relay(None, &args.relay)?;
    publisher::register(server.address, 2)?;
    let board = Arc::new(Board::new(2));
    let tally = Tally::new(board.clone(), vec![crowd as u32, 1], WATCHED, Mark::Report);
    let mut clients = Clients::new(server.address, tally)?;
    clients.open(&[WATCHED])?;
    // What is needed once, and kept for the next crowd, is no loss: so the first crowd comes before.
    come_and_leave(&mut clients, crowd)?;
    settle(&mut clients)?;
    let before = server.memory()?;
    clients.tally.restart();
    let count = (args.seconds / GAP.as_secs_f64()).ceil() as u64;
    let publishing = publisher::publish(server.address, board, Pace::Watched(GAP, count));
    let began = Instant::now();
    for _ in 0..CROWDS {
        come_and_leave(&mut clients, crowd)?;
    }
    let connects = (CROWDS * crowd) as f64 / began.elapsed().as_secs_f64();
    listen_while(&mut clients, publishing)?;
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

fn come_and_leave(clients: &mut Clients, crowd: usize) -> anyhow::Result<()> {
    clients.open(&vec![CROWDED; crowd])?;
    clients.leave(CROWDED);
    Ok(())
}

fn settle(clients: &mut Clients) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLING;
    clients.listen(|_| Instant::now() >= until)?;
    Ok(())
}
