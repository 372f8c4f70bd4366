//! SIGTERM.

use serde_json::json;

use crate::support::database::{TestDatabase, on_both};
use crate::support::program::Program;
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::UNREACHABLE;
use crate::support::wait::wait_until;

on_both!(sigterm_closes_every_socket_and_writes_every_state);

/// Many, but fewer than any limit of open files.
const SUBSCRIBERS: usize = 200;

async fn sigterm_closes_every_socket_and_writes_every_state(db: TestDatabase) {
    let start = async || Program::with_database(&db.url(), UNREACHABLE).await;
    let mut relay = start().await;
    let path = "/api/anime/jobs/render/progress";
    for progress in 1..=60 {
        let report = json!({"progress": progress, "status": "processing"});
        assert_eq!(relay.post(path, &report).await.unwrap().0, 202);
    }
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let path = ["/ws/render", "/ws/unknown", "/ws/monitor"][number % 3];
        subscribers.push(Subscriber::connect(&relay.socket_url(path)).await);
    }
    relay.terminate();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.close_code().await, 1001);
    }
    assert_eq!(relay.exit_status().await.code(), Some(0));
    let relay = start().await;
    wait_until("the relay serves again", async || {
        let job = relay.get("/api/anime/jobs/render").await;
        job.is_some_and(|(_, job)| job["progress"] == 60)
    })
    .await;
}
