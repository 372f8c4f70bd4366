//! What Prometheus and Grafana are given: alerts that fire, and a board whose metrics exist.

use std::collections::BTreeSet;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;

use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_server::RedisServer;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tool::installed;
use crate::support::webhook_receiver::{WEBHOOK_SECRET, WebhookReceiver};

const ALERTS: &str = "packaging/prometheus/alerts.yml";
const ALERT_TESTS: &str = "packaging/prometheus/alerts_test.yml";
const BOARD: &str = "packaging/grafana/comfy-relay.json";

/// The names of metrics in a text, without what histograms add.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_name(c));
    let names = words.filter(|word| word.starts_with("comfy_relay_"));
    let plain = |name: &str| {
        let suffixes = ["_bucket", "_sum", "_count"];
        let mut plain = suffixes
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix));
        plain.next().unwrap_or(name).to_owned()
    };
    names.map(plain).collect()
}

async fn promtool(arguments: &[&str]) {
    let Some(promtool) = installed("promtool") else {
        return;
    };
    let mut command = Command::new(promtool);
    command.args(arguments);
    let output = Program::output(command).await;
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_on_what_it_is_for_and_on_nothing_else() {
    promtool(&["check", "rules", ALERTS]).await;
    promtool(&["test", "rules", ALERT_TESTS]).await;
    let rules = std::fs::read_to_string(ALERTS).unwrap();
    let tests = std::fs::read_to_string(ALERT_TESTS).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<&str> = alerts.collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        for tested in [
            format!("alertname: {alert},"),
            format!("alertname=\"{alert}\""),
        ] {
            assert!(tests.contains(&tested), "{tested} is not tested");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_alerts_and_the_board_exists() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let receiver = WebhookReceiver::start().await;
    let mut settings = Settings::default();
    settings.relay.redis = Some(redis.config());
    settings.relay.webhook.url = Some(receiver.url().parse().unwrap());
    settings.relay.webhook.secret = Some(WEBHOOK_SECRET.to_owned().into());
    let relay = TestRelay::replaying_with(TXT2IMG, settings).await;
    relay.submit("a", TXT2IMG).await;
    receiver.wait_for_count(3).await;
    // It appears with the first request that is refused.
    let refused = relay.request(Method::POST, "/api/anime/jobs");
    let refused = refused.header("origin", "https://elsewhere.example").send();
    assert_eq!(refused.await.unwrap().status(), 403);
    let answer = relay.request(Method::GET, "/metrics").send().await.unwrap();
    let exposed = metrics(&answer.text().await.unwrap());
    let board = std::fs::read_to_string(BOARD).unwrap();
    let parsed: Value = serde_json::from_str(&board).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 20);
    for (file, text) in [
        (ALERTS, std::fs::read_to_string(ALERTS).unwrap()),
        (BOARD, board),
    ] {
        let used = metrics(&text);
        assert!(used.len() > 10, "{used:?}");
        let missing: Vec<_> = used.difference(&exposed).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}
