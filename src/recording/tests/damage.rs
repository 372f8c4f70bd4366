//! [`damaged`]: recordings after an accident.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::folders;
use crate::recording::Recording;

/// How long the frames of a recording may be, in bytes, to be damaged: long ones take long to be played.
const MAX_FRAMES: u64 = 60_000;

/// Calls `check` with damaged recordings of the set, those with the seeds from `DAMAGE_SEED` on, as many as
/// `DAMAGE_RUNS`; without these variables with `runs`, always the same.
pub(crate) fn for_damaged(runs: u64, mut check: impl FnMut(Recording)) {
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let first = variable("DAMAGE_SEED").unwrap_or(0);
    let is_short = |folder: &Path| {
        let file = folder.join("ws.jsonl").metadata();
        file.is_ok_and(|file| file.len() < MAX_FRAMES)
    };
    let folders: Vec<_> = folders().into_iter().filter(|it| is_short(it)).collect();
    let mut read = 0;
    for seed in first..first + variable("DAMAGE_RUNS").unwrap_or(runs) {
        let mut rng = StdRng::seed_from_u64(seed);
        let folder = &folders[rng.random_range(0..folders.len())];
        if let Some(recording) = damaged(folder, &mut rng) {
            println!("DAMAGE_SEED={seed} DAMAGE_RUNS=1: {}", folder.display());
            check(recording);
            read += 1;
        }
    }
    assert!(read > 0);
}

/// Numbers that a recording can hold after an accident, and that arithmetic does not expect.
const ODD_NUMBERS: [f64; 9] = [0.0, -1.0, 0.5, 1e18, -1e18, 1e308, -1e308, 9.1e15, 1.8e19];

/// The recording in `folder` with a few accidents of files: odd numbers, and lines and keys that are missing,
/// repeated, cut or in another place. `None` if it can no longer be read.
fn damaged(folder: &Path, rng: &mut StdRng) -> Option<Recording> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let mut frames: Vec<String> = read("ws.jsonl").lines().map(str::to_owned).collect();
    let mut exchanges: Vec<String> = read("http.jsonl").lines().map(str::to_owned).collect();
    for _ in 0..rng.random_range(1..=8) {
        damage(&mut frames, rng);
        damage(&mut exchanges, rng);
    }
    Recording::parse(
        &read("meta.json"),
        &frames.join("\n"),
        &exchanges.join("\n"),
    )
    .ok()
}

fn damage(lines: &mut Vec<String>, rng: &mut StdRng) {
    if lines.is_empty() {
        return;
    }
    let [at, other] = [(); 2].map(|()| rng.random_range(0..lines.len()));
    match rng.random_range(0..8) {
        0 => lines.swap(at, other),
        1 => {
            lines.remove(at);
        }
        2 => lines.insert(other, lines[at].clone()),
        _ => {
            let mut line = serde_json::from_str(&lines[at]).unwrap();
            damage_value(&mut line, rng);
            lines[at] = line.to_string();
        }
    }
}

/// Damages one place of a value. A text that holds JSON, as in a text frame, is damaged inside.
fn damage_value(value: &mut Value, rng: &mut StdRng) {
    match value {
        Value::Object(keys) if !keys.is_empty() => {
            let at = rng.random_range(0..keys.len());
            let key = keys.keys().nth(at).unwrap().clone();
            if rng.random_ratio(1, 12) {
                keys.remove(&key);
            } else {
                damage_value(&mut keys[&key], rng);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            damage_value(&mut items[at], rng);
        }
        Value::String(text) => match serde_json::from_str(text) {
            Ok(mut inner) if !matches!(inner, Value::Number(_)) => {
                damage_value(&mut inner, rng);
                *text = inner.to_string();
            }
            _ => *value = json!(["", "\u{202e}x", "node"][rng.random_range(0..3)]),
        },
        other => *other = json!(ODD_NUMBERS[rng.random_range(0..ODD_NUMBERS.len())]),
    }
}
