//! The time of one pass over many waiting jobs.

use std::hint::black_box;
use std::time::Instant;

use comfy_relay::placement::{BackendLoad, FairShare, Kind, Runtime, WaitingJob, plan};

const WAITING: usize = 10_000;
const BACKENDS: usize = 50;
const ROUNDS: usize = 51;

/// Prints the median time of a pass: with few kinds of jobs, with a kind for each, and with fair share.
pub(crate) fn print() {
    println!("\nOne pass, {WAITING} waiting jobs, {BACKENDS} backends, median of {ROUNDS}:");
    for (name, kinds, shares) in [
        ("20 kinds", 20, None),
        ("a kind for each job", WAITING, None),
        ("20 kinds, fair share of 100", 20, Some(100)),
    ] {
        println!("  {name:28} {:6.2} ms", measure(kinds, shares));
    }
}

/// Milliseconds.
fn measure(kinds: usize, shares: Option<u32>) -> f64 {
    let backends: Vec<BackendLoad> = (0..BACKENDS)
        .map(|backend| BackendLoad {
            free_in: backend as f64,
            room: 2,
            takes: backend % 10 != 9,
            model: Some(backend as u64 % 7),
            turn: 0,
        })
        .collect();
    let runtime = |kind: usize, backend: usize| {
        let seconds = (5 + kind % 60) as f64 / (1 + backend % 4) as f64;
        (!(kind + backend).is_multiple_of(5)).then_some(Runtime {
            warm: seconds,
            cold: seconds + 8.0,
        })
    };
    let kinds: Vec<Kind> = (0..kinds)
        .map(|kind| Kind {
            runtimes: (0..BACKENDS)
                .map(|backend| runtime(kind, backend))
                .collect(),
            model: Some(kind as u64 % 7),
        })
        .collect();
    let waiting: Vec<WaitingJob> = (0..WAITING)
        .map(|job| WaitingJob {
            kind: job * 7919 % kinds.len(),
            priority: (job % 3) as i64,
            order: job as u64,
            share: shares.map(|shares| job as u32 % shares),
        })
        .collect();
    let mut fair = FairShare::default();
    fair.update(&waiting);
    let fair = shares.map(|_| &fair);
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            black_box(plan(black_box(&backends), &kinds, &waiting, fair));
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
