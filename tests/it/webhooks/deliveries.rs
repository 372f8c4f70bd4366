//! A message is sent until it is accepted, and no longer than its target wants it.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;

use super::{all_ended, deliveries, end, settings, webhooks};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::TestRelay;
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::{Reaction, WebhookReceiver};

on_both!(
    the_events_of_a_job_are_sent_signed_and_shown,
    what_is_refused_is_sent_again_under_the_same_id,
    the_pause_that_a_target_asks_for_is_kept,
    nothing_more_is_sent_to_a_target_that_is_gone,
    two_relays_send_each_message_once,
    what_a_relay_did_not_send_is_sent_by_the_next,
);

async fn the_events_of_a_job_are_sent_signed_and_shown(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let mut config = webhooks(Some(&receiver));
    config.progress = vec![50];
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, config)).await;
    relay.submit("job", TXT2IMG).await;
    receiver
        .wait_for("the end", |all| {
            all.iter().any(|it| it.event() == "job.completed")
        })
        .await;
    all_ended(&relay).await;
    let received = receiver.received();
    let mut events: Vec<&str> = received.iter().map(|it| it.event()).collect();
    events.sort_unstable();
    events.dedup();
    for event in ["job.completed", "job.queued", "job.started"] {
        assert!(events.contains(&event), "{events:?}");
    }
    let last = received
        .iter()
        .find(|it| it.event() == "job.completed")
        .unwrap();
    assert_eq!(last.job(), "job");
    assert_eq!(last.body["data"]["status"], "completed");
    assert_eq!(last.body["data"]["progress"], 100);
    last.body["timestamp"]
        .as_str()
        .unwrap()
        .parse::<Timestamp>()
        .unwrap();
    // The path of a target may hold a secret.
    let (_, job) = relay.job("job").await;
    let shown = job["webhooks"].as_array().unwrap();
    assert!(shown.len() >= 3, "{job}");
    for delivery in shown {
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        assert_eq!(
            (&delivery["attempts"], &delivery["last_status"]),
            (&json!(1), &json!(204))
        );
        let target = format!("http://127.0.0.1:{}", receiver.port());
        assert_eq!(delivery["target"], target.as_str());
    }
    assert!(!job.to_string().contains("hidden"), "{job}");
    let metrics = relay.request(Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let delivered = format!(
        r#"comfy_relay_webhook_deliveries_total{{state="delivered"}} {}"#,
        shown.len()
    );
    assert!(metrics.contains(&delivered), "{metrics}");
    assert!(
        metrics.contains("comfy_relay_webhook_latency_seconds_count"),
        "{metrics}"
    );
    relay.stop().await;
}

async fn what_is_refused_is_sent_again_under_the_same_id(db: TestDatabase) {
    let receiver =
        WebhookReceiver::answering(|count, _| Reaction::status(if count < 3 { 503 } else { 200 }))
            .await;
    let relay = TestRelay::without_backend(settings(&db, webhooks(Some(&receiver)))).await;
    end(&relay, "render").await;
    receiver
        .wait_for("the end is accepted", |all| {
            all.iter().skip(3).any(|it| it.event() == "job.completed")
        })
        .await;
    all_ended(&relay).await;
    let received = receiver.received();
    let mut ids: Vec<(&str, &str)> = received.iter().map(|it| (it.event(), &*it.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    // Each event has one id, however often it was sent.
    let mut events: Vec<&str> = ids.iter().map(|(event, _)| *event).collect();
    events.dedup();
    assert_eq!(events.len(), ids.len(), "{ids:?}");
    assert_eq!(received.len(), ids.len() + 3, "three were refused");
    let attempts: i64 = deliveries(&relay, "")
        .await
        .iter()
        .map(|it| it["attempts"].as_i64().unwrap())
        .sum();
    assert_eq!(usize::try_from(attempts).unwrap(), received.len());
    relay.stop().await;
}

async fn the_pause_that_a_target_asks_for_is_kept(db: TestDatabase) {
    let receiver =
        WebhookReceiver::answering(|_, _| Reaction::status(429).with("retry-after", "3600")).await;
    let relay = TestRelay::without_backend(settings(&db, webhooks(Some(&receiver)))).await;
    end(&relay, "render").await;
    wait_until("the refusals are recorded", async || {
        let all = deliveries(&relay, "?state=pending").await;
        all.len() == 3 && all.iter().all(|it| it["last_status"] == 429)
    })
    .await;
    for delivery in deliveries(&relay, "").await {
        let moment =
            |name: &str| -> Timestamp { delivery[name].as_str().unwrap().parse().unwrap() };
        let pause = moment("next_attempt").duration_since(moment("created_at"));
        assert!(pause.as_secs() >= 3_590, "{delivery}");
        assert_eq!(
            delivery["last_error"],
            "the target answered 429 Too Many Requests"
        );
    }
    assert_eq!(receiver.count(), 3, "none was sent again");
    relay.stop().await;
}

async fn nothing_more_is_sent_to_a_target_that_is_gone(db: TestDatabase) {
    let receiver = WebhookReceiver::answering(|_, _| Reaction::status(410)).await;
    let config = webhooks(Some(&receiver));
    let relay = TestRelay::without_backend(settings(&db, config.clone())).await;
    end(&relay, "first").await;
    receiver.wait_for_count(1).await;
    wait_until("the target is off", async || {
        let all = deliveries(&relay, "").await;
        !all.is_empty() && all.iter().all(|it| it["state"] == "gone")
    })
    .await;
    let (listed, count) = (deliveries(&relay, "").await.len(), receiver.count());
    end(&relay, "second").await;
    // It is answered when it is on the disk, and with it what would be sent.
    assert_eq!(deliveries(&relay, "").await.len(), listed);
    assert_eq!(receiver.count(), count);
    relay.stop().await;
    // An operator who starts the relay with it wants it.
    let relay = TestRelay::without_backend(settings(&db, config)).await;
    wait_until("it is not gone any more", async || {
        db.value("SELECT count(*) AS v FROM comfy_relay.gone_webhooks")
            .await
            == "0"
    })
    .await;
    end(&relay, "third").await;
    receiver.wait_for_count(count + 1).await;
    relay.stop().await;
}

async fn two_relays_send_each_message_once(db: TestDatabase) {
    const JOBS: usize = 20;
    let receiver = WebhookReceiver::start().await;
    let config = webhooks(Some(&receiver));
    let relays = [
        TestRelay::without_backend(settings(&db, config.clone())).await,
        TestRelay::without_backend(settings(&db, config)).await,
    ];
    for number in 0..JOBS {
        end(&relays[number % 2], &format!("job-{number}")).await;
    }
    all_ended(&relays[0]).await;
    let received = receiver.received();
    let completed = received.iter().filter(|it| it.event() == "job.completed");
    assert_eq!(completed.count(), JOBS);
    let mut ids: Vec<&str> = received.iter().map(|it| &*it.id).collect();
    let sent = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), sent, "each was sent once");
    for relay in relays {
        relay.stop().await;
    }
}

async fn what_a_relay_did_not_send_is_sent_by_the_next(db: TestDatabase) {
    let refusing = WebhookReceiver::answering(|_, _| Reaction::status(500)).await;
    let relay = TestRelay::without_backend(settings(&db, webhooks(Some(&refusing)))).await;
    end(&relay, "render").await;
    refusing.wait_for_count(3).await;
    relay.stop().await;
    let stored = "SELECT count(*) AS v FROM comfy_relay.webhook_deliveries WHERE state = 'pending'";
    let pending: usize = db.value(stored).await.parse().unwrap();
    assert!(pending >= 2, "{pending}");
    // The same database, and a target that has moved.
    let receiver = WebhookReceiver::start().await;
    db.execute(&format!(
        "UPDATE comfy_relay.webhook_deliveries SET url = '{}'",
        receiver.url()
    ))
    .await;
    let relay = TestRelay::without_backend(settings(&db, webhooks(Some(&receiver)))).await;
    all_ended(&relay).await;
    assert_eq!(receiver.count(), pending);
    relay.stop().await;
}
