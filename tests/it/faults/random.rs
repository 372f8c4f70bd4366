//! Many random faults, beside a ComfyUI that hangs and a second relay.

use std::sync::Arc;

use comfy_relay::recording::Recording;
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::play::{Surroundings, play_with, settings};
use crate::support::chaos_proxy::fault::Fault;
use crate::support::recordings::{names, recording};

/// The seed of the first run; each run has the next one. `FAULT_SEED` sets another.
const SEED: u64 = 2_026;

/// How many runs there are. `FAULT_RUNS` sets another number.
const RUNS: u64 = 1_000;

/// How many recordings are played at the same time; most of them wait.
const CONCURRENCY: usize = 36;

/// Recordings with more frames than this are chosen less often.
const LONG: usize = 200;

fn variable(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_ends_as_its_prompt_does_under_random_faults() {
    let (seed, runs) = (variable("FAULT_SEED", SEED), variable("FAULT_RUNS", RUNS));
    println!("FAULT_SEED={seed} FAULT_RUNS={runs}");
    let mut recordings = Vec::new();
    for name in names() {
        recordings.push((name.clone(), recording(&name).await));
    }
    let recordings = Arc::new(recordings);
    let plays = (0..runs).map(|run| {
        let recordings = recordings.clone();
        async move {
            let seed = seed.wrapping_add(run);
            let mut rng = StdRng::seed_from_u64(seed);
            let (name, recording) = choose(&mut rng, &recordings);
            let frames = recording.frames.len();
            let count = rng.random_range(1..=3);
            let faults: Vec<Fault> = (0..count).map(|_| Fault::draw(&mut rng, frames)).collect();
            let surroundings = Surroundings {
                has_hanging_server: rng.random_bool(0.5),
                has_second_relay: rng.random_bool(0.25),
            };
            let played = play_with(settings(), recording, faults.clone(), surroundings).await;
            let describe = |problem| {
                format!(
                    "FAULT_SEED={seed} FAULT_RUNS=1: {name}, {faults:?}, {surroundings:?}: {problem}"
                )
            };
            (
                played.jobs,
                played
                    .problems
                    .into_iter()
                    .map(describe)
                    .collect::<Vec<_>>(),
            )
        }
    });
    let played: Vec<(usize, Vec<String>)> = futures_util::stream::iter(plays)
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let jobs: usize = played.iter().map(|(jobs, _)| jobs).sum();
    let problems: Vec<String> = played
        .into_iter()
        .flat_map(|(_, problems)| problems)
        .collect();
    println!("{jobs} jobs were followed to their end");
    assert!(
        jobs as u64 >= runs / 2,
        "only {jobs} jobs were followed to their end"
    );
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

fn choose(rng: &mut StdRng, recordings: &[(String, Arc<Recording>)]) -> (String, Arc<Recording>) {
    let mut one = || recordings[rng.random_range(0..recordings.len())].clone();
    let (first, second) = (one(), one());
    if first.1.frames.len() > LONG {
        second
    } else {
        first
    }
}
