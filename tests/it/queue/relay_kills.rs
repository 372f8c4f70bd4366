//! The relay is killed again and again while it hands jobs in.

use std::time::Duration;

use comfy_relay::replay::Replay;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{job, prompts_run, servers, urls};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::wait::wait_until;

on_both!(
    a_killed_relay_loses_no_waiting_job_and_runs_none_twice,
    another_relay_hands_in_what_waits_with_one_that_is_killed,
);

const KILLS: usize = 20;
const JOBS: usize = 60;

async fn a_killed_relay_loses_no_waiting_job_and_runs_none_twice(db: TestDatabase) {
    let servers = servers(2).await;
    let seed: u64 = 20_261_129;
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut taken = 0;
    for kill in 1..=KILLS {
        let relay = Program::with_database(&db.url(), &urls(&servers)).await;
        let death = Instant::now() + Duration::from_millis(random.random_range(150..900));
        let goal = JOBS * kill / KILLS;
        tokio::select! {
            () = sleep_until(death) => {}
            () = async {
                while taken < goal {
                    submit(&relay, taken).await;
                    taken += 1;
                }
                std::future::pending::<()>().await;
            } => {}
        }
        relay.kill().await;
    }
    let relay = Program::with_database(&db.url(), &urls(&servers)).await;
    for number in taken..JOBS {
        submit(&relay, number).await;
    }
    let completed = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'completed'";
    db.wait_for(completed, &JOBS.to_string()).await;
    wait_until("the servers have nothing left", async || {
        let (_, health) = relay.get("/api/anime/health").await.unwrap();
        let servers = health["components"]["comfyui"].as_array().unwrap();
        servers
            .iter()
            .all(|server| server["queue_running"] == 0 && server["queue_pending"] == 0)
    })
    .await;
    relay.kill().await;
    let all = db.value("SELECT count(*) AS v FROM comfy_relay.jobs").await;
    assert_eq!(all, JOBS.to_string());
    assert_eq!(all_run(&servers).await, stored(&db).await, "each once");
    eprintln!("{KILLS} kills, {taken} of {JOBS} jobs taken by the last");
}

async fn another_relay_hands_in_what_waits_with_one_that_is_killed(db: TestDatabase) {
    let servers = servers(2).await;
    let first = Program::with_database(&db.url(), &urls(&servers)).await;
    for number in 0..12 {
        submit(&first, number).await;
    }
    let second = Program::with_database(&db.url(), &urls(&servers)).await;
    second.logs("standing by").await;
    first.kill().await;
    let completed = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'completed'";
    db.wait_for(completed, "12").await;
    second.kill().await;
    assert_eq!(all_run(&servers).await, stored(&db).await, "each once");
}

/// The prompts that the servers have run.
async fn all_run(servers: &[Replay]) -> Vec<String> {
    let mut run = Vec::new();
    for server in servers {
        run.extend(prompts_run(&server.url()).await);
    }
    run.sort();
    run
}

/// The prompts of the jobs in the database.
async fn stored(db: &TestDatabase) -> Vec<String> {
    let stored = "SELECT prompt_id AS v FROM comfy_relay.jobs";
    let mut stored: Vec<String> = db.values(stored).await.into_iter().flatten().collect();
    stored.sort();
    stored
}

/// Submits until the relay has the job.
pub(super) async fn submit(relay: &Program, number: usize) {
    let body = job(&format!("job-{number}")).await;
    let mut tick = interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match relay.post("/api/anime/jobs", &body).await {
            Some((200 | 201, _)) => return,
            // Not connected to ComfyUI yet, or being killed.
            Some((202 | 503, _)) | None => {}
            other => panic!("job-{number}: {other:?}"),
        }
    }
}
