//! The database is unreachable, slow, out of connections or locked by another client.

use std::time::Duration;

use comfy_relay::config::StoreConfig;
use comfy_relay::replay::PlaybackSpeed;
use comfy_relay::store::Store;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;

use super::lifecycle::{comfyui, relay_at};
use crate::support::database::{Sqlite, TestDatabase, on_both, sqlite};
use crate::support::postgres::{self, Cluster};
use crate::support::recordings::TXT2IMG;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::{TestRelay, response};
use crate::support::wait::wait_until;

on_both!(
    a_row_that_another_client_deletes_is_written_again,
    a_locked_database_delays_no_subscriber,
    relays_that_start_at_once_create_one_schema,
);

const JOB: &str = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'job'";

fn status_of(job: &str) -> String {
    format!("SELECT status AS v FROM comfy_relay.jobs WHERE job_key = '{job}'")
}

fn far(state: &Value) -> bool {
    state["progress"].as_u64() >= Some(20)
}

/// The health of the relay: in all, of its database, and how many jobs wait to be written.
async fn health(relay: &TestRelay) -> (Value, Value, u64) {
    let (status, health) = relay.get("/api/anime/health").await;
    assert_eq!(status, 200);
    let database = &health["components"]["database"];
    let pending = database["pending"].as_u64().unwrap();
    (
        health["status"].clone(),
        database["status"].clone(),
        pending,
    )
}

async fn is_healthy(relay: &TestRelay) -> bool {
    health(relay).await == (json!("healthy"), json!("connected"), 0)
}

async fn is_degraded(relay: &TestRelay) -> bool {
    let (whole, database, _) = health(relay).await;
    whole == "degraded" && database == "unreachable"
}

/// The database becomes unreachable in the middle of a job and returns after its end: subscribers do not notice,
/// and everything is written in the end.
async fn outage(
    db: &TestDatabase,
    store: StoreConfig,
    stop: impl AsyncFnOnce(),
    restart: impl AsyncFnOnce(),
) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(4.0)).await;
    let relay = relay_at(&comfyui.url(), store).await;
    wait_until("the database is reachable", async || {
        is_healthy(&relay).await
    })
    .await;
    relay
        .report("render", &json!({"progress": 1, "status": "processing"}))
        .await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    subscriber.receive_until(far).await;
    stop().await;
    wait_until("the outage is noticed", async || is_degraded(&relay).await).await;
    subscriber.ends_as("completed").await;
    for percent in 2..40 {
        // The first state and the last are on the disk when they are acknowledged; others do not wait.
        relay
            .report(
                "render",
                &json!({"progress": percent, "status": "processing"}),
            )
            .await;
    }
    let (status, list) = relay.get("/api/anime/jobs").await;
    assert_eq!(
        (status, &list["error"]["code"]),
        (503, &json!("database_unreachable"))
    );
    let (status, view) = relay.job("job").await;
    assert_eq!((status, &view["status"]), (200, &json!("completed")));
    assert_eq!(
        health(&relay).await.2,
        2,
        "only the newest state of each job waits"
    );
    restart().await;
    db.wait_for(JOB, "completed").await;
    let sql = "SELECT progress AS v FROM comfy_relay.jobs WHERE job_key = 'render'";
    db.wait_for(sql, "39").await;
    wait_until("the database is reachable again", async || {
        is_healthy(&relay).await
    })
    .await;
    let runs = "SELECT count(*) > 3 AS v FROM comfy_relay.node_runs WHERE job_key = 'job'";
    assert_eq!(db.value(runs).await, "true");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_stopped_and_started_mid_job() {
    let mut cluster = Cluster::own().await;
    let db = TestDatabase::of(&cluster).await;
    let (halt, resume) = tokio::sync::oneshot::channel();
    let stop = async || {
        tokio::task::block_in_place(|| cluster.stop());
        assert!(halt.send(cluster).is_ok());
    };
    let restart = async || {
        let mut cluster: Cluster = resume.await.unwrap();
        cluster.start();
        cluster.ready().await;
        // The server ends with the test process.
        std::mem::forget(cluster);
    };
    outage(&db, db.config(), stop, restart).await;
}

/// A proxy in front of a database of the shared server.
pub(crate) async fn proxy_to(db: &TestDatabase) -> (TcpProxy, StoreConfig) {
    let proxy = TcpProxy::start(postgres::shared().await.address()).await;
    proxy.cut();
    let mut url: Url = db.url().parse().unwrap();
    url.set_port(Some(proxy.port())).unwrap();
    let store = StoreConfig {
        database: url.as_str().parse().unwrap(),
        ..db.config()
    };
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_to_postgresql_is_cut_mid_job() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    outage(&db, store, async || proxy.cut(), async || proxy.restore()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_use_all_connections_mid_job() {
    let db = TestDatabase::postgres().await;
    let cluster = postgres::shared().await;
    let url: Url = db.url().parse().unwrap();
    let name = url.path().trim_start_matches('/').to_owned();
    let held = tokio::sync::Mutex::new(Vec::new());
    // Another client takes each connection that the relay loses.
    let stop = async || {
        let limit = format!("ALTER DATABASE {name} CONNECTION LIMIT 3");
        cluster.execute(&limit).await;
        wait_until("all connections are taken", async || {
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = '{name}' AND application_name = 'comfy-relay'"
            );
            cluster.execute(&end).await;
            let mut held = held.lock().await;
            held.extend(AsyncPgConnection::establish(url.as_str()).await.ok());
            held.len() == 3
        })
        .await;
    };
    let restart = async || {
        // The relay may use every connection, and the test needs one as well.
        let limit = format!("ALTER DATABASE {name} CONNECTION LIMIT -1");
        cluster.execute(&limit).await;
        held.lock().await.clear();
    };
    outage(&db, db.config(), stop, restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_reachable_later_is_used() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), store.clone()).await;
    relay
        .report("render", &json!({"progress": 40, "status": "processing"}))
        .await;
    relay.stop().await;
    let client_id = db
        .value("SELECT client_id AS v FROM comfy_relay.backends")
        .await;

    proxy.cut();
    let relay = relay_at(&comfyui.url(), store).await;
    assert!(is_degraded(&relay).await);
    let job = relay.submit_unnamed(TXT2IMG).await;
    let mut subscriber = relay.subscribe(&job).await;
    assert_eq!(subscriber.close_code().await, 1000);
    let mut early = relay.subscribe("render").await;
    proxy.restore();
    db.wait_for(&status_of(&job), "completed").await;
    let state = early.receive_type("progress").await;
    assert_eq!(
        state["progress"], 40,
        "a job from before the restart is restored"
    );
    assert_eq!(
        db.value("SELECT client_id AS v FROM comfy_relay.backends")
            .await,
        client_id
    );
    wait_until("the database is reachable again", async || {
        is_healthy(&relay).await
    })
    .await;
    relay.stop().await;
}

/// Not even at the first start is the database reachable: the identity of the relay is stored later.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_without_a_database_is_stored_later() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), store).await;
    let job = relay.submit_unnamed(TXT2IMG).await;
    proxy.restore();
    wait_until("the database is reachable", async || {
        is_healthy(&relay).await
    })
    .await;
    db.wait_for(&status_of(&job), "completed").await;
    db.wait_for("SELECT count(*) AS v FROM comfy_relay.backends", "1")
        .await;
    relay.stop().await;
}

async fn a_row_that_another_client_deletes_is_written_again(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(8.0)).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    subscriber.receive_until(far).await;
    db.execute("DELETE FROM comfy_relay.jobs").await;
    assert_eq!(subscriber.close_code().await, 1000);
    relay.stop().await;
    assert_eq!(db.values(JOB).await, [Some("completed".to_owned())]);
    let sql = "SELECT progress AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(sql).await, "100");
}

async fn a_locked_database_delays_no_subscriber(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(8.0)).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    wait_until("the database is reachable", async || {
        is_healthy(&relay).await
    })
    .await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    let lock = Lock::take(&db).await;
    assert_eq!(subscriber.close_code().await, 1000);
    // More readers than connections: they wait for each other, and no other request waits for them.
    let list = || response(relay.request(Method::GET, "/api/anime/jobs"));
    let readers: Vec<_> = (0..8).map(|_| tokio::spawn(list())).collect();
    let asked = timeout(Duration::from_secs(1), relay.get("/api/anime/health"));
    assert_eq!(asked.await.unwrap().0, 200);
    lock.release().await;
    for reader in readers {
        let (status, _) = reader.await.unwrap();
        assert!([200, 503].contains(&status), "{status}");
    }
    db.wait_for(JOB, "completed").await;
    wait_until("the database is reachable again", async || {
        is_healthy(&relay).await
    })
    .await;
    relay.stop().await;
}

/// A client that locks the table of jobs.
enum Lock {
    Postgres(Box<AsyncPgConnection>),
    Sqlite(Sqlite),
}

impl Lock {
    async fn take(db: &TestDatabase) -> Self {
        match db.file() {
            None => {
                let mut connection = AsyncPgConnection::establish(&db.url()).await.unwrap();
                connection
                    .batch_execute("BEGIN; LOCK TABLE comfy_relay.jobs")
                    .await
                    .unwrap();
                Self::Postgres(Box::new(connection))
            }
            Some(path) => {
                let mut connection = sqlite(path).await;
                connection.batch_execute("BEGIN IMMEDIATE").await.unwrap();
                Self::Sqlite(connection)
            }
        }
    }

    async fn release(self) {
        match self {
            Self::Postgres(mut connection) => connection.batch_execute("ROLLBACK").await.unwrap(),
            Self::Sqlite(mut connection) => connection.batch_execute("ROLLBACK").await.unwrap(),
        }
    }
}

async fn relays_that_start_at_once_create_one_schema(db: TestDatabase) {
    relays_that_start_at_once(&db).await;
    assert_eq!(
        db.value("SELECT count(*) AS v FROM comfy_relay.jobs").await,
        "0"
    );
}

async fn relays_that_start_at_once(db: &TestDatabase) {
    let starting: Vec<_> = (0..6)
        .map(|_| {
            let store = Store::open(&db.config());
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for started in starting {
        started.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_database_refuses_delays_no_other() {
    let db = TestDatabase::postgres().await;
    let store = Store::open(&db.config());
    store.migrate().await.unwrap();
    // Somebody does not want one of the statuses.
    let check = "ALTER TABLE comfy_relay.jobs ADD CONSTRAINT theirs CHECK (status <> 'cancelled')";
    db.execute(check).await;
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    let bad = json!({"progress": 5, "status": "cancelled"});
    let (status, answer) = relay.post("/api/anime/jobs/bad/progress", &bad).await;
    let code = &answer["error"]["code"];
    assert_eq!((status, code), (422, &json!("row_refused")));
    for job in ["a", "b", "c"] {
        relay
            .report(job, &json!({"progress": 5, "status": "completed"}))
            .await;
    }
    db.wait_for(
        "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'completed'",
        "3",
    )
    .await;
    wait_until("the refusal is noticed", async || {
        health(&relay).await == (json!("degraded"), json!("unreachable"), 1)
    })
    .await;
    db.execute("ALTER TABLE comfy_relay.jobs DROP CONSTRAINT theirs")
        .await;
    relay.stop().await;
    let bad = "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'bad'";
    assert_eq!(
        db.value(bad).await,
        "cancelled",
        "it is retried until the end"
    );
}
