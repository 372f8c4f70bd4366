//! Two relays on one database while producers report to either, and the relays are killed and restarted.
//!
//! ```sh
//! MINUTES=10 cargo test --test it storage::relays
//! ```

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::test_relay::UNREACHABLE;
use crate::support::wait::wait_until;

on_both!(the_rows_and_every_answer_agree_although_relays_are_killed);

/// How many relays are killed, one after another. `MINUTES` sets a time instead.
const KILLS: usize = 6;

/// How many jobs are reported on at the same time.
const JOBS: usize = 5;

/// How many reports come between two kills.
const REPORTS: usize = 60;

struct Producer {
    job: String,
    progress: u64,
}

async fn the_rows_and_every_answer_agree_although_relays_are_killed(db: TestDatabase) {
    let minutes: Option<u64> = std::env::var("MINUTES").ok().map(|it| it.parse().unwrap());
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let seed = 20_261_129;
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut relays = [start(&db).await, start(&db).await];
    let (mut kills, mut ended, mut number) = (0, 0, 0);
    let mut producers = Vec::new();
    let mut rows = Vec::new();
    while until.map_or(kills < KILLS, |until| Instant::now() < until) {
        for _ in 0..REPORTS {
            if producers.len() < JOBS {
                number += 1;
                let job = format!("job-{number}");
                producers.push(Producer { job, progress: 0 });
            }
            let index = random.random_range(0..producers.len());
            let producer = &mut producers[index];
            producer.progress += random.random_range(1..15);
            let relay = &relays[random.random_range(0..2)];
            report(relay, producer).await;
            check_rows(&db, &mut rows).await;
            if producer.progress >= 100 {
                check_answers(&db, &relays, &producer.job).await;
                producers.swap_remove(index);
                ended += 1;
            }
        }
        let killed = random.random_range(0..2);
        let [one, other] = relays;
        let (dead, alive) = if killed == 0 {
            (one, other)
        } else {
            (other, one)
        };
        dead.kill().await;
        // Its jobs go on at the other one.
        for producer in &mut producers {
            producer.progress = (producer.progress + 1).min(99);
            report(&alive, producer).await;
        }
        check_rows(&db, &mut rows).await;
        relays = [alive, start(&db).await];
        kills += 1;
    }
    for producer in &mut producers {
        producer.progress = 100;
        report(&relays[random.random_range(0..2)], producer).await;
        check_answers(&db, &relays, &producer.job).await;
        ended += 1;
    }
    eprintln!("{ended} jobs ended in {kills} kills");
    for relay in relays {
        relay.kill().await;
    }
}

async fn start(db: &TestDatabase) -> Program {
    let relay = Program::with_database(&db.url(), UNREACHABLE).await;
    wait_until("the relay serves", async || {
        relay.get("/api/anime/health").await.is_some()
    })
    .await;
    relay
}

/// Reports until the relay accepts it.
async fn report(relay: &Program, producer: &Producer) {
    let status = if producer.progress >= 100 {
        "completed"
    } else {
        "processing"
    };
    let path = format!("/api/anime/jobs/{}/progress", producer.job);
    let body = json!({"progress": producer.progress.min(100), "status": status});
    let mut tick = interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match relay.post(&path, &body).await {
            Some((202, _)) => return,
            Some((503, _)) => {}
            other => panic!("{}: {other:?}", producer.job),
        }
    }
}

/// No row goes back: `(epoch, seq)` and the progress only grow, and an end stays.
async fn check_rows(db: &TestDatabase, before: &mut Vec<(String, Row)>) {
    let now = db
        .values(
            "SELECT job_key || ' ' || epoch || ' ' || seq || ' ' || progress || ' ' || status AS v \
             FROM comfy_relay.jobs ORDER BY job_key",
        )
        .await;
    let now: Vec<(String, Row)> = now
        .into_iter()
        .flatten()
        .map(|row| Row::parse(&row))
        .collect();
    for (job, before) in before.iter() {
        let (_, row) = now.iter().find(|(other, _)| other == job).expect(job);
        assert!(
            row.version >= before.version,
            "{job}: {row:?} after {before:?}"
        );
        assert!(
            row.progress >= before.progress,
            "{job}: {row:?} after {before:?}"
        );
        assert!(
            before.status == "processing" || before == row,
            "{job}: {row:?} after {before:?}"
        );
    }
    *before = now;
}

#[derive(Debug, PartialEq)]
struct Row {
    version: (u64, u64),
    progress: u64,
    status: String,
}

impl Row {
    fn parse(text: &str) -> (String, Self) {
        let [job, epoch, seq, progress, status] = text.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{text}");
        };
        let number = |text: &str| text.parse().unwrap();
        let row = Self {
            version: (number(epoch), number(seq)),
            progress: number(progress),
            status: status.to_owned(),
        };
        (job.to_owned(), row)
    }
}

/// The row of an ended job and both relays say the same.
async fn check_answers(db: &TestDatabase, relays: &[Program; 2], job: &str) {
    let row = format!("SELECT status AS v FROM comfy_relay.jobs WHERE job_key = '{job}'");
    assert_eq!(db.value(&row).await, "completed", "{job}");
    let path = format!("/api/anime/jobs/{job}");
    for relay in relays {
        wait_until("the relay shows the end", async || {
            let answer = relay.get(&path).await;
            let expected = (&json!("completed"), &json!(100));
            answer.is_some_and(|(_, view): (u16, Value)| {
                (&view["status"], &view["progress"]) == expected
            })
        })
        .await;
    }
}
