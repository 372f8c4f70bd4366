//! Previews between relays: they are sent while a subscriber at another relay wants them, and never otherwise.

use std::sync::Mutex;

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::PubSub;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{has_redis, metric, relay, without_backend};
use crate::support::database::TestDatabase;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_server::RedisServer;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::subscriber::{Received, Subscriber};
use crate::support::test_relay::TestRelay;
use crate::support::wait::{PATIENCE, wait_until};

/// How a picture of ComfyUI begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A ComfyUI whose prompt runs, and makes a preview whenever the test says so.
struct Studio {
    comfyui: ScriptedComfy,
    made: Mutex<u8>,
}

impl Studio {
    async fn start() -> Self {
        let comfyui = ScriptedComfy::start().await;
        comfyui.set_queue(&["p"], &[]);
        Self {
            comfyui,
            made: Mutex::default(),
        }
    }

    /// Has another picture made. Returns its last byte.
    fn make(&self) -> u8 {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        self.send(&[PNG, &[*made]].concat());
        *made
    }

    fn send(&self, image: &[u8]) {
        let metadata = json!({"prompt_id": "p", "node_id": "3", "display_node_id": "3", "image_type": "image/png"});
        self.comfyui.send_picture(&metadata, image);
    }

    /// Has pictures made until a relay shows the newest one.
    async fn make_until_shown(&self, relay: &TestRelay) {
        wait_until("the relay shows what is made", async || {
            self.make();
            picture(relay).await == (200, self.newest())
        })
        .await;
    }

    fn newest(&self) -> Vec<u8> {
        [PNG, &[*self.made.lock().unwrap()]].concat()
    }
}

/// The newest preview, as the relay answers it.
async fn picture(relay: &TestRelay) -> (u16, Vec<u8>) {
    let path = "/api/anime/jobs/shot/preview";
    let answer = relay.request(reqwest::Method::GET, path).send().await;
    let answer = answer.unwrap();
    let status = answer.status().as_u16();
    (status, answer.bytes().await.unwrap().to_vec())
}

/// Receives a preview: its head and its image.
async fn next_preview(subscriber: &mut Subscriber) -> (Value, Vec<u8>) {
    loop {
        match subscriber.receive().await {
            Received::Preview(bytes) => {
                let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
                let (head, image) = rest.split_at(u32::from_be_bytes(*length) as usize);
                return (serde_json::from_slice(head).unwrap(), image.to_vec());
            }
            Received::Text(_) => {}
            Received::Closed(code) => panic!("closed with {code}"),
        }
    }
}

/// A client of Redis that receives all previews, after what was sent before.
async fn watch(redis: &RedisServer) -> PubSub {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut watch = client.get_async_pubsub().await.unwrap();
    watch.psubscribe("anime_previews:*").await.unwrap();
    watch
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_come_from_other_relays_while_somebody_wants_them() {
    let Some(mut redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let studio = Studio::start().await;
    let owner = relay(&studio.comfyui.url(), &db, redis.config()).await;
    owner.connected().await;
    let other = without_backend(&db, redis.config()).await;
    let third = without_backend(&db, redis.config()).await;
    owner.register("shot", "p").await;
    // Somebody follows the job there, and wants no pictures.
    let mut plain = third.subscribe("shot").await;
    plain
        .receive_until(|state| state["status"] == "processing")
        .await;
    studio.make_until_shown(&owner).await;
    assert_eq!(metric(&owner, "redis_previews_sent_total").await, 0.0);

    // One that was made before comes at once, and then every newer one.
    let mut curious = other.subscribe("shot?previews=1").await;
    let (head, image) = next_preview(&mut curious).await;
    assert_eq!(
        (&head["job_id"], &head["node"]),
        (&json!("shot"), &json!("3"))
    );
    assert_eq!(head["mime"], "image/png");
    assert_eq!(image, studio.newest());
    studio.make();
    let (next, image) = next_preview(&mut curious).await;
    assert!(next["seq"].as_u64() > head["seq"].as_u64(), "{next}");
    assert_eq!(image, studio.newest());
    assert_eq!(picture(&other).await, (200, studio.newest()));
    // The subscriber there wants none, so it is asked for.
    assert_eq!(picture(&third).await, (200, studio.newest()));

    // What is no picture is not passed on.
    studio.send(b"<svg onload='alert(1)'/>");
    wait_until("it is refused", async || {
        metric(&other, "redis_rejected_total").await == 1.0
    })
    .await;
    assert_eq!(picture(&other).await, (200, studio.newest()));

    // Redis is restarted.
    redis.kill();
    for relay in [&owner, &other] {
        has_redis(relay, "unreachable").await;
    }
    // One that is made meanwhile comes afterwards, also if it is sent before the other relay receives again.
    studio.make_until_shown(&owner).await;
    redis.restart().await;
    for relay in [&owner, &other] {
        has_redis(relay, "connected").await;
    }
    wait_until("the other relay has it", async || {
        picture(&other).await == (200, studio.newest())
    })
    .await;
    next_preview(&mut curious).await;

    // After it has left, nothing is published.
    drop(curious);
    wait_until("no relay receives them", async || {
        let counted: Vec<(String, u64)> = redis
            .command(&["PUBSUB", "NUMSUB", "anime_previews:shot"])
            .await;
        counted[0].1 == 0
    })
    .await;
    // The owner asks once in a while.
    wait_until("the owner sends no more", async || {
        let before = metric(&owner, "redis_previews_sent_total").await;
        for _ in 0..20 {
            studio.make_until_shown(&owner).await;
        }
        metric(&owner, "redis_previews_sent_total").await == before
    })
    .await;
    let mut watching = watch(&redis).await;
    for _ in 0..5 {
        studio.make_until_shown(&owner).await;
    }
    // A message of the test's own comes after all others.
    let channel = "anime_previews:end";
    let _: u64 = redis.command(&["PUBLISH", channel, "end"]).await;
    let mut messages = watching.on_message();
    let message = timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
    assert_eq!(message.get_channel_name(), channel);

    studio.comfyui.set_queue(&[], &[]);
    studio.comfyui.complete("p");
    plain.ends_as("completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_preview_is_there_at_every_relay() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let studio = Studio::start().await;
    let owner = relay(&studio.comfyui.url(), &db, redis.config()).await;
    owner.connected().await;
    let other = without_backend(&db, redis.config()).await;
    owner.register("shot", "p").await;
    studio.make_until_shown(&owner).await;
    // Nobody follows the job there. Many ask at the same time.
    let pictures = join_all((0..20).map(|_| picture(&other))).await;
    for picture in pictures {
        assert_eq!(picture, (200, studio.newest()));
    }
    let sent = metric(&owner, "redis_previews_sent_total").await;
    // Not for each: once, and again for those that came when the first had their answer.
    assert!(sent < 10.0, "it was sent {sent} times");
    // A relay that is asked later has the one that is the newest by then.
    wait_until("the relay has forgotten the old one", async || {
        studio.make();
        studio.make_until_shown(&owner).await;
        picture(&other).await == (200, studio.newest())
    })
    .await;
    assert_eq!(count_followers(&other).await, 0);

    // There is none of a job that nobody has, and of one that has ended.
    let unknown = "/api/anime/jobs/unknown/preview";
    let answer = other.request(reqwest::Method::GET, unknown).send().await;
    assert_eq!(answer.unwrap().status(), 404);
    studio.comfyui.set_queue(&[], &[]);
    studio.comfyui.complete("p");
    other.subscribe("shot").await.ends_as("completed").await;
    wait_until("it is forgotten", async || picture(&other).await.0 == 404).await;
}

/// How many clients follow a job at a relay, as it says so.
async fn count_followers(relay: &TestRelay) -> u64 {
    let (_, status) = relay.get("/api/anime/websocket/status").await;
    status["connections"]["total_connections"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn comfyui_is_asked_for_previews_that_a_subscriber_at_another_relay_wants() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let db = TestDatabase::sqlite().await;
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&[], &[]);
    comfyui.accept_prompts_as("p");
    let owner = relay(&comfyui.url(), &db, redis.config()).await;
    owner.connected().await;
    let other = without_backend(&db, redis.config()).await;
    owner.submit("plain", TXT2IMG).await;
    let method = || comfyui.posted()["extra_data"]["preview_method"].clone();
    assert_eq!(method(), Value::Null);
    let _curious = other.subscribe("shot?previews=1").await;
    wait_until("the owner knows what is wanted", async || {
        metric(&owner, "redis_wake_ups_received_total").await > 0.0
    })
    .await;
    owner.submit("shot", TXT2IMG).await;
    assert_eq!(method(), "auto");
}
