//! A relay behind PgBouncer in transaction mode, which gives each transaction another connection to PostgreSQL.

use std::time::Duration;

use comfy_relay::config::StoreConfig;
use comfy_relay::replay::PlaybackSpeed;
use comfy_relay::store::{JobFilter, LeaseOwner, Refusal, Store};
use serde_json::json;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::lifecycle::{comfyui, relay_at};
use crate::support::database::TestDatabase;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres;
use crate::support::recordings::TXT2IMG;
use crate::support::wait::wait_until;

/// PgBouncer, and a database behind it as its superuser sees it; `None` on a machine without PgBouncer.
pub(super) async fn pooled(settings: &str) -> Option<(PgBouncer, TestDatabase, StoreConfig)> {
    let cluster = postgres::shared().await;
    let pgbouncer = PgBouncer::before(cluster, settings).await?;
    let name = cluster.database().await;
    let direct = TestDatabase::at(cluster.url(postgres::USER, &name).to_string());
    let config = StoreConfig {
        database: pgbouncer.url(&name).parse().unwrap(),
        ..StoreConfig::default()
    };
    Some((pgbouncer, direct, config))
}

/// What a session has when no client left anything in it.
const LEFT_NOTHING: &str = "0 prepared statements, timeout 0";

/// What is found in the sessions of the pool, one after the other.
async fn left_behind(pgbouncer: &PgBouncer, db: &TestDatabase) -> Vec<String> {
    let name = db.value("SELECT current_database() AS v").await;
    let (client, connection) = tokio_postgres::connect(&pgbouncer.url(&name), NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut found = Vec::new();
    for _ in 0..5 {
        let query = "SELECT count(*) || ' prepared statements, timeout ' || \
                     current_setting('statement_timeout') FROM pg_prepared_statements";
        let answer = client.simple_query(query).await.unwrap();
        found.extend(answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }));
    }
    drop(client);
    connection.await.unwrap().unwrap();
    found
}

async fn lives(settings: &str) {
    let Some((pgbouncer, db, config)) = pooled(settings).await else {
        return;
    };
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), config.clone()).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    relay
        .report("render", &json!({"progress": 40, "status": "processing"}))
        .await;
    relay.stop().await;
    let relay = relay_at(&comfyui.url(), config).await;
    // The database lists both, however often it is asked.
    let mut lists = Vec::new();
    for _ in 0..8 {
        let relay = relay.handle.clone();
        lists.push(tokio::spawn(async move {
            for _ in 0..10 {
                let listed = relay.list(&JobFilter::default(), 10).await.unwrap();
                assert_eq!(listed.jobs.len(), 2);
            }
        }));
    }
    for list in lists {
        list.await.unwrap();
    }
    let (status, job) = relay.job("job").await;
    assert_eq!((status, &job["status"]), (200, &json!("completed")));
    let (_, health) = relay.get("/api/anime/health").await;
    assert_eq!(health["components"]["database"]["status"], "connected");
    relay.stop().await;
    assert_eq!(left_behind(&pgbouncer, &db).await, [LEFT_NOTHING; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_lists_live_behind_a_pooler() {
    lives("").await;
}

/// It drops our options silently.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_ignores_options_is_recognised() {
    lives("ignore_startup_parameters = options").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_held_behind_a_pooler() {
    let Some((_pgbouncer, db, config)) = pooled("").await else {
        return;
    };
    let store = Store::open(&config);
    store.migrate().await.unwrap();
    let forever = Duration::from_secs(300);
    let rivals: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut held = 0;
                let owner = LeaseOwner::new();
                for _ in 0..5 {
                    let taken = store.take_lease("gpu", &owner, forever).await;
                    held += usize::from(taken.unwrap());
                }
                held
            })
        })
        .collect();
    let mut held = Vec::new();
    for rival in rivals {
        held.push(rival.await.unwrap());
    }
    held.sort_unstable();
    assert_eq!(held, [0, 0, 0, 0, 0, 0, 0, 5]);
    // What a session sets is not left to other clients of the pooler.
    wait_until("no transaction is open", async || {
        let open = "SELECT count(*) AS v FROM pg_stat_activity WHERE datname = current_database() \
                    AND state LIKE 'idle in transaction%'";
        db.value(open).await == "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_start_at_once_behind_a_pooler_create_one_schema() {
    let Some((_pgbouncer, _db, config)) = pooled("").await else {
        return;
    };
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let store = Store::open(&config);
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_a_pooler_does_not_take_end_the_start() {
    let Some((_pgbouncer, _db, config)) = pooled("").await else {
        return;
    };
    assert!(Refusal::find(&config).await.is_none());
    let cluster = postgres::shared().await;
    let Some(pgbouncer) = PgBouncer::before(cluster, "").await else {
        return;
    };
    let url = pgbouncer.url("any") + "?options=-c%20search_path%3Drelay";
    let refusal = Refusal::of_connection(&url.parse().unwrap()).await.unwrap();
    let refusal = refusal.to_string();
    assert!(
        refusal.contains("unsupported startup parameter"),
        "{refusal}"
    );
}
