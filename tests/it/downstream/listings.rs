//! What the commands list: jobs, one job, servers; and the view over the whole screen.

use std::path::Path;

use console::strip_ansi_codes;
use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::terminal::Terminal;
use crate::support::test_relay::{Settings, TestRelay};

/// Runs a command to its end. Returns its exit code, and what it prints.
async fn run(relay: &TestRelay, arguments: &[&str]) -> (Option<i32>, String, String) {
    let variables = [("RELAY_URL", relay.url())];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let output = Program::run(arguments, &variables).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn running(progress: u8) -> Value {
    json!({"progress": progress, "status": "processing", "message": "Frame 40", "estimated_remaining": 61})
}

/// A relay with one job that runs, and one that has failed.
async fn relay_with_jobs() -> TestRelay {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let failed = json!({"progress": 10, "status": "failed", "error": "out of memory"});
    relay.report("shot-1", &failed).await;
    relay.report("shot-2", &running(40)).await;
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_in_columns_and_by_status() {
    let relay = relay_with_jobs().await;
    let (code, text, _) = run(&relay, &["jobs"]).await;
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("JOB     STATUS"), "{text}");
    assert!(
        lines[1].starts_with("shot-2  processing   40 %  1 min 01 s  Frame 40"),
        "{text}"
    );
    assert!(lines[2].starts_with("shot-1  failed        0 %"), "{text}");
    let (_, text, _) = run(&relay, &["jobs", "--status", "failed,cancelled"]).await;
    assert!(
        text.contains("shot-1") && !text.contains("shot-2"),
        "{text}"
    );
    let (_, text, _) = run(&relay, &["jobs", "--limit", "1", "--json"]).await;
    let page: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(page["jobs"][0]["job_id"], "shot-2");
    let (code, _, error) = run(&relay, &["jobs", "--status", "done"]).await;
    assert_eq!(code, Some(64), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_drawn_again_when_it_changes_and_fits_forty_columns() {
    let relay = relay_with_jobs().await;
    let url = relay.url();
    let mut list = Terminal::start(40, &["jobs", "--watch", "--relay", &url], &[]);
    list.draws(" 40 %").await;
    relay.report("shot-2", &running(60)).await;
    list.draws(" 60 %").await;
    list.types("\u{3}");
    let (_, drawn) = list.end().await;
    let plain = strip_ansi_codes(&drawn);
    let widest = plain
        .split(['\r', '\n'])
        .map(console::measure_text_width)
        .max();
    assert!(widest <= Some(40), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_shown_with_its_nodes_as_bars() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    relay.submit("shot", TXT2IMG).await;
    let mut subscriber = relay.subscribe("shot").await;
    subscriber.close_code().await;
    let (code, text, _) = run(&relay, &["job", "shot"]).await;
    assert_eq!(code, Some(0));
    for part in [
        "shot  completed  100 %  Completed",
        "\noutput     ",
        "KSampler",
        "█",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let (_, text, _) = run(&relay, &["job", "shot", "--json"]).await;
    let job: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(job["job_id"], "shot");
    let (code, _, error) = run(&relay, &["job", "missing"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("(job_not_found)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cancelled_is_said_for_each_job() {
    let relay = relay_with_jobs().await;
    let (code, text, _) = run(&relay, &["cancel", "shot-2"]).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("shot-2  it is cancelled"), "{text}");
    let (code, _, error) = run(&relay, &["cancel", "shot-1", "shot-2"]).await;
    assert_eq!(code, Some(1));
    for job in ["shot-1", "shot-2"] {
        let is_named = |line: &str| line.contains(job) && line.contains("(not_cancellable)");
        assert!(error.lines().any(is_named), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_jobs_of_a_group_are_cancelled() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for (job, group) in [("one", "shots"), ("two", "shots"), ("three", "others")] {
        let mut report = running(40);
        report["group"] = json!(group);
        relay.report(job, &report).await;
    }
    let (code, text, _) = run(&relay, &["cancel", "group:shots"]).await;
    assert_eq!(code, Some(0), "{text}");
    for (job, status) in [
        ("one", "cancelled"),
        ("two", "cancelled"),
        ("three", "processing"),
    ] {
        assert_eq!(relay.job(job).await.1["status"], status, "{text}");
    }
    let (code, _, error) = run(&relay, &["cancel", "group:shots"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("no job of this group is open"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_listed_with_how_they_are() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let (code, text, _) = run(&relay, &["backends"]).await;
    assert_eq!(code, Some(0));
    assert!(text.lines().nth(1).unwrap().contains("connected"), "{text}");
    let relay = relay_with_jobs().await;
    let (_, text, _) = run(&relay, &["backends"]).await;
    assert!(text.contains("unreachable"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_over_the_screen_follows_jobs_until_it_is_left() {
    let relay = relay_with_jobs().await;
    let url = relay.url();
    let mut top = Terminal::start(100, &["top", "--relay", &url], &[]);
    top.draws("1 running, 0 waiting").await;
    top.draws("████████░").await;
    relay.report("shot-2", &running(60)).await;
    // Only what has changed is drawn.
    top.draws("████\u{1b}").await;
    top.types("q");
    let (code, drawn) = top.end().await;
    assert_eq!(code, Some(0), "{drawn:?}");
    assert!(
        drawn.contains("\u{1b}[?1049l"),
        "the screen is given back: {drawn:?}"
    );
    let (code, _, error) = run(&relay, &["top"]).await;
    assert_eq!(code, Some(64));
    assert!(error.contains("needs a terminal"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_jobs_are_watched_and_the_worst_end_is_the_exit_code() {
    let relay = relay_with_jobs().await;
    let url = relay.url();
    let arguments = ["watch", "shot-1", "shot-2", "--notify", "--relay", &url];
    let mut watch = Terminal::start(80, &arguments, &[]);
    watch.draws("shot-2   40 %").await;
    let end = json!({"progress": 100, "status": "completed"});
    relay.report("shot-2", &end).await;
    let (code, drawn) = watch.end().await;
    assert_eq!(code, Some(1), "{drawn:?}");
    assert!(drawn.contains('\u{7}'), "{drawn:?}");
    assert!(
        strip_ansi_codes(&drawn).contains("shot-1    0 %  Failed"),
        "{drawn:?}"
    );
    let (code, text, _) = run(&relay, &["watch", "shot-2", "shot-1", "--json"]).await;
    assert_eq!(code, Some(1));
    for job in ["shot-1", "shot-2"] {
        assert!(text.contains(&format!(r#""job_id":"{job}""#)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_and_man_know_every_command() {
    let output = Program::run(&["completions", "bash"], &[]).await;
    let script = String::from_utf8(output.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let written = Program::run(&["man", "--out", out], &[]).await;
    assert!(written.status.success());
    for command in ["serve", "watch", "jobs", "top"] {
        assert!(script.contains(command), "{command}");
        let page = Path::new(out).join(format!("comfy-relay-{command}.1"));
        assert!(page.exists(), "{}", page.display());
    }
    let output = Program::run(&["man"], &[]).await;
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains(".TH comfy-relay")
    );
}
