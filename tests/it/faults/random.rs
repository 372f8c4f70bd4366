//! Faults drawn at random, many of them.

use std::sync::Arc;

use comfy_relay::recording::Recording;
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::play::play;
use crate::support::chaos_proxy::fault::Fault;
use crate::support::recordings::{names, recording};

/// The seed of the first run; each run has the next one. `FAULT_SEED` sets another.
const SEED: u64 = 2_026;

/// How many runs there are. `FAULT_RUNS` sets another number.
const RUNS: u64 = 1_000;

/// How many plays there are at a time: most of them wait.
const AT_A_TIME: usize = 24;

/// Recordings with more frames than this are drawn less often.
const LONG: usize = 200;

fn set(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_job_comes_to_its_true_end() {
    let (seed, runs) = (set("FAULT_SEED", SEED), set("FAULT_RUNS", RUNS));
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
            let (name, recording) = draw(&mut rng, &recordings);
            let frames = recording.frames.len();
            let count = rng.random_range(1..=3);
            let faults: Vec<Fault> = (0..count).map(|_| Fault::draw(&mut rng, frames)).collect();
            let played = play(recording, faults.clone()).await;
            let of = |wrong| format!("FAULT_SEED={seed} FAULT_RUNS=1: {name}, {faults:?}: {wrong}");
            (
                played.jobs,
                played.wrong.into_iter().map(of).collect::<Vec<_>>(),
            )
        }
    });
    let played: Vec<(usize, Vec<String>)> = futures_util::stream::iter(plays)
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let jobs: usize = played.iter().map(|(jobs, _)| jobs).sum();
    let wrong: Vec<String> = played.into_iter().flat_map(|(_, wrong)| wrong).collect();
    println!("{jobs} jobs were heard out");
    assert!(jobs as u64 >= runs / 2, "only {jobs} jobs were heard out");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn draw(rng: &mut StdRng, recordings: &[(String, Arc<Recording>)]) -> (String, Arc<Recording>) {
    let mut one = || recordings[rng.random_range(0..recordings.len())].clone();
    let (first, second) = (one(), one());
    match first.1.frames.len() > LONG {
        true => second,
        false => first,
    }
}
