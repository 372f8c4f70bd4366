//! `GET /metrics`, compared with what has just happened.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::process::Command;

use comfy_relay::replay::PlaybackSpeed;
use reqwest::Method;

use crate::support::program::Program;
use crate::support::recordings::{ERROR, TXT2IMG, recording};
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tool::installed;
use crate::support::webhook_receiver::{WEBHOOK_SECRET, WebhookReceiver};

/// The value of each line, by its name and labels as they are written, the labels in their order.
async fn scrape(relay: &TestRelay) -> HashMap<String, f64> {
    let response = relay.request(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = response.text().await.unwrap();
    let mut values = HashMap::new();
    let mut typed = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(name) = comment.strip_prefix("TYPE ") {
                typed.push(name.split(' ').next().unwrap().to_owned());
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let is_typed = typed.iter().any(|family| name.starts_with(family.as_str()));
        assert!(is_typed && name.starts_with("comfy_relay_"), "{line}");
        let before = values.insert(series.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "twice: {line}");
    }
    values
}

async fn play(relay: &TestRelay, job: &str, name: &str) {
    let mut subscriber = relay.subscribe(job).await;
    relay.submit(job, name).await;
    assert_eq!(subscriber.close_code().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_estimates_are_counted() {
    let recordings = vec![recording(TXT2IMG).await, recording(ERROR).await];
    let relay = TestRelay::replaying_all(recordings, PlaybackSpeed::Real(4.0)).await;
    let fresh = scrape(&relay).await;
    for status in ["completed", "failed", "cancelled"] {
        let series = format!("comfy_relay_jobs_ended_total{{status=\"{status}\"}}");
        assert_eq!(fresh[&series], 0.0);
    }
    let of = |values: &HashMap<String, f64>, name: &str, labels: &str| {
        let series = format!("comfy_relay_{name}{labels}");
        *values
            .get(&series)
            .unwrap_or_else(|| panic!("{series} is not among {values:#?}"))
    };
    for (job, name) in [("a", TXT2IMG), ("b", ERROR), ("c", TXT2IMG), ("d", TXT2IMG)] {
        play(&relay, job, name).await;
    }
    let timed = scrape(&relay).await;
    let backend = relay.comfyui_url().replace("http://", "");
    for (status, jobs) in [("completed", 3.0), ("failed", 1.0)] {
        let labels = format!("{{status=\"{status}\",backend=\"{backend}\"}}");
        assert_eq!(of(&timed, "job_duration_seconds_count", &labels), jobs);
        assert!(of(&timed, "job_duration_seconds_sum", &labels) > 0.0);
    }
    assert_eq!(of(&timed, "job_wait_seconds_count", ""), 4.0);
    let ends = "comfy_relay_job_ends_learned_total{learned_from=";
    let ends = timed.iter().filter(|(series, _)| series.starts_with(ends));
    assert_eq!(ends.map(|(_, jobs)| jobs).sum::<f64>(), 4.0);
    deliveries_are_counted(&timed);
    let _waiting = relay.subscribe("later").await;
    let values = scrape(&relay).await;
    assert_eq!(
        of(&values, "jobs_ended_total", "{status=\"completed\"}"),
        3.0
    );
    assert_eq!(of(&values, "jobs_ended_total", "{status=\"failed\"}"), 1.0);
    assert_eq!(of(&values, "jobs_open", "{status=\"queued\"}"), 0.0);
    assert_eq!(of(&values, "jobs_open", "{status=\"processing\"}"), 0.0);
    assert_eq!(of(&values, "subscribers", ""), 1.0);
    let backend = format!(
        "{{backend=\"{}\"}}",
        relay.comfyui_url().trim_start_matches("http://")
    );
    assert_eq!(of(&values, "backend_connected", &backend), 1.0);
    assert_eq!(of(&values, "backend_queue_length", &backend), 0.0);
    assert_eq!(of(&values, "database_connected", ""), 1.0);
    assert!(values.contains_key("comfy_relay_recorder_backlog"));
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(of(&values, "build_info", &version), 1.0);
    for at in [25, 50, 75, 90] {
        for (workflow, jobs) in [("first_time", 1.0), ("known", 2.0)] {
            let labels = format!("{{at=\"{at}\",workflow=\"{workflow}\"}}");
            // Each job had an estimate or not, and progress in any case.
            let with_estimate =
                values.get(&format!("comfy_relay_estimate_error_ratio_count{labels}"));
            let missing = values.get(&format!("comfy_relay_estimate_missing_total{labels}"));
            let scored = with_estimate.unwrap_or(&0.0) + missing.unwrap_or(&0.0);
            assert_eq!(scored, jobs, "{labels}");
            let points = of(&values, "progress_error_points_count", &labels);
            assert_eq!(points, jobs);
        }
        let labels = format!("{{at=\"{at}\",workflow=\"known\"}}");
        assert_eq!(of(&values, "estimate_error_ratio_count", &labels), 2.0);
    }
    let intervals = of(&values, "estimate_intervals_total", "{workflow=\"known\"}");
    let hit = of(
        &values,
        "estimate_intervals_hit_total",
        "{workflow=\"known\"}",
    );
    assert!(intervals >= 8.0 && hit <= intervals, "{hit} of {intervals}");
    assert!(
        !values
            .keys()
            .any(|series| series.contains("job_id") || series.contains("\"c\"")),
        "no label grows with the jobs"
    );
}

/// One subscriber has followed each job from before its start to its end.
fn deliveries_are_counted(values: &HashMap<String, f64>) {
    let of = |name: &str| values[&format!("comfy_relay_{name}")];
    let (sent, timed) = (of("states_sent_total"), of("delivery_seconds_count"));
    let published = of("states_published_total");
    // Each end was sent, and shows an event. States from before the relay's first event do not.
    assert!(
        4.0 <= timed && timed <= sent && sent <= published,
        "{timed} of {sent} of {published}"
    );
    assert!(of("sent_bytes_total") > 200.0 * sent);
    let mean = of("delivery_seconds_sum") / timed;
    assert!(mean > 0.0, "{mean}");
    assert_eq!(of("delivery_seconds_bucket{le=\"+Inf\"}"), timed);
    assert_eq!(of("states_skipped_total"), 0.0);
}

/// Types, units and help texts as Prometheus asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = installed("promtool") else {
        return;
    };
    let receiver = WebhookReceiver::start().await;
    let mut settings = Settings::default();
    settings.relay.webhook.url = Some(receiver.url().parse().unwrap());
    settings.relay.webhook.secret = Some(WEBHOOK_SECRET.to_owned().into());
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    play(&relay, "a", TXT2IMG).await;
    receiver.wait_for_count(3).await;
    let metrics = relay.request(Method::GET, "/metrics").send().await.unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&metrics.bytes().await.unwrap()).unwrap();
    file.rewind().unwrap();
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(file);
    let checked = Program::output(check).await;
    let found = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
    assert!(checked.status.success() && found.is_empty(), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_in_one_process_count_separately() {
    let (one, other) = (
        TestRelay::replaying(TXT2IMG).await,
        TestRelay::replaying(TXT2IMG).await,
    );
    play(&one, "a", TXT2IMG).await;
    let completed = "comfy_relay_jobs_ended_total{status=\"completed\"}";
    assert_eq!(scrape(&one).await[completed], 1.0);
    assert_eq!(scrape(&other).await[completed], 0.0);
}
