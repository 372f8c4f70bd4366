//! Lists of jobs that are read from the database.

use std::cmp::Reverse;

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
    each_pair_of_filters_lists_the_jobs_that_match_both,
);

/// How many jobs [`listed_jobs`] has, and how many of them were registered in the same second.
const LISTED: usize = 300;
const AT_ONCE: usize = 3;

/// The ids of a list, page by page.
async fn walk(relay: &TestRelay, query: &str) -> Vec<String> {
    walk_by(relay, query, 2).await
}

/// The ids of a list in pages of `limit` jobs.
async fn walk_by(relay: &TestRelay, query: &str, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/anime/jobs?limit={limit}&{query}{cursor}");
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
        assert_eq!(jobs.len(), limit, "{page}");
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

/// A job as its row and as the list has it.
struct ListedJob {
    id: String,
    registered: String,
    status: &'static str,
    backend: Option<&'static str>,
    group: Option<&'static str>,
    workflow: Option<&'static str>,
    user: Option<&'static str>,
}

impl ListedJob {
    fn numbered(n: usize) -> Self {
        let second = n / AT_ONCE;
        Self {
            // In another order than that of the moments.
            id: format!("job-{:03}", n * 37 % LISTED),
            registered: format!("2026-01-01T00:{:02}:{:02}.000Z", second / 60, second % 60),
            status: ["completed", "completed", "failed", "completed", "cancelled"][n % 5],
            backend: [Some("gpu-1"), Some("gpu-2"), Some("gpu-1"), None][n % 4],
            group: [
                None,
                Some("ep1"),
                Some("ep1"),
                Some("ep2"),
                None,
                None,
                None,
            ][n % 7],
            workflow: [Some("wide"), None, Some("tall")][n % 3],
            user: [Some("ann"), None, Some("bob"), None, Some("ann")][n * 7 % 5],
        }
    }

    fn row(&self) -> String {
        let text = |value: Option<&str>| value.map_or("NULL".to_owned(), |it| format!("'{it}'"));
        let labels = self.user.map(|user| format!("{{\"user\":\"{user}\"}}"));
        format!(
            "('{}', '{}', 100, 1, '[]', '{registered}', '{registered}', '{registered}', false, {}, {}, {}, {})",
            self.id,
            self.status,
            text(self.backend),
            text(self.group),
            text(self.workflow),
            text(labels.as_deref()),
            registered = self.registered,
        )
    }
}

/// Jobs with all combinations of what lists can be filtered by, the newest first.
async fn listed_jobs(db: &TestDatabase) -> Vec<ListedJob> {
    let mut jobs: Vec<ListedJob> = (0..LISTED).map(ListedJob::numbered).collect();
    let rows: Vec<String> = jobs.iter().map(ListedJob::row).collect();
    db.execute(&format!(
        "INSERT INTO comfy_relay.jobs (job_key, status, progress, seq, outputs, created_at, completed_at, last_updated, \
         mirror_due, backend, job_group, workflow, labels) VALUES {}",
        rows.join(", ")
    ))
    .await;
    jobs.sort_by_key(|job| Reverse((job.registered.clone(), job.id.clone())));
    jobs
}

type Matches = fn(&ListedJob) -> bool;

async fn each_pair_of_filters_lists_the_jobs_that_match_both(db: TestDatabase) {
    let relay = TestRelay::without_backend(settings(db.config())).await;
    let jobs = listed_jobs(&db).await;
    let filters: [(&str, Matches); 12] = [
        ("status=completed", |job| job.status == "completed"),
        ("status=cancelled,failed", |job| job.status != "completed"),
        ("backend=gpu-1", |job| job.backend == Some("gpu-1")),
        ("backend=gpu-2", |job| job.backend == Some("gpu-2")),
        ("group=ep1", |job| job.group == Some("ep1")),
        ("group=ep2", |job| job.group == Some("ep2")),
        ("workflow=wide", |job| job.workflow == Some("wide")),
        ("workflow=none", |job| job.workflow == Some("none")),
        ("label=user=ann", |job| job.user == Some("ann")),
        ("q=BOB", |job| job.user == Some("bob")),
        ("since=2026-01-01T00:00:21Z", |job| {
            job.registered.as_str() >= "2026-01-01T00:00:21"
        }),
        ("until=2026-01-01T00:01:01Z", |job| {
            job.registered.as_str() < "2026-01-01T00:01:01"
        }),
    ];
    let mut found = 0;
    for (first, matches_first) in filters {
        for (second, matches_second) in filters {
            let query = format!("{first}&{second}");
            // One pair in either order, and none of two filters of one kind.
            if first >= second || first.split('=').next() == second.split('=').next() {
                continue;
            }
            let both = jobs
                .iter()
                .filter(|job| matches_first(job) && matches_second(job));
            let wanted: Vec<&str> = both.map(|job| job.id.as_str()).collect();
            assert_eq!(walk_by(&relay, &query, 20).await, wanted, "{query}");
            found += wanted.len();
        }
    }
    assert!(found > LISTED, "{found}");
    relay.stop().await;
}
