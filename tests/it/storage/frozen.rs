//! A relay that stands still in the middle of a transaction: its locks hold nobody up for long.

use comfy_relay::replay::PlaybackSpeed;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::timeout;

use super::lifecycle::{comfyui, settings};
use super::pgbouncer::pooled;
use crate::support::database::TestDatabase;
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::TestRelay;
use crate::support::wait::{PATIENCE, wait_until};

/// A prompt runs for longer than the test.
const SLOW: PlaybackSpeed = PlaybackSpeed::Real(0.05);

/// Asks whether there is a session of another client in this state.
fn session(state: &str) -> String {
    format!(
        "SELECT (count(*) > 0)::int AS v FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND {state}"
    )
}

/// Freezes a relay in a transaction that has written the row of a job.
async fn freeze(relay: &Program, db: &TestDatabase, job: &str) {
    let lock = format!("BEGIN; SELECT FROM comfy_relay.jobs WHERE job_key = '{job}' FOR UPDATE");
    let waits = session("wait_event_type = 'Lock'");
    let has_written = session("state = 'idle in transaction'");
    let mut client = AsyncPgConnection::establish(&db.url()).await.unwrap();
    loop {
        client.batch_execute(&lock).await.unwrap();
        db.wait_for(&waits, "1").await;
        relay.signal(Signal::SIGSTOP);
        client.batch_execute("ROLLBACK").await.unwrap();
        db.wait_for(&waits, "0").await;
        if db.value(&has_written).await == "1" {
            return;
        }
        // It had given up waiting for the row before.
        relay.signal(Signal::SIGCONT);
    }
}

/// Another relay takes over from one that `database_url` leads to `db`.
async fn is_replaced(db: &TestDatabase, database_url: &str) {
    let comfyui = comfyui(&[TXT2IMG], SLOW).await;
    let frozen = Program::with_database(database_url, &comfyui.url()).await;
    wait_until("it follows", async || frozen.is("healthy").await).await;
    let body = json!({"job_id": "job", "workflow": workflow(TXT2IMG).await});
    let answer = frozen.post("/api/anime/jobs", &body).await;
    assert!(matches!(answer, Some((201, _))), "{answer:?}");
    freeze(&frozen, db, "job").await;
    let heir = TestRelay::start(&comfyui.url(), settings(db.config())).await;
    let taking_over = timeout(PATIENCE, heir.connected()).await;
    assert!(taking_over.is_ok(), "no other relay takes over");
    wait_until("the job goes on", async || {
        heir.job("job").await.1["status"] == "processing"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_frozen_in_a_transaction_is_replaced() {
    let db = TestDatabase::postgres().await;
    is_replaced(&db, &db.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_frozen_in_a_transaction_behind_pgbouncer_is_replaced() {
    if let Some((pgbouncer, db, _)) = pooled("").await {
        let name = db.value("SELECT current_database() AS v").await;
        is_replaced(&db, &pgbouncer.url(&name)).await;
    }
}
