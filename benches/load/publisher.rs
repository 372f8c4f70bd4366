//! Posts the states of all jobs, as a producer does that is not ComfyUI.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::updates::Updates;

/// Pads a message to about 250 bytes, the length for a ComfyUI job.
const PADDING: &str = "padding that makes the message longer";

/// How long a request may take on an overloaded machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// When states are posted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// For each job this many, this far apart, even while the one before is in flight.
    Every(Duration, u64),
    /// Each as soon as the last but one has arrived everywhere, for this long.
    Saturated(Duration),
    /// The first job as in `Saturated`, the others [`BESIDE`] apart, for this long.
    Beside(Duration),
    /// For each job but the first this many, this far apart.
    Watched(Duration, u64),
}

/// The time between two states of a job that is watched beside one that saturates the server.
const BESIDE: Duration = Duration::from_millis(50);

/// Registers all jobs by posting their update 0.
pub(crate) fn register(address: SocketAddr, jobs: usize) -> anyhow::Result<()> {
    for_each_job(jobs, move |client, job| async move {
        post(&client, address, job, 0, "processing").await
    })
    .map(|_: Vec<()>| ())
}

/// Completes all jobs.
pub(crate) fn complete(address: SocketAddr, jobs: usize) -> anyhow::Result<()> {
    for_each_job(jobs, move |client, job| async move {
        post(&client, address, job, 0, "completed").await
    })
    .map(|_: Vec<()>| ())
}

/// Posts updates 1 and later of all jobs, in a thread of its own. Returns how many it posted of each.
pub(crate) fn publish(
    address: SocketAddr,
    updates: Arc<Updates>,
    pace: Pace,
) -> JoinHandle<anyhow::Result<Vec<u64>>> {
    std::thread::spawn(move || {
        for_each_job(updates.jobs(), move |client, job| {
            let updates = updates.clone();
            async move {
                match pace {
                    Pace::Every(gap, count) => {
                        paced(&client, address, &updates, job, gap, count).await
                    }
                    Pace::Beside(time) if job > 0 => {
                        let count = (time.as_secs_f64() / BESIDE.as_secs_f64()).ceil() as u64;
                        paced(&client, address, &updates, job, BESIDE, count).await
                    }
                    Pace::Watched(..) if job == 0 => Ok(0),
                    Pace::Watched(gap, count) => {
                        paced(&client, address, &updates, job, gap, count).await
                    }
                    Pace::Saturated(time) | Pace::Beside(time) => {
                        saturated(&client, address, &updates, job, time).await
                    }
                }
            }
        })
    })
}

async fn paced(
    client: &Client,
    address: SocketAddr,
    updates: &Updates,
    job: usize,
    gap: Duration,
    count: u64,
) -> anyhow::Result<u64> {
    // The jobs take turns within the gap.
    let turn = gap.mul_f64(job as f64 / updates.jobs() as f64);
    let begin = Instant::now() + turn;
    for mark in 1..=count {
        sleep_until(begin + gap.mul_f64((mark - 1) as f64)).await;
        updates.post(job, mark);
        post(client, address, job, mark, "processing").await?;
    }
    Ok(count)
}

async fn saturated(
    client: &Client,
    address: SocketAddr,
    updates: &Updates,
    job: usize,
    time: Duration,
) -> anyhow::Result<u64> {
    let end = Instant::now() + time;
    let mut mark = 0;
    loop {
        tokio::select! {
            () = sleep_until(end) => return Ok(mark),
            () = updates.acquire(job) => {}
        }
        mark += 1;
        updates.post(job, mark);
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
    let message = format!("#{mark} {PADDING}");
    let report = json!({"progress": 50, "status": status, "message": message,
        "estimated_remaining": 100});
    let response = client.post(url).json(&report).send().await?;
    let status = response.status();
    anyhow::ensure!(status == 202, "the response to a report is {status}");
    // Read the body, so that the connection can be reused.
    response.bytes().await?;
    Ok(())
}

/// The id of a job.
pub(crate) fn name(job: usize) -> String {
    format!("load-{job}")
}

/// Does `work` for all jobs concurrently.
fn for_each_job<T: Send + 'static, F: Future<Output = anyhow::Result<T>> + 'static>(
    jobs: usize,
    work: impl Fn(Client, usize) -> F,
) -> anyhow::Result<Vec<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the publisher")?;
    let client = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut tasks = JoinSet::new();
        for job in 0..jobs {
            let working = work(client.clone(), job);
            tasks.spawn_local(async move { Ok::<_, anyhow::Error>((job, working.await?)) });
        }
        let mut done = Vec::new();
        while let Some(finished) = tasks.join_next().await {
            done.push(finished??);
        }
        done.sort_by_key(|(job, _)| *job);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    })
}
