//! The commands of the program: their output and exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output};

use comfy_relay::config::ServerConfig;
use comfy_relay::recording::{RecordedOutcome, Recording};
use serde_json::json;

use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::tokens::SECRET;
use crate::support::tool::Events;

/// Runs the program to its end.
async fn run(arguments: &[&str]) -> Output {
    Program::run(arguments, &[]).await
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_completes_a_job() {
    let output = run(&["demo", "--once", "--speed", "50", "--listen", "127.0.0.1:0"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("100 %  Completed: ComfyUI_00001_.png"),
        "{}",
        stdout(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_names_its_job_and_asks_for_tokens_where_it_is_told_to() {
    let arguments = ["demo", "--once", "--speed", "50", "--listen", "127.0.0.1:0"];
    let variables = [
        ("AUTH_JWT_SECRET", SECRET),
        ("ALLOWED_ORIGINS", "https://app.example"),
    ];
    let output = Program::run(&arguments, &variables).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(
        shown.contains("demo-1 txt2img-basic  100 %  Completed"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_the_command_that_follows_its_job() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
    demo.args(["demo", "--listen", "127.0.0.1:0"]);
    let mut demo = demo.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let shown = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut shown = shown.map_while(Result::ok);
    let line = shown.find_map(|line| {
        let (_, command) = line.split_once("In another terminal: ")?;
        Some(command.split("   ").next()?.to_owned())
    });
    let command = line.unwrap();
    assert!(
        command.contains("watch demo-1 --relay http://127.0.0.1:"),
        "{command}"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]);
    let output = Program::output(shell).await;
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{command}: {}",
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("demo-1  100 %  Completed"),
        "{}",
        stdout(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_exits_with_the_outcome_of_its_job() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let url = relay.url();
    let error = "mat1 and mat2 shapes cannot be multiplied";
    for (status, code) in [("completed", 0), ("failed", 1), ("cancelled", 2)] {
        let path = format!("/api/anime/jobs/{status}/progress");
        relay
            .post(
                &path,
                &json!({"progress": 50, "status": status, "error": error}),
            )
            .await;
        let output = run(&["watch", status, "--relay", &url]).await;
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(
            stdout(&output).contains(error),
            status == "failed",
            "{output:?}"
        );
        let output = run(&["watch", status, "--json", "--relay", &url]).await;
        assert_eq!(output.status.code(), Some(code));
        let last = stdout(&output).lines().last().unwrap().to_owned();
        assert!(last.contains(&format!(r#""status":"{status}""#)), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_reports_a_missing_job_and_an_unreachable_relay() {
    let server = ServerConfig {
        job_wait: std::time::Duration::from_millis(10),
        ..ServerConfig::default()
    };
    let relay = TestRelay::replaying_with(TXT2IMG, server).await;
    let url = relay.url();
    let output = run(&["watch", "unknown", "--relay", &url]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("there is no job"),
        "{}",
        stderr(&output)
    );
    // Nothing listens on port 1 of loopback.
    let output = run(&["watch", "unknown", "--relay", "http://127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("RELAY_URL"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_says_how_long_the_relay_waits_for_a_job() {
    let server = ServerConfig {
        job_wait: std::time::Duration::from_secs(3),
        ..ServerConfig::default()
    };
    // Whether ComfyUI has the prompt cannot be known.
    let relay = TestRelay::without_backend(server).await;
    let output = run(&["watch", "unknown", "--relay", &relay.url()]).await;
    assert_eq!(output.status.code(), Some(3));
    let shown = stdout(&output);
    let waits = "unknown  Nobody has registered this job yet; waiting 3 s more. ComfyUI at 127.0.0.1:1 does not answer";
    assert!(shown.contains(waits), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_file_is_submitted_and_watched() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let url = relay.url();
    let file = "comfy_workflows/txt2img.json";
    let output = run(&["submit", file, "--watch", "-p", "3.seed=7", "--relay", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = run(&["submit", "txt2img", "--job-id", "named", "--relay", &url]).await;
    assert_eq!(stdout(&output), "named\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_wrong_file_or_setting() {
    let folder = tempfile::tempdir().unwrap();
    let editor = folder.path().join("editor.json");
    std::fs::write(&editor, r#"{"nodes": [], "links": []}"#).unwrap();
    let editor = editor.to_str().unwrap();
    let relay = TestRelay::replaying(TXT2IMG).await;
    let url = relay.url();
    for (arguments, code, told) in [
        (&["serve", "--listen", "nowhere"][..], 64, "--listen"),
        (&["serve", "--comfyui-url", "ftp://x"], 64, "--comfyui-url"),
        (
            &["serve", "--comfyui-url", "http://me:secret@x/?a"],
            64,
            "a query",
        ),
        (
            &["serve", "--remember", "18446744073709551615"],
            64,
            "ten years",
        ),
        (
            &["serve", "--websocket-ping-interval", "0"],
            64,
            "--websocket-ping-interval",
        ),
        (&["serve", "--no-such-flag"], 64, "--no-such-flag"),
        (
            &["serve", "--insecure", "--listen", "192.0.2.1:1"],
            1,
            "LISTEN",
        ),
        (&["demo", "--speed", "0"], 64, "--speed"),
        (&["watch", "a/b"], 64, "job id"),
        (&["replay", "no-such-folder"], 1, "no-such-folder"),
        (&["submit", "no/such/file.json"], 1, "no/such/file.json"),
        (&["submit", editor], 1, "Export (API)"),
        (
            &["submit", "no-such-file.json", "--relay", &url],
            1,
            "there is no file \"no-such-file.json\"",
        ),
        (
            &["submit", "no-such-file.json", "--relay", UNREACHABLE],
            1,
            "there is no file",
        ),
        (
            &["submit", "no-such-file.json", "--relay", UNREACHABLE],
            1,
            "RELAY_URL",
        ),
        (
            &["submit", "no-such-file.json", "--relay", &url],
            1,
            "there are: animatediff, ",
        ),
    ] {
        let output = run(arguments).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(told),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

/// Arguments of `record` for one workflow.
fn record<'a>(out: &'a str, comfyui_url: &'a str) -> [&'a str; 6] {
    let workflow = "comfy_workflows/txt2img.json";
    [
        "record",
        workflow,
        "--out",
        out,
        "--comfyui-url",
        comfyui_url,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_refused_before_anything_runs() {
    let comfyui = ScriptedComfy::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for (name, why) in [("", "is not empty"), ("file/new", "cannot write to")] {
        let out = folder.path().join(name);
        let output = run(&record(out.to_str().unwrap(), &comfyui.url())).await;
        assert!(!output.status.success());
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
    assert_eq!(comfyui.calls("POST /prompt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_stopped_early_is_kept() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer("GET /system_stats", 200, &json!({"system": {}}));
    comfyui.accept_prompts_as("endless");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("recorded");
    let mut recorder = Program::start_command(&record(out.to_str().unwrap(), &comfyui.url()), &[]);
    comfyui.wait_for_calls("GET /history/endless", 1).await;
    recorder.terminate();
    assert!(recorder.exit_status().await.success());
    let recorded = Recording::read(&out).unwrap();
    assert_eq!(recorded.meta.prompt_ids, ["endless"]);
    assert!(recorded.meta.outcome.is_empty());
    assert_eq!(recorded.prompts().count(), 1);
    assert!(!recorded.frames.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_can_be_replayed() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("recorded");
    let output = run(&record(out.to_str().unwrap(), &relay.comfyui_url())).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let recorded = Recording::read(&out).unwrap();
    assert_eq!(recorded.meta.comfyui_version, "0.8.0");
    let outcomes: Vec<RecordedOutcome> = recorded.meta.outcome.into_values().collect();
    assert_eq!(outcomes, [RecordedOutcome::Completed]);

    let reading = tokio::task::spawn_blocking(move || Recording::read(&out).unwrap());
    let again =
        TestRelay::replaying_all(vec![reading.await.unwrap().into()], Settings::default()).await;
    let mut subscriber = again.subscribe("job").await;
    let (status, _) = again
        .post(
            "/api/anime/jobs",
            &json!({"job_id": "job", "workflow": "txt2img"}),
        )
        .await;
    assert_eq!(status, 201);
    subscriber.ends_as("completed").await;
    assert!(
        subscriber
            .states
            .iter()
            .any(|state| state["message"] == "KSampler: step 12 of 20")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_exits_quietly_when_its_output_is_closed() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let url = relay.url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
    command.args(["watch", "job", "--json", "--relay", &url]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer);
    command.stderr(std::process::Stdio::piped());
    let output = Program::output(command).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

/// The state of a job that a producer reports, with a label.
fn of_episode(episode: &str, progress: u64, status: &str) -> serde_json::Value {
    json!({"progress": progress, "status": status, "labels": {"episode": episode}})
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_follows_all_jobs_with_a_label_until_none_is_left() {
    let relay = TestRelay::without_backend(Settings::without_heartbeat()).await;
    relay
        .report("old", &of_episode("3", 100, "completed"))
        .await;
    relay.report("a", &of_episode("3", 10, "processing")).await;
    relay
        .report("other", &of_episode("4", 10, "processing"))
        .await;
    let mut watch = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
    watch.args(["watch", "--label", "episode=3", "--json"]);
    watch.args(["--relay", &relay.url()]);
    let mut printed = Events::of(watch);
    assert_eq!(printed.next().await["type"], "connection");
    assert_eq!(printed.next().await["job_id"], "a");
    // One that comes meanwhile.
    relay.report("b", &of_episode("3", 0, "queued")).await;
    assert_eq!(printed.next().await["job_id"], "b");
    relay.report("a", &of_episode("3", 100, "completed")).await;
    assert_eq!(printed.next().await["status"], "completed");
    relay.report("b", &of_episode("3", 0, "cancelled")).await;
    assert_eq!(printed.next().await["status"], "cancelled");
    assert!(!printed.end().await, "exit code 2: one was cancelled");

    let label = ["watch", "--label", "episode=3", "--relay", &relay.url()];
    let output = run(&label).await;
    assert_eq!(output.status.code(), Some(3));
    let shown = stderr(&output);
    assert!(shown.contains("no such job waits or runs"), "{shown}");
    for wrong in [
        &["watch"][..],
        &["watch", "a", "--label", "b=c"],
        &["watch", "--label", "b"],
    ] {
        assert_eq!(run(wrong).await.status.code(), Some(64), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_job_has_its_labels_and_its_group() {
    let relay = TestRelay::replaying(TXT2IMG).await;
    let url = relay.url();
    let labels = [
        "--label",
        "episode=3",
        "--label",
        "note=a=b",
        "--group",
        "ep3",
    ];
    let submit = ["submit", "txt2img", "--job-id", "shot", "--relay", &url];
    let output = run(&[&submit[..], &labels].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let (_, job) = relay.job("shot").await;
    assert_eq!(job["labels"], json!({"episode": "3", "note": "a=b"}));
    assert_eq!(job["group"], "ep3");
    for (label, is_listed) in [("episode=3", true), ("episode=4", false)] {
        let output = run(&["jobs", "--label", label, "--group", "ep3", "--relay", &url]).await;
        assert_eq!(stdout(&output).contains("shot"), is_listed, "{output:?}");
    }
}
