//! Relays on one database share the servers evenly.

use std::time::Duration;

use comfy_relay::config::StoreConfig;
use comfy_relay::replay::PlaybackSpeed;
use comfy_relay::store::{LeaseOwner, Store};
use serde_json::{Value, json};

use super::lifecycle::{comfyui, settings};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::TXT2IMG;
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

on_both!(
    a_lease_goes_to_a_relay_that_follows_fewer,
    servers_are_shared_evenly,
    a_server_with_jobs_stays_for_a_while,
    a_server_that_is_never_without_jobs_moves_all_the_same,
    a_prompt_is_registered_at_any_relay,
    each_relay_shows_what_all_have,
);

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(300);

const WISHES: &str = "SELECT count(*) AS v FROM comfy_relay.leases WHERE wanted_by IS NOT NULL";

fn sharing(store: StoreConfig) -> Settings {
    let mut settings = settings(store);
    settings.comfy.lease = Duration::from_millis(1_500);
    settings
}

async fn start_servers<const COUNT: usize>() -> [ScriptedComfy; COUNT] {
    let mut servers = Vec::new();
    for _ in 0..COUNT {
        servers.push(ScriptedComfy::start().await);
    }
    servers.try_into().ok().unwrap()
}

fn urls(servers: &[ScriptedComfy]) -> String {
    let urls: Vec<String> = servers.iter().map(ScriptedComfy::url).collect();
    urls.join(",")
}

/// What a relay says of the only server.
async fn health_of_server(relay: &TestRelay) -> Value {
    let (_, health) = relay.get("/api/anime/health").await;
    health["components"]["comfyui"][0].clone()
}

/// Which of the servers a relay follows.
async fn followed(relay: &TestRelay) -> Vec<bool> {
    let (_, health) = relay.get("/api/anime/health").await;
    let backends = health["components"]["comfyui"].as_array().unwrap();
    let followed = backends
        .iter()
        .map(|it| it["status"] == "connected" && it["followed_elsewhere"] != true);
    followed.collect()
}

async fn count_followed(relay: &TestRelay) -> usize {
    let followed = followed(relay).await;
    followed.into_iter().filter(|it| *it).count()
}

/// Waits until each relay follows a share of all servers, and no two differ by more than one.
async fn wait_until_even(relays: &[&TestRelay], servers: usize) {
    wait_until("the servers are shared evenly", async || {
        let mut counts = Vec::new();
        for relay in relays {
            counts.push(count_followed(relay).await);
        }
        let least = counts.iter().min().copied().unwrap_or_default();
        counts.iter().sum::<usize>() == servers && counts.iter().all(|count| *count <= least + 1)
    })
    .await;
}

async fn a_lease_goes_to_a_relay_that_follows_fewer(db: TestDatabase) {
    let store = Store::open(&db.config());
    store.migrate().await.unwrap();
    let [first, second, third] = std::array::from_fn(|_| LeaseOwner::new());
    for owner in [&first, &second, &third] {
        store.register_relay(owner, FOREVER).await.unwrap();
    }
    let may_wish = async |name, owner| store.may_wish(name, owner).await.unwrap();
    let wish = async |name, owner| {
        let wishing = store.wish_for_lease(name, owner, FOREVER);
        wishing.await.unwrap();
    };
    let is_wanted = async |name, owner| store.is_lease_wanted(name, owner).await.unwrap();
    let hand_over = async |name, owner| {
        let handing_over = store.hand_over_lease(name, owner, FOREVER);
        handing_over.await.unwrap()
    };
    assert!(store.take_lease("a", &first, FOREVER).await.unwrap());
    assert!(!may_wish("a", &second).await, "one cannot be shared");
    for name in ["b", "c"] {
        assert!(store.take_lease(name, &first, FOREVER).await.unwrap());
    }
    assert!(may_wish("a", &second).await);
    assert!(!may_wish("a", &first).await, "it has it");
    assert!(!may_wish("d", &second).await, "nobody has it");
    assert!(!is_wanted("a", &first).await);
    assert!(!hand_over("a", &first).await, "nobody wishes for it");
    wish("a", &second).await;
    assert!(is_wanted("a", &first).await);
    assert!(!is_wanted("b", &first).await);
    assert!(!may_wish("a", &third).await, "another one was first");
    wish("a", &third).await;
    assert!(!hand_over("a", &second).await, "it does not have it");
    assert!(hand_over("a", &first).await);
    assert!(store.take_lease("a", &second, FOREVER).await.unwrap());
    assert!(!store.take_lease("a", &first, FOREVER).await.unwrap());
    assert!(!is_wanted("a", &second).await, "the wish is granted");
    // Two and one are even; two and none are not.
    assert!(!may_wish("b", &second).await);
    assert!(may_wish("b", &third).await);
    wish("b", &third).await;
    store.remove_relay(&third).await.unwrap();
    assert!(!is_wanted("b", &first).await, "it does not run any more");
    assert!(!hand_over("b", &first).await);
    // A wish ends, and another relay may have one.
    store.register_relay(&third, FOREVER).await.unwrap();
    db.execute("UPDATE comfy_relay.leases SET wanted_until = 1")
        .await;
    assert!(!is_wanted("b", &first).await);
    store.release_lease("a", &second).await.unwrap();
    assert!(may_wish("b", &second).await);
}

async fn servers_are_shared_evenly(db: TestDatabase) {
    let servers = start_servers::<4>().await;
    let first = TestRelay::connected_to(&urls(&servers), sharing(db.config())).await;
    let second = TestRelay::start(&urls(&servers), sharing(db.config())).await;
    wait_until_even(&[&first, &second], 4).await;
    let third = TestRelay::start(&urls(&servers), sharing(db.config())).await;
    wait_until_even(&[&first, &second, &third], 4).await;
    let (of_first, of_second) = (followed(&first).await, followed(&second).await);
    let of_third = followed(&third).await;
    for (index, server) in servers.iter().enumerate() {
        let followers = [&of_first, &of_second, &of_third];
        let count = followers.into_iter().filter(|all| all[index]).count();
        assert_eq!(count, 1, "each server has one");
        let moves = server.calls("CLOSE /ws");
        assert_eq!(server.calls("GET /ws"), moves + 1, "one socket at a time");
    }
    // A relay that is restarted gets its share again.
    first.stop().await;
    wait_until_even(&[&second, &third], 4).await;
    let fourth = TestRelay::start(&urls(&servers), sharing(db.config())).await;
    wait_until_even(&[&second, &third, &fourth], 4).await;
}

async fn a_server_with_jobs_stays_for_a_while(db: TestDatabase) {
    let servers = start_servers::<2>().await;
    let first = TestRelay::connected_to(&urls(&servers), sharing(db.config())).await;
    for (server, prompt) in servers.iter().zip(["one", "other"]) {
        server.set_queue(&[prompt], &[]);
        first.register(prompt, prompt).await;
    }
    let mut subscriber = first.subscribe("one").await;
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    let second = TestRelay::start(&urls(&servers), sharing(db.config())).await;
    db.wait_for(WISHES, "2").await;
    assert_eq!(count_followed(&first).await, 2);
    servers[1].set_queue(&[], &[]);
    servers[1].complete("other");
    wait_until("the server without jobs moves", async || {
        followed(&second).await == [false, true]
    })
    .await;
    assert_eq!(followed(&first).await, [true, false]);
    servers[0].set_queue(&[], &[]);
    servers[0].complete("one");
    subscriber.ends_as("completed").await;
}

async fn a_server_that_is_never_without_jobs_moves_all_the_same(db: TestDatabase) {
    // They do not end before one has moved.
    let speed = PlaybackSpeed::Real(0.02);
    let servers = [
        comfyui(&[TXT2IMG], speed).await,
        comfyui(&[TXT2IMG], speed).await,
    ];
    let urls = servers.each_ref().map(|server| server.url()).join(",");
    let mut settings = sharing(db.config());
    settings.comfy.hand_over_after = Duration::ZERO;
    let first = TestRelay::connected_to(&urls, settings.clone()).await;
    let mut subscribers = Vec::new();
    for job in ["one", "other"] {
        first.submit(job, TXT2IMG).await;
        let mut subscriber = first.subscribe(job).await;
        subscriber
            .receive_until(|state| state["status"] == "processing")
            .await;
        subscribers.push(subscriber);
    }
    let second = TestRelay::start(&urls, settings).await;
    wait_until_even(&[&first, &second], 2).await;
    for server in &servers {
        server.set_speed(PlaybackSpeed::Fastest);
    }
    for subscriber in &mut subscribers {
        // Checks that nothing goes backwards.
        subscriber.ends_as("completed").await;
    }
    let owners = "SELECT count(DISTINCT owner) AS v FROM comfy_relay.jobs";
    assert_eq!(db.value(owners).await, "2");
}

async fn a_prompt_is_registered_at_any_relay(db: TestDatabase) {
    let [server] = start_servers().await;
    let first = TestRelay::connected_to(&server.url(), sharing(db.config())).await;
    let second = TestRelay::start(&server.url(), sharing(db.config())).await;
    wait_until("the second one stands by", async || {
        health_of_server(&second).await["followed_elsewhere"] == true
    })
    .await;
    server.set_queue(&["p"], &["q"]);
    second.register("job", "p").await;
    // Its id is that of a prompt.
    let mut unnamed = second.subscribe("q").await;
    let mut subscriber = second.subscribe("job").await;
    let progress = json!({"type": "progress_state", "data": {"prompt_id": "p", "nodes":
        {"3": {"value": 5.0, "max": 10.0, "state": "running", "node_id": "3", "prompt_id": "p"}}}});
    wait_until("the first one publishes it", async || {
        server.send(&progress);
        first.job("job").await.1["node"]["id"] == "3"
    })
    .await;
    subscriber
        .receive_until(|state| state["status"] == "processing")
        .await;
    server.set_queue(&[], &[]);
    for prompt in ["p", "q"] {
        server.complete(prompt);
    }
    subscriber.ends_as("completed").await;
    unnamed.ends_as("completed").await;
    let taken_up = "SELECT count(*) AS v FROM comfy_relay.jobs \
        WHERE owner IN (SELECT holder FROM comfy_relay.leases)";
    assert_eq!(
        db.value(taken_up).await,
        "2",
        "by the relay that follows the server"
    );
    assert_eq!(server.calls("GET /ws"), 1);
}

async fn each_relay_shows_what_all_have(db: TestDatabase) {
    let [server] = start_servers().await;
    let first = TestRelay::connected_to(&server.url(), sharing(db.config())).await;
    let second = TestRelay::start(&server.url(), sharing(db.config())).await;
    server.set_queue(&["p"], &["q", "r"]);
    first.register("job", "p").await;
    first.register("other", "q").await;
    let _subscribers = (
        first.subscribe("job").await,
        second.subscribe("nobody").await,
    );
    let is_shown = |status: &Value| {
        let jobs = &status["jobs"];
        (&jobs["active"], &jobs["queued"]) == (&json!(1), &json!(1))
            && status["websockets"]["total_connections"] == 2
            && status["backends"][0]["followed_elsewhere"] == true
    };
    let mut monitor = second.monitor().await;
    let status = monitor.receive_until(is_shown).await;
    assert_eq!(status["backends"][0]["connected"], true);
    assert_eq!(status["backends"][0]["version"], "0.8.0");
    wait_until("the queue is shown", async || {
        let health = health_of_server(&second).await;
        (&health["queue_running"], &health["queue_pending"]) == (&json!(1), &json!(2))
    })
    .await;
    assert_eq!(second.get("/api/anime/health").await.1["status"], "healthy");
    // One that is not well is not, whichever relay follows it.
    server.refuse_sockets(true);
    server.close_sockets();
    server.reply("GET /queue", Reply::Disconnect);
    wait_until("the second one shows it", async || {
        let health = health_of_server(&second).await;
        health["status"] == "unreachable" && health["unreachable_since"].is_string()
    })
    .await;
    assert_eq!(
        second.get("/api/anime/health").await.1["status"],
        "degraded"
    );
}

/// It would not be followed any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_move_to_a_relay_that_cannot_reach_it() {
    let db = TestDatabase::sqlite().await;
    let servers = start_servers::<2>().await;
    let first = TestRelay::connected_to(&urls(&servers), sharing(db.config())).await;
    wait_until("the versions are known", async || {
        let read = servers.iter().map(|it| it.calls("GET /system_stats"));
        read.min() >= Some(1)
    })
    .await;
    for server in &servers {
        server.reply("GET /system_stats", Reply::Disconnect);
    }
    let second = TestRelay::start(&urls(&servers), sharing(db.config())).await;
    for server in &servers {
        server.wait_for_more_calls("GET /system_stats", 4).await;
    }
    assert_eq!(db.value(WISHES).await, "0");
    assert_eq!(count_followed(&first).await, 2);
    let stats = json!({"system": {"comfyui_version": "0.8.0"}});
    servers[0].answer("GET /system_stats", 200, &stats);
    wait_until("the one that answers moves", async || {
        followed(&second).await == [true, false]
    })
    .await;
}

/// Live events come to them from the relay that follows the server.
#[tokio::test(flavor = "multi_thread")]
async fn servers_stay_while_clients_of_comfyui_are_connected() {
    let db = TestDatabase::sqlite().await;
    let servers = start_servers::<2>().await;
    let first = TestRelay::connected_to(&urls(&servers), sharing(db.config())).await;
    let door = first.serve_comfy().await.replace("http://", "ws://");
    let url = format!("{door}/ws?clientId=page");
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let second = TestRelay::start(&urls(&servers), sharing(db.config())).await;
    db.wait_for(WISHES, "2").await;
    // Renewed since.
    let renewed = "SELECT min(held_until) AS v FROM comfy_relay.leases";
    let before: i64 = db.value(renewed).await.parse().unwrap();
    wait_until("the leases are renewed", async || {
        db.value(renewed).await.parse::<i64>().unwrap() > before + 600
    })
    .await;
    assert_eq!(count_followed(&first).await, 2);
    drop(socket);
    wait_until_even(&[&first, &second], 2).await;
}
