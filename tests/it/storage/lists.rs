//! Lists of jobs that are read from the database.

use comfy_relay::job::{JobId, Selection};
use comfy_relay::replay::PlaybackSpeed;
use comfy_relay::store::JobFilter;
use serde_json::json;

use super::lifecycle::{comfyui, relay_at, settings};
use crate::support::database::{TestDatabase, on_both};
use crate::support::recordings::TXT2IMG;
use crate::support::test_relay::TestRelay;

on_both!(
    cursors_of_lists_outlive_restarts,
    lists_can_be_limited_to_ids,
    a_status_that_is_named_twice_lists_each_job_once,
);

/// The ids of a list, page by page.
async fn walk(relay: &TestRelay, query: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/anime/jobs?limit=2&{query}{cursor}");
        let (status, page) = relay.get(&path).await;
        assert_eq!(status, 200, "{page}");
        let jobs = page["jobs"].as_array().unwrap();
        ids.extend(
            jobs.iter()
                .map(|job| job["job_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else {
            return ids;
        };
        assert_eq!(jobs.len(), 2, "{page}");
        cursor = format!("&cursor={next}");
    }
}

async fn cursors_of_lists_outlive_restarts(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    for job in ["a", "b", "c"] {
        relay
            .report(job, &json!({"progress": 100, "status": "completed"}))
            .await;
    }
    relay.submit("d", TXT2IMG).await;
    db.wait_for(
        "SELECT status AS v FROM comfy_relay.jobs WHERE job_key = 'd'",
        "completed",
    )
    .await;
    relay
        .report("e", &json!({"progress": 10, "status": "failed"}))
        .await;
    assert_eq!(walk(&relay, "").await, ["e", "d", "c", "b", "a"]);
    let (_, first) = relay.get("/api/anime/jobs?limit=2").await;
    relay.stop().await;

    // A row that somebody has marked in a way of their own is not listed, and hides no other.
    db.execute("UPDATE comfy_relay.jobs SET status = 'archived' WHERE job_key = 'b'")
        .await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    assert_eq!(walk(&relay, "").await, ["e", "d", "c", "a"]);
    assert_eq!(walk(&relay, "status=completed").await, ["d", "c", "a"]);
    let backend = comfyui.address().to_string();
    assert_eq!(walk(&relay, &format!("backend={backend}")).await, ["d"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, rest) = relay.get(&format!("/api/anime/jobs?cursor={cursor}")).await;
    assert_eq!(rest["jobs"].as_array().unwrap().len(), 2);
    let moment = first["jobs"][1]["created_at"].as_str().unwrap();
    assert_eq!(walk(&relay, &format!("until={moment}")).await, ["c", "a"]);
    assert_eq!(walk(&relay, &format!("since={moment}")).await, ["e", "d"]);
    relay.stop().await;
}

async fn lists_can_be_limited_to_ids(db: TestDatabase) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = relay_at(&comfyui.url(), db.config()).await;
    for job in ["a", "b.c", "d:e", "f_g"] {
        relay
            .report(job, &json!({"progress": 10, "status": "processing"}))
            .await;
    }
    let id = |id: &&str| JobId::parse(id).unwrap();
    let store = relay.handle.recorder().store();
    for (asked, limit, found) in [
        (&["d:e", "nobody", "a"][..], 10, &["d:e", "a"][..]),
        (&["f-g", "b", "c"], 10, &[]),
        (&["a", "b.c", "f_g"], 2, &["f_g", "b.c"]),
        (&[], 10, &[]),
    ] {
        let filter = JobFilter {
            selection: Selection {
                only: Some(asked.iter().map(id).collect()),
                ..Selection::default()
            },
            ..JobFilter::default()
        };
        let jobs = store.jobs(&filter, limit).await.unwrap().jobs;
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(ids, found, "{asked:?}");
    }
    relay.stop().await;
}

async fn a_status_that_is_named_twice_lists_each_job_once(db: TestDatabase) {
    let relay = TestRelay::without_backend(settings(db.config())).await;
    for job in ["a", "b"] {
        let end = json!({"progress": 100, "status": "completed"});
        relay.report(job, &end).await;
    }
    for statuses in [
        "status=completed,completed",
        "status=completed&status=failed&status=completed",
        "status=queued,processing,completed,failed,cancelled",
    ] {
        let (status, list) = relay.get(&format!("/api/anime/jobs?{statuses}")).await;
        assert_eq!(status, 200, "{list}");
        let listed = list["jobs"].as_array().unwrap().iter();
        let mut ids: Vec<&str> = listed.map(|job| job["job_id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["a", "b"], "{statuses}");
    }
    relay.stop().await;
}
