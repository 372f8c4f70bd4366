//! The relay is killed again and again while it works.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_relay::replay::PlaybackSpeed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::lifecycle::comfyui;
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{ERROR, TXT2IMG, workflow};
use crate::support::wait::wait_until;

on_both!(every_job_ends_once_as_its_prompt_although_the_relay_is_killed);

const KILLS: usize = 20;
const JOBS: usize = 50;

/// A job to submit, with its expected outcome.
struct ExpectedJob {
    job: String,
    work: Value,
    end: &'static str,
}

async fn every_job_ends_once_as_its_prompt_although_the_relay_is_killed(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG, ERROR], PlaybackSpeed::Real(40.0)).await;
    let mut expected_jobs = Vec::new();
    for number in 0..JOBS {
        // Every fifth fails.
        let (name, end) = match number % 5 {
            4 => (ERROR, "failed"),
            _ => (TXT2IMG, "completed"),
        };
        let job = format!("job-{number}");
        let work = json!({"job_id": job, "workflow": workflow(name).await});
        expected_jobs.push(ExpectedJob { job, work, end });
    }
    let seed: u64 = 20_261_123;
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let (mut taken, mut again) = (0, 0);
    for kill in 1..=KILLS {
        let relay = Program::with_database(&db.url(), &comfyui.url()).await;
        wait_until("the relay serves", async || {
            relay.get("/api/anime/health").await.is_some()
        })
        .await;
        let moment = Duration::from_millis(random.random_range(50..900));
        let death = sleep_until(Instant::now() + moment);
        // Leave some jobs for the last process, which is not killed early.
        let goal = JOBS * kill / (KILLS + 1);
        tokio::select! {
            () = death => {}
            () = async {
                while taken < goal {
                    again += usize::from(submit(&relay, &expected_jobs[taken]).await);
                    taken += 1;
                }
                std::future::pending::<()>().await;
            } => {}
        }
        relay.kill().await;
    }
    let at_the_last_kill = taken;
    let relay = Program::with_database(&db.url(), &comfyui.url()).await;
    for expected in &expected_jobs[taken..] {
        again += usize::from(submit(&relay, expected).await);
    }
    let ended = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status IN ('completed', 'failed', 'cancelled')";
    db.wait_for(ended, &JOBS.to_string()).await;
    relay.kill().await;

    let rows = db
        .values("SELECT job_key || ' ' || status AS v FROM comfy_relay.jobs")
        .await;
    assert_eq!(rows.len(), JOBS, "each job once: {rows:?}");
    let rows: BTreeMap<String, String> = rows
        .into_iter()
        .flatten()
        .map(|row| {
            let (job, status) = row.split_once(' ').unwrap();
            (job.to_owned(), status.to_owned())
        })
        .collect();
    for ExpectedJob { job, end, .. } in &expected_jobs {
        assert_eq!(rows[job], *end, "{job}");
    }
    // The history of ComfyUI agrees.
    let prompts = "SELECT prompt_id || ' ' || status AS v FROM comfy_relay.jobs";
    for row in db.values(prompts).await.into_iter().flatten() {
        let (prompt, status) = row.split_once(' ').unwrap();
        let url = format!("{}/history/{prompt}", comfyui.url());
        let history: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let outcome = match history[prompt]["status"]["status_str"].as_str() {
            Some("success") => "completed",
            Some("error") => "failed",
            other => panic!("{prompt}: {other:?}"),
        };
        assert_eq!(outcome, status, "{prompt}");
    }
    eprintln!(
        "{KILLS} kills in {:.1} s, {at_the_last_kill} of {JOBS} jobs taken by then, {again} found taken at the second try",
        begun.elapsed().as_secs_f64()
    );
}

/// Submits until the relay has the job. Returns whether it had it already from an attempt without an answer.
async fn submit(relay: &Program, expected: &ExpectedJob) -> bool {
    let mut tick = interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match relay.post("/api/anime/jobs", &expected.work).await {
            Some((201, _)) => return false,
            Some((200, answer)) => {
                assert_eq!(answer["replayed"], true);
                return true;
            }
            // Not connected to ComfyUI yet, or being killed.
            Some((503, _)) | None => {}
            other => panic!("{}: {other:?}", expected.job),
        }
    }
}
