//! In which order the recorder writes the states that wait.

use std::sync::Arc;

use comfy_relay::job::{JobId, Progress, Status};
use comfy_relay::store::{JobRecord, LeaseOwner, Recorder, Store, Written};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::support::database::TestDatabase;

/// Jobs that wait for the database together, and how many one statement writes.
const JOBS: usize = 3_000;
const BATCH: usize = 1_000;

/// A new job, whose id says nothing of when it was registered.
fn new_job(number: usize) -> JobRecord {
    let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(number as i64);
    let id = (number as u32).wrapping_mul(2_654_435_761);
    JobRecord {
        progress: Progress {
            job_id: JobId::parse(&format!("{id:08x}")).unwrap(),
            status: Status::Queued,
            progress: 0,
            estimated_remaining: None,
            estimated_low: None,
            estimated_high: None,
            estimated_completion: None,
            estimated_start: None,
            cancelling: None,
            waiting_for: None,
            attempt: None,
            message: String::new(),
            output_path: None,
            error: None,
            timestamp: at,
            prompt_id: None,
            seq: 1,
            node: None,
            nodes: None,
            queue_position: None,
            elapsed: None,
            outputs: Vec::new(),
            outputs_total: None,
            backend: None,
            tags: Arc::default(),
        },
        created_at: at,
        started_at: None,
        completed_at: None,
        error_code: None,
        message: None,
        learned_from: None,
        node_runs: Vec::new(),
        owner: Arc::new(LeaseOwner::default()),
        epoch: 1,
        deliveries: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_wait_for_the_database_are_written_as_they_were_registered() {
    let db = TestDatabase::sqlite().await;
    let recorder = Recorder::new(Store::open(&db.config()));
    let jobs: Vec<JobRecord> = (0..JOBS).map(new_job).collect();
    for job in &jobs {
        recorder.record(job.clone());
    }
    let stop = CancellationToken::new();
    let running = tokio::spawn(recorder.clone().run(stop.clone()));
    for job in &jobs {
        let written = recorder.written(&job.progress.job_id).await;
        assert_eq!(written, Written::Yes);
    }
    stop.cancel();
    running.await.unwrap();
    // Row ids are given in the order of writing.
    let batches = format!(
        "SELECT (rowid - 1) / {BATCH} AS number, min(created_at) AS oldest, max(created_at) AS newest \
         FROM comfy_relay.jobs GROUP BY 1"
    );
    let total = format!("SELECT count(*) AS v FROM ({batches})");
    assert_eq!(db.value(&total).await, (JOBS / BATCH).to_string());
    let mixed = format!(
        "SELECT count(*) AS v FROM ({batches}) AS this JOIN ({batches}) AS next ON next.number = this.number + 1 \
         WHERE this.newest > next.oldest"
    );
    assert_eq!(db.value(&mixed).await, "0");
}
