//! A producer that is not ComfyUI: posts the states of all jobs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::board::Board;

/// Words that make a message about 250 bytes long, as that of a ComfyUI job is.
const WORDS: &str = "of a picture that somebody waits for";

/// How long a request may take on a machine that is busy to the last.
const PATIENCE: Duration = Duration::from_secs(60);

/// When states are posted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Of each job so many, so far apart, also while the one before is on its way to subscribers.
    Every(Duration, u64),
    /// Each as soon as nearly all before it have arrived, for so long.
    Saturated(Duration),
    /// The first job so, and the others [`BESIDE`] apart, for so long.
    Beside(Duration),
    /// Those of all jobs but the first so many, so far apart.
    Watched(Duration, u64),
}

/// How far apart the states of a job are that is watched beside one that saturates the server.
const BESIDE: Duration = Duration::from_millis(50);

/// Posts update 0 of all jobs: they are known afterwards.
pub(crate) fn register(address: SocketAddr, jobs: usize) -> anyhow::Result<()> {
    each(jobs, move |client, job| async move {
        post(&client, address, job, 0, "processing").await
    })
    .map(|_: Vec<()>| ())
}

/// Ends all jobs well.
pub(crate) fn complete(address: SocketAddr, jobs: usize) -> anyhow::Result<()> {
    each(jobs, move |client, job| async move {
        post(&client, address, job, 0, "completed").await
    })
    .map(|_: Vec<()>| ())
}

/// Posts updates 1 and later of all jobs, in a thread of its own. Tells how many of each it posted.
pub(crate) fn publish(
    address: SocketAddr,
    board: Arc<Board>,
    pace: Pace,
) -> JoinHandle<anyhow::Result<Vec<u64>>> {
    std::thread::spawn(move || {
        each(board.jobs(), move |client, job| {
            let board = board.clone();
            async move {
                match pace {
                    Pace::Every(gap, count) => {
                        paced(&client, address, &board, job, gap, count).await
                    }
                    Pace::Beside(time) if job > 0 => {
                        let count = (time.as_secs_f64() / BESIDE.as_secs_f64()).ceil() as u64;
                        paced(&client, address, &board, job, BESIDE, count).await
                    }
                    Pace::Watched(..) if job == 0 => Ok(0),
                    Pace::Watched(gap, count) => {
                        paced(&client, address, &board, job, gap, count).await
                    }
                    Pace::Saturated(time) | Pace::Beside(time) => {
                        saturated(&client, address, &board, job, time).await
                    }
                }
            }
        })
    })
}

async fn paced(
    client: &Client,
    address: SocketAddr,
    board: &Board,
    job: usize,
    gap: Duration,
    count: u64,
) -> anyhow::Result<u64> {
    // The jobs take turns within the gap.
    let turn = gap.mul_f64(job as f64 / board.jobs() as f64);
    let begin = Instant::now() + turn;
    for mark in 1..=count {
        sleep_until(begin + gap.mul_f64((mark - 1) as f64)).await;
        board.post(job, mark);
        post(client, address, job, mark, "processing").await?;
    }
    Ok(count)
}

async fn saturated(
    client: &Client,
    address: SocketAddr,
    board: &Board,
    job: usize,
    time: Duration,
) -> anyhow::Result<u64> {
    let end = Instant::now() + time;
    let mut mark = 0;
    loop {
        tokio::select! {
            () = sleep_until(end) => return Ok(mark),
            () = board.leave(job) => {}
        }
        mark += 1;
        board.post(job, mark);
        post(client, address, job, mark, "processing").await?;
    }
}

async fn post(
    client: &Client,
    address: SocketAddr,
    job: usize,
    mark: u64,
    status: &str,
) -> anyhow::Result<()> {
    let url = format!("http://{address}/api/anime/jobs/{}/progress", name(job));
    let message = format!("#{mark} {WORDS}");
    let report = json!({"progress": 50, "status": status, "message": message,
        "estimated_remaining": 100});
    let answer = client.post(url).json(&report).send().await?;
    let status = answer.status();
    anyhow::ensure!(status == 202, "the report was answered {status}");
    // Read to its end, so that the connection can be used again.
    answer.bytes().await?;
    Ok(())
}

/// What a job is called.
pub(crate) fn name(job: usize) -> String {
    format!("load-{job}")
}

/// Does something for every job, for all of them at once.
fn each<T: Send + 'static, F: Future<Output = anyhow::Result<T>> + 'static>(
    jobs: usize,
    work: impl Fn(Client, usize) -> F,
) -> anyhow::Result<Vec<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the publisher")?;
    let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut tasks = JoinSet::new();
        for job in 0..jobs {
            let doing = work(client.clone(), job);
            tasks.spawn_local(async move { Ok::<_, anyhow::Error>((job, doing.await?)) });
        }
        let mut done = Vec::new();
        while let Some(finished) = tasks.join_next().await {
            done.push(finished??);
        }
        done.sort_by_key(|(job, _)| *job);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    })
}
