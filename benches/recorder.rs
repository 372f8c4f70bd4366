//! How fast the recorder accepts states, how fast it writes them, how long a final state takes to the disk, and how
//! long the largest batch does: `cargo bench --bench recorder`.
//!
//! SQLite and PostgreSQL each run in a temporary folder; `DATABASE_URL` names another PostgreSQL, which
//! is filled with rows.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot continue has failed"
)]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use comfy_relay::config::{Database, StoreConfig};
use comfy_relay::job::{JobId, Progress, Status};
use comfy_relay::store::{JobRecord, LeaseOwner, Recorder, Store, StoredSubmission};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

#[path = "../tests/it/support/database.rs"]
#[expect(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "the tests use more of it than the benchmark"
)]
mod database;
#[path = "../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "what the tests do to servers is not done here")]
mod postgres;
#[path = "../tests/it/support/wait.rs"]
mod wait;

/// Running jobs whose states are recorded again and again.
const RUNNING: usize = 5_000;

/// States that are recorded of them.
const STATES: usize = 2_000_000;

/// New jobs that are written.
const NEW: usize = 50_000;

/// How many final states are timed, and the pause between two of them.
const FINALS: usize = 500;
const FINAL_PAUSE: Duration = Duration::from_millis(10);

/// The jobs of a batch, how many batches are timed, and the bytes of each graph, compressed.
const BATCH: usize = 1_000;
const BATCHES: usize = 9;
const GRAPH: usize = 1_000;

static OWNER: LazyLock<Arc<LeaseOwner>> = LazyLock::new(Arc::default);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = Database::Sqlite(folder.path().join("bench.db"));
    println!(
        "database  updates/s recorded  rows/s written (new jobs)  final state to durable, p50 / p99  batch of {BATCH}, p50"
    );
    measure("sqlite", file).await;
    match std::env::var("DATABASE_URL")
        .ok()
        .and_then(|url| url.parse().ok())
    {
        Some(database) => measure("postgres", database).await,
        None => {
            let own = database::TestDatabase::postgres().await;
            measure("postgres", own.config().database).await;
        }
    }
}

async fn measure(name: &str, database: Database) {
    let config = StoreConfig {
        database,
        ..StoreConfig::default()
    };
    let recorder = Recorder::new(Store::open(&config));
    let stop = CancellationToken::new();
    let running = tokio::spawn(recorder.clone().run(stop.clone()));
    recorder.ready().await;
    let recorded = measure_record(&recorder).await;
    let written = measure_write(&recorder).await;
    let mut waits = measure_durability(&recorder).await;
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let batch = measure_batch(recorder.store()).await.as_secs_f64() * 1e3;
    println!(
        "{name:<8}  {recorded:>18.0}  {written:>25.0}  {:>12.1} ms / {:>4.1} ms  {batch:>23.0} ms",
        at(0.5),
        at(0.99)
    );
    stop.cancel();
    running.await.expect("the recorder ends");
}

/// Records states of running jobs as fast as possible while the writer works: states a second.
async fn measure_record(recorder: &Recorder) -> f64 {
    let records: Vec<JobRecord> = (0..RUNNING)
        .map(|job| record("run", job, Status::Processing))
        .collect();
    let recorder = recorder.clone();
    let recording = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        for state in 0..STATES {
            let mut record = records[state % RUNNING].clone();
            record.progress.seq = state as u64;
            recorder.record(record);
        }
        (STATES as f64 / began.elapsed().as_secs_f64(), recorder)
    });
    let (rate, recorder) = recording.await.expect("no panic");
    all_written(&recorder, "run", RUNNING).await;
    rate
}

/// Records new jobs until the last one is written: rows a second.
async fn measure_write(recorder: &Recorder) -> f64 {
    let began = Instant::now();
    for job in 0..NEW {
        recorder.record(record("new", job, Status::Queued));
    }
    all_written(recorder, "new", NEW).await;
    NEW as f64 / began.elapsed().as_secs_f64()
}

/// Records final states, one after another, while running jobs go on: how long each took to be durable.
async fn measure_durability(recorder: &Recorder) -> Vec<Duration> {
    let mut pause = tokio::time::interval(FINAL_PAUSE);
    let mut waits = Vec::new();
    for job in 0..FINALS {
        pause.tick().await;
        for other in 0..10 {
            let number = (job * 10 + other) % RUNNING;
            let mut running = record("run", number, Status::Processing);
            running.progress.seq = (STATES + job) as u64;
            recorder.record(running);
        }
        let began = Instant::now();
        recorder.record(record("end", job, Status::Completed));
        recorder.written(&id("end", job)).await;
        waits.push(began.elapsed());
    }
    waits
}

/// Adds the largest batches, one after another: how long half of them take at most.
async fn measure_batch(store: &Store) -> Duration {
    let mut took = Vec::new();
    for batch in 0..BATCHES {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let submissions: Vec<StoredSubmission> = numbers.clone().map(submission).collect();
        let jobs: Vec<JobRecord> = numbers
            .map(|number| record("batch", number, Status::Queued))
            .collect();
        let began = Instant::now();
        assert!(store.add_batch(&submissions, &jobs).await.unwrap());
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[BATCHES / 2]
}

fn submission(number: usize) -> StoredSubmission {
    StoredSubmission {
        job_id: id("batch", number),
        place: number as i64,
        priority: 0,
        share: None,
        backend: None,
        is_withdrawn: false,
        prompt_id: format!("prompt-batch-{number}"),
        attempt: 1,
        retries: 1,
        lost: "[]".to_owned(),
        digest: None,
        retry_of: None,
        request: vec![7; GRAPH],
        secrets: None,
    }
}

async fn all_written(recorder: &Recorder, kind: &str, jobs: usize) {
    for job in 0..jobs {
        recorder.written(&id(kind, job)).await;
    }
}

fn id(kind: &str, number: usize) -> JobId {
    JobId::parse(&format!("{kind}-{number}")).expect("a valid id")
}

fn record(kind: &str, number: usize, status: Status) -> JobRecord {
    let now = Timestamp::now();
    JobRecord {
        progress: Progress {
            job_id: id(kind, number),
            status,
            progress: if status == Status::Completed { 100 } else { 45 },
            estimated_remaining: Some(12),
            estimated_low: None,
            estimated_high: None,
            estimated_completion: None,
            estimated_start: None,
            cancelling: None,
            waiting_for: None,
            attempt: None,
            message: "KSampler: step 9 of 20".to_owned(),
            output_path: None,
            error: None,
            timestamp: now,
            prompt_id: Some(format!("prompt-{kind}-{number}")),
            seq: 1,
            node: None,
            nodes: None,
            queue_position: None,
            elapsed: Some(3.5),
            outputs: Vec::new(),
            outputs_total: None,
            backend: Some("127.0.0.1:8188".to_owned()),
            tags: Arc::default(),
        },
        deliveries: Vec::new(),
        created_at: now,
        started_at: Some(now),
        completed_at: status.is_final().then_some(now),
        error_code: None,
        message: None,
        learned_from: None,
        node_runs: Vec::new(),
        owner: OWNER.clone(),
        epoch: 1,
    }
}
