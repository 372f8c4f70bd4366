//! Webhooks that single jobs ask for: who may, and where they may lead.

use std::net::TcpListener;
use std::time::Duration;

use comfy_relay::config::WebhookConfig;
use serde_json::{Value, json};

use super::{all_ended, deliveries, settings, webhooks};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{guarded, token};
use crate::support::wait::wait_until;
use crate::support::webhook_receiver::{Reaction, WebhookReceiver};
use reqwest::Method;

on_both!(
    a_job_has_a_webhook_of_its_own,
    servers_that_hang_hold_up_no_other,
    a_name_that_leads_to_a_private_address_is_not_dialled,
    a_job_keeps_its_webhook_whatever_is_asked_for_under_its_name,
    what_is_left_of_a_webhook_is_not_for_the_next_job_of_that_name,
);

/// Settings under which jobs may have their events sent to this machine.
fn of_jobs(receiver: &WebhookReceiver) -> WebhookConfig {
    WebhookConfig {
        hosts: host(&format!("127.0.0.1:{}", receiver.port())),
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..webhooks(None)
    }
}

/// The webhooks that are stored of jobs.
const WEBHOOKS: &str = "SELECT url AS v FROM comfy_relay.job_webhooks ORDER BY event";

/// Hosts as the settings read them.
fn host(text: &str) -> Vec<comfy_relay::config::WebhookHost> {
    vec![text.parse().unwrap()]
}

async fn submit(relay: &TestRelay, job: &str, webhook: Value) -> (u16, Value) {
    let workflow = workflow(TXT2IMG).await;
    let body = json!({"job_id": job, "workflow": workflow, "webhook": webhook});
    relay.post("/api/anime/jobs", &body).await
}

async fn a_job_has_a_webhook_of_its_own(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, of_jobs(&receiver))).await;
    let asked = json!({"url": receiver.url(), "events": ["job.completed"], "progress": [5, 95]});
    let (status, answer) = submit(&relay, "mine", asked).await;
    assert_eq!(status, 201, "{answer}");
    // Another job has none.
    relay.submit("other", TXT2IMG).await;
    for job in ["mine", "other"] {
        relay.subscribe(job).await.ends_as("completed").await;
    }
    receiver
        .wait_for("the end", |all| {
            all.iter().any(|it| it.event() == "job.completed")
        })
        .await;
    all_ended(&relay).await;
    let received = receiver.received();
    let mut events: Vec<&str> = received.iter().map(|it| it.event()).collect();
    events.sort_unstable();
    assert!(received.iter().all(|it| it.job() == "mine"));
    assert!(!events.contains(&"job.queued"), "{events:?}");
    assert!(
        events
            .iter()
            .filter(|event| **event == "job.progress")
            .count()
            <= 2,
        "{events:?}"
    );
    assert!(relay.job("other").await.1.get("webhooks").is_none());
    // What repeats it is sent there as well.
    let (status, answer) = relay
        .post("/api/anime/jobs/mine/retry", &json!({"job_id": "again"}))
        .await;
    assert!([201, 202].contains(&status), "{answer}");
    receiver
        .wait_for("the end of the retry", |all| {
            all.iter()
                .any(|it| it.event() == "job.completed" && it.job() == "again")
        })
        .await;
    relay.stop().await;
}

async fn servers_that_hang_hold_up_no_other(db: TestDatabase) {
    // They accept connections, and never answer.
    let silent: [_; 8] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let silent = silent.map(|it| (it.local_addr().unwrap(), it));
    let receiver = WebhookReceiver::start().await;
    let mut config = of_jobs(&receiver);
    config.timeout = Duration::from_secs(3_600);
    for (address, _) in &silent {
        config.hosts.extend(host(&address.to_string()));
    }
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, config)).await;
    let submit = async |job: &str, url: String| {
        let webhook = json!({"url": url, "events": ["job.queued"]});
        let (status, answer) = submit(&relay, job, webhook).await;
        assert_eq!(status, 201, "{answer}");
    };
    for (number, (address, _)) in silent.iter().enumerate() {
        for job in 0..4 {
            let url = format!("http://{address}/{job}");
            submit(&format!("silent-{number}-{job}"), url).await;
        }
    }
    submit("mine", receiver.url()).await;
    receiver
        .wait_for("the event of the job", |all| {
            all.iter().any(|it| it.job() == "mine")
        })
        .await;
    relay.stop().await;
}

async fn a_name_that_leads_to_a_private_address_is_not_dialled(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let config = WebhookConfig {
        hosts: host(&format!("localhost:{}", receiver.port())),
        max_backoff: std::time::Duration::from_secs(3_600),
        min_backoff: std::time::Duration::from_secs(3_600),
        ..webhooks(None)
    };
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, config)).await;
    let url = format!("http://localhost:{}/hook", receiver.port());
    let (status, answer) = submit(&relay, "job", json!(url)).await;
    assert_eq!(status, 201, "{answer}");
    relay.subscribe("job").await.ends_as("completed").await;
    wait_until("all of them were tried", async || {
        let all = deliveries(&relay, "?job=job").await;
        let is_private = |why: &&str| why.contains("not a public address");
        let refused = all.iter().filter_map(|it| it["last_error"].as_str());
        all.len() == 3 && refused.filter(is_private).count() == 3
    })
    .await;
    assert_eq!(receiver.count(), 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let db = TestDatabase::sqlite().await;
    let inside = WebhookReceiver::start().await;
    let location = inside.url();
    let receiver =
        WebhookReceiver::answering(move |_, _| Reaction::status(307).with("location", &location))
            .await;
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, of_jobs(&receiver))).await;
    let (status, answer) = submit(&relay, "job", json!(receiver.url())).await;
    assert_eq!(status, 201, "{answer}");
    receiver.wait_for_count(3).await;
    assert_eq!(inside.count(), 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_leads_only_where_operators_allow_it() {
    let db = TestDatabase::sqlite().await;
    let receiver = WebhookReceiver::start().await;
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, of_jobs(&receiver))).await;
    let port = receiver.port();
    for (webhook, status, code) in [
        (json!("https://evil.example/"), 403, "webhook_not_allowed"),
        (json!("http://127.0.0.1:1/"), 403, "webhook_not_allowed"),
        (
            json!(format!("http://u:p@127.0.0.1:{port}/")),
            400,
            "bad_webhook",
        ),
        (json!("file:///etc/passwd"), 400, "bad_webhook"),
        (json!(7), 400, "bad_webhook"),
        (
            json!({"url": receiver.url(), "evnts": []}),
            400,
            "bad_webhook",
        ),
        (
            json!({"url": receiver.url(), "events": ["job.ended"]}),
            400,
            "bad_webhook",
        ),
        (
            json!({"url": receiver.url(), "events": []}),
            400,
            "bad_webhook",
        ),
        (
            json!({"url": receiver.url(), "progress": [101]}),
            400,
            "bad_webhook",
        ),
    ] {
        let (got, answer) = submit(&relay, "job", webhook.clone()).await;
        assert_eq!(
            (got, &answer["error"]["code"]),
            (status, &json!(code)),
            "{webhook}: {answer}"
        );
    }
    // Nothing of them is left.
    assert_eq!(
        db.value("SELECT count(*) AS v FROM comfy_relay.job_webhooks")
            .await,
        "0"
    );
    let off = TestRelay::replaying_with(TXT2IMG, settings(&db, WebhookConfig::default())).await;
    let (status, answer) = submit(&off, "job", json!(receiver.url())).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (403, &json!("webhooks_off"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_needs_its_scope() {
    let db = TestDatabase::sqlite().await;
    let receiver = WebhookReceiver::start().await;
    let mut settings = settings(&db, of_jobs(&receiver));
    settings.server = guarded();
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    let plain = token(&json!({"scope": "submit subscribe monitor"}));
    let able = token(&json!({"scope": "submit subscribe webhook", "jobs": ["mine"]}));
    let body =
        json!({"job_id": "mine", "workflow": workflow(TXT2IMG).await, "webhook": receiver.url()});
    let post = async |token: &str| {
        response(
            relay
                .request_as(token, Method::POST, "/api/anime/jobs")
                .json(&body),
        )
        .await
    };
    let list = async |token: &str, query: &str| {
        let path = format!("/api/anime/webhooks/deliveries{query}");
        response(relay.request_as(token, Method::GET, &path)).await
    };
    assert_eq!(post(&plain).await.0, 403);
    assert_eq!(list(&plain, "").await.0, 403);
    assert_eq!(post(&able).await.0, 201);
    // Two events are two pages of one delivery each.
    receiver.wait_for_count(2).await;
    let (status, answer) = list(&able, "").await;
    assert_eq!(status, 200);
    assert!(
        !answer["deliveries"].as_array().unwrap().is_empty(),
        "{answer}"
    );
    // A token for certain jobs sees those alone.
    let other = token(&json!({"scope": "webhook", "jobs": ["other"]}));
    for query in ["", "?job=mine"] {
        assert_eq!(
            list(&other, query).await.1["deliveries"],
            json!([]),
            "{query}"
        );
    }
    for query in ["?state=lost", "?limit=0", "?cursor=x"] {
        assert_eq!(list(&able, query).await.0, 400, "{query}");
    }
    let (_, page) = list(&able, "?limit=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, next) = list(&able, &format!("?limit=1&cursor={cursor}")).await;
    assert_ne!(page["deliveries"][0]["id"], next["deliveries"][0]["id"]);
}

async fn a_job_keeps_its_webhook_whatever_is_asked_for_under_its_name(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let first = TestRelay::replaying_with(TXT2IMG, settings(&db, of_jobs(&receiver))).await;
    let second = TestRelay::replaying_with(TXT2IMG, settings(&db, of_jobs(&receiver))).await;
    let (status, answer) = submit(&first, "mine", json!(receiver.url())).await;
    assert_eq!(status, 201, "{answer}");
    let before = db.values(WEBHOOKS).await;
    assert!(!before.is_empty());
    let other = format!("{}/other", receiver.url().trim_end_matches('/'));
    let (status, answer) = submit(&second, "mine", json!(other)).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(db.values(WEBHOOKS).await, before);
}

async fn what_is_left_of_a_webhook_is_not_for_the_next_job_of_that_name(db: TestDatabase) {
    let receiver = WebhookReceiver::start().await;
    let relay = TestRelay::replaying_with(TXT2IMG, settings(&db, of_jobs(&receiver))).await;
    // As after a crash before the job was made.
    let left = "INSERT INTO comfy_relay.job_webhooks (job_key, event, url) \
        VALUES ('next', 'job.completed', 'http://127.0.0.1:9/')";
    db.execute(left).await;
    relay.submit("next", TXT2IMG).await;
    assert!(db.values(WEBHOOKS).await.is_empty());
}
