//! The relay is killed again and again while it sends.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::{Reaction, WEBHOOK_SECRET, WebhookReceiver};

on_both!(a_killed_relay_loses_no_webhook_and_repeats_them_under_their_ids);

const KILLS: usize = 20;
const JOBS: usize = 200;

/// How many messages are refused: each is sent again seconds later.
const REFUSED: usize = 10;

async fn a_killed_relay_loses_no_webhook_and_repeats_them_under_their_ids(db: TestDatabase) {
    let receiver = WebhookReceiver::answering(|count, _| {
        let is_refused = count % 20 == 0 && count / 20 < REFUSED;
        Reaction::status(if is_refused { 503 } else { 204 })
    })
    .await;
    let seed: u64 = 20_261_130;
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut taken = 0;
    for kill in 1..=KILLS {
        let relay = start(&db, &receiver).await;
        let goal = JOBS * kill / KILLS;
        // A job sends at least two messages.
        let due = receiver.count() + random.random_range(1..2 * (goal - taken));
        tokio::select! {
            _ = receiver.wait_for_count(due) => {}
            () = async {
                while taken < goal {
                    report(&relay, taken).await;
                    taken += 1;
                }
                std::future::pending::<()>().await;
            } => {}
        }
        relay.kill().await;
    }
    let relay = start(&db, &receiver).await;
    for number in taken..JOBS {
        report(&relay, number).await;
    }
    let pending =
        "SELECT count(*) AS v FROM comfy_relay.webhook_deliveries WHERE state <> 'delivered'";
    db.wait_for(pending, "0").await;
    relay.kill().await;
    let mut ids: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let received = receiver.received();
    for message in &received {
        let about = (message.job().to_owned(), message.event().to_owned());
        ids.entry(about).or_default().insert(message.id.clone());
    }
    for number in 0..JOBS {
        for event in ["job.queued", "job.completed"] {
            let about = (format!("job-{number}"), event.to_owned());
            let sent = ids.get(&about).map_or(0, BTreeSet::len);
            assert_eq!(sent, 1, "{about:?}: each was sent, under one id");
        }
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    eprintln!(
        "{KILLS} kills, {taken} of {JOBS} jobs taken by the last, {} messages, {} of them again",
        received.len(),
        received.len() - ids.len()
    );
}

async fn start(db: &TestDatabase, receiver: &WebhookReceiver) -> Program {
    let (database, url) = (db.url(), receiver.url());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("WEBHOOK_URL", &url),
        ("WEBHOOK_SECRET", WEBHOOK_SECRET),
    ];
    let program = Program::start(&[], &variables);
    program.ready().await;
    program
}

/// Reports the end of a job until the relay has it on the disk.
async fn report(relay: &Program, number: usize) {
    let path = format!("/api/anime/jobs/job-{number}/progress");
    let body = json!({"progress": 100, "status": "completed"});
    wait_until("the report is taken", async || {
        match relay.post(&path, &body).await {
            Some((202, _)) => true,
            // The database is busy, or the relay is being killed.
            Some((503, _)) | None => false,
            other => panic!("job-{number}: {other:?}"),
        }
    })
    .await;
}
