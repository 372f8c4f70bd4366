//! Two relays on one database: one follows ComfyUI, the other stands by.

use std::time::Duration;

use comfy_relay::config::StoreConfig;
use comfy_relay::replay::PlaybackSpeed;
use comfy_relay::store::{LeaseOwner, Store};
use serde_json::json;

use super::faults::proxy_to;
use super::lifecycle::{comfyui, relay_at, settings};
use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;

on_both!(
    a_lease_has_one_owner,
    a_second_relay_stands_by_and_takes_over,
    a_killed_relay_is_replaced_at_once,
    jobs_continue_on_the_relay_that_takes_over,
    a_relay_that_has_lost_its_lease_disconnects,
);

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(300);

async fn standing_by(comfyui: &str, store: StoreConfig) -> TestRelay {
    let mut settings = settings(store);
    settings.comfy.lease = Duration::from_millis(900);
    TestRelay::start(comfyui, settings).await
}

async fn comfyui_status(relay: &TestRelay) -> (serde_json::Value, serde_json::Value) {
    let (_, health) = relay.get("/api/anime/health").await;
    let backend = &health["components"]["comfyui"][0]["status"];
    (health["status"].clone(), backend.clone())
}

/// Whether another relay follows ComfyUI, and says how it is.
async fn is_elsewhere(relay: &TestRelay) -> bool {
    let (_, health) = relay.get("/api/anime/health").await;
    health["components"]["comfyui"][0]["followed_elsewhere"] == true
}

async fn a_lease_has_one_owner(db: TestDatabase) {
    let store = Store::open(&db.config());
    store.migrate().await.unwrap();
    let (one, other) = (LeaseOwner::new(), LeaseOwner::new());
    let take = async |holder: &LeaseOwner, lasts: Duration| {
        let taken = store.take_lease("gpu:8188", holder, lasts);
        taken.await.unwrap()
    };
    assert!(take(&one, FOREVER).await);
    assert!(take(&one, FOREVER).await, "it is renewed");
    assert!(!take(&other, FOREVER).await, "it is taken");
    store.release_lease("gpu:8188", &other).await.unwrap();
    assert!(
        !take(&other, FOREVER).await,
        "only its owner can release it"
    );
    store.release_lease("gpu:8188", &one).await.unwrap();
    assert!(take(&other, FOREVER).await, "it was released");
    // It expires.
    assert!(take(&other, Duration::ZERO).await);
    wait_until("it has expired", async || take(&one, FOREVER).await).await;
    // A wrong clock has set it too far in the future.
    db.execute("UPDATE comfy_relay.leases SET held_until = 9000000000000000")
        .await;
    assert!(take(&other, FOREVER).await);
    // Exactly one of many rivals takes it.
    store.release_lease("gpu:8188", &other).await.unwrap();
    let rivals: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let holder = LeaseOwner::new();
                let taken = store.take_lease("gpu:8188", &holder, FOREVER);
                taken.await.unwrap()
            })
        })
        .collect();
    let mut holders = 0;
    for rival in rivals {
        holders += usize::from(rival.await.unwrap());
    }
    assert_eq!(holders, 1);
}

async fn a_second_relay_stands_by_and_takes_over(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let first = relay_at(&comfyui.url(), db.config()).await;
    let second = standing_by(&comfyui.url(), db.config()).await;
    assert_eq!(
        comfyui_status(&first).await,
        (json!("healthy"), json!("connected"))
    );
    wait_until("the second one stands by", async || {
        is_elsewhere(&second).await
    })
    .await;
    assert_eq!(
        comfyui_status(&second).await,
        (json!("healthy"), json!("connected")),
        "as the first one sees it"
    );
    comfyui.set_queue(&["p"], &[]);
    second.register("other", "p").await;
    let (status, answer) = second.job("nobody").await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(comfyui.calls("GET /ws"), 1, "only one dials");
    first.stop().await;
    second.connected().await;
    assert_eq!(comfyui.calls("GET /ws"), 2);
    assert!(!is_elsewhere(&second).await);
    assert_eq!(
        comfyui_status(&second).await,
        (json!("healthy"), json!("connected"))
    );
}

async fn a_killed_relay_is_replaced_at_once(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let first = Program::with_database(&db.url(), &comfyui.url()).await;
    wait_until("the first one follows", async || first.is("healthy").await).await;
    let second = standing_by(&comfyui.url(), db.config()).await;
    wait_until("the second one stands by", async || {
        is_elsewhere(&second).await
    })
    .await;
    first.kill().await;
    second.connected().await;
    second.submit("job", TXT2IMG).await;
    let mut subscriber = second.subscribe("job").await;
    subscriber.ends_as("completed").await;
}

async fn jobs_continue_on_the_relay_that_takes_over(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Real(4.0)).await;
    let first = relay_at(&comfyui.url(), db.config()).await;
    let second = standing_by(&comfyui.url(), db.config()).await;
    first.submit("job", TXT2IMG).await;
    let mut subscriber = first.subscribe("job").await;
    let state = subscriber
        .receive_until(|state| state["progress"].as_u64() >= Some(20))
        .await;
    // The relay that stands by answers from the job's row, which is written after the state is published.
    let follows_row = async || second.get("/api/anime/jobs/job").await.1["status"] == "processing";
    wait_until("the row says that the job runs", follows_row).await;
    for path in ["/api/anime/jobs/job", "/api/anime/jobs/job/estimate"] {
        let (status, answer) = second.get(path).await;
        assert_eq!((status, &answer["status"]), (200, &json!("processing")));
    }
    let mut standing_by = second.subscribe("job").await;
    first.stop().await;
    second.connected().await;
    let mut subscriber = second.subscribe("job").await;
    subscriber.ends_as("completed").await;
    assert!(subscriber.states[0]["progress"].as_u64() >= state["progress"].as_u64());
    standing_by.ends_as("completed").await;
}

/// Another relay may have the lease by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_renew_its_lease_lets_go() {
    let db = TestDatabase::postgres().await;
    let (proxy, store) = proxy_to(&db).await;
    proxy.restore();
    let comfyui = ScriptedComfy::start().await;
    let relay = standing_by(&comfyui.url(), store).await;
    relay.connected().await;
    comfyui.set_queue(&["p"], &[]);
    relay.register("job", "p").await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    proxy.cut();
    comfyui.wait_for_calls("CLOSE /ws", 1).await;
    wait_until("it stands by", async || {
        comfyui_status(&relay).await.1 == "held_elsewhere"
    })
    .await;
    let work = json!({"workflow": one_node_workflow()});
    let (status, answer) = relay.post("/api/anime/jobs", &work).await;
    let code = &answer["error"]["code"];
    assert_eq!((status, code), (503, &json!("database_unreachable")));
    // The prompt ends, and the relay learns of it when it follows again.
    comfyui.set_queue(&[], &[]);
    comfyui.complete("p");
    proxy.restore();
    relay.connected().await;
    subscriber.ends_as("completed").await;
    db.wait_for("SELECT status AS v FROM comfy_relay.jobs", "completed")
        .await;
}

/// A relay that takes over reads what its predecessor has written.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_released_after_the_last_state_is_written() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    comfyui.set_queue(&["p"], &[]);
    relay.register("job", "p").await;
    let mut subscriber = relay.subscribe("job").await;
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    db.execute(
        "CREATE TABLE releases (seq BIGINT); \
         CREATE TRIGGER released AFTER DELETE ON comfy_relay.leases BEGIN \
         INSERT INTO releases SELECT seq FROM comfy_relay.jobs; END",
    )
    .await;
    let start = json!({"type": "executing", "data": {"node": "3", "prompt_id": "p"}});
    let seen = subscriber.last()["seq"].as_u64().unwrap();
    comfyui.send(&start);
    let state = subscriber
        .receive_until(|state| state["seq"].as_u64() > Some(seen))
        .await;
    relay.stop().await;
    let released: u64 = db
        .value("SELECT seq AS v FROM releases")
        .await
        .parse()
        .unwrap();
    assert!(released >= state["seq"].as_u64().unwrap(), "{released}");
}

/// As after its process was suspended for a while.
async fn a_relay_that_has_lost_its_lease_disconnects(db: TestDatabase) {
    let comfyui = ScriptedComfy::start().await;
    let relay = standing_by(&comfyui.url(), db.config()).await;
    relay.connected().await;
    db.execute(
        "UPDATE comfy_relay.leases SET holder = 'another', held_until = held_until + 100000",
    )
    .await;
    wait_until("the loss is noticed", async || {
        comfyui_status(&relay).await.1 == "held_elsewhere"
    })
    .await;
    comfyui.wait_for_calls("CLOSE /ws", 1).await;
    db.execute("DELETE FROM comfy_relay.leases").await;
    relay.connected().await;
    assert_eq!(comfyui.calls("GET /ws"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_comfyui_is_followed_and_its_lease_taken_later() {
    let db = TestDatabase::postgres().await;
    Store::open(&db.config()).migrate().await.unwrap();
    let (proxy, store) = proxy_to(&db).await;
    proxy.cut();
    let comfyui = ScriptedComfy::start().await;
    let relay = relay_at(&comfyui.url(), store).await;
    assert_eq!(comfyui_status(&relay).await.1, "connected");
    proxy.restore();
    db.wait_for("SELECT count(*) AS v FROM comfy_relay.leases", "1")
        .await;
    assert_eq!(comfyui_status(&relay).await.1, "connected");
}

/// Two relays that do not know each other share a client id, as after a copy of the database file.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_receives_no_events_is_contested() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    let mut settings = settings(db.config());
    settings.comfy.event_grace = Duration::from_millis(10);
    settings.comfy.max_silence = FOREVER;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    for number in 0..3 {
        let prompt = format!("p{number}");
        let sockets = comfyui.calls("GET /ws");
        comfyui.answer("POST /prompt", 200, &json!({"prompt_id": prompt}));
        let workflow = one_node_workflow();
        let work = json!({"job_id": prompt, "workflow": workflow});
        assert_eq!(relay.post("/api/anime/jobs", &work).await.0, 201);
        let client = &comfyui.posted()["client_id"];
        let item = json!([0, prompt, {}, {"client_id": client}, []]);
        let queue = json!({"queue_running": [item], "queue_pending": []});
        comfyui.answer("GET /queue", 200, &queue);
        let mut subscriber = relay.subscribe(&prompt).await;
        subscriber
            .receive_until(|state| state["status"] == "processing")
            .await;
        comfyui.set_queue(&[], &[]);
        comfyui.complete(&prompt);
        assert_eq!(subscriber.close_code().await, 1000);
        // Each time, the relay reconnects.
        comfyui.wait_for_calls("GET /ws", sockets + 1).await;
        relay.connected().await;
    }
    assert_eq!(
        comfyui_status(&relay).await,
        (json!("degraded"), json!("contested"))
    );
    // After one event of ComfyUI it is connected again.
    let start = json!({"type": "execution_start", "data": {"prompt_id": "another"}});
    wait_until("the event is received", async || {
        comfyui.send(&start);
        comfyui_status(&relay).await.1 == "connected"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_loses_every_socket_is_contested() {
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    let proxy = TcpProxy::start(comfyui.address()).await;
    proxy.cut();
    let relay = TestRelay::start(&proxy.url(), settings(db.config())).await;
    for lost in 0..6 {
        proxy.restore();
        relay.connected().await;
        let expected = match lost {
            0..5 => json!("connected"),
            _ => json!("contested"),
        };
        assert_eq!(comfyui_status(&relay).await.1, expected, "{lost} were lost");
        proxy.cut();
        wait_until("the disconnect is noticed", async || {
            comfyui_status(&relay).await.1 == "unreachable"
        })
        .await;
    }
    // A socket that stays open is connected.
    proxy.restore();
    wait_until("it is connected again", async || {
        comfyui_status(&relay).await.1 == "connected"
    })
    .await;
}
