//! The program is asked to stop.

use serde_json::json;

use super::program::Program;
use crate::support::database::{TestDatabase, on_both, until};
use crate::support::subscriber::Subscriber;

on_both!(who_is_asked_to_stop_takes_leave_of_all_and_has_written_everything);

/// More than a page has, and few enough for any limit of open files.
const SUBSCRIBERS: usize = 200;

async fn who_is_asked_to_stop_takes_leave_of_all_and_has_written_everything(db: TestDatabase) {
    let start = || Program::start(&db.url(), "http://127.0.0.1:1");
    let relay = start();
    until("the relay serves", async || {
        relay.get("/api/anime/health").await.is_some()
    })
    .await;
    let path = "/api/anime/jobs/render/progress";
    for progress in 1..=60 {
        let report = json!({"progress": progress, "status": "processing"});
        assert_eq!(relay.post(path, &report).await.unwrap().0, 202);
    }
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let path = ["/ws/render", "/ws/unknown", "/ws/monitor"][number % 3];
        subscribers.push(Subscriber::connect(&relay.socket(path)).await);
    }
    relay.terminate();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.hear_out().await, 1001);
    }
    assert_eq!(relay.exit_code(), Some(0));
    let relay = start();
    until("the relay serves again", async || {
        let kept = relay.get("/api/anime/jobs/render").await;
        kept.is_some_and(|(_, job)| job["progress"] == 60)
    })
    .await;
}
