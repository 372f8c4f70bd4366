//! What the commands print, and what is logged.

use std::io::pipe;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{JOBS, scripted};
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, one_node_workflow};
use crate::support::scripted_comfy::ScriptedComfy;

/// A name that clears a terminal, and turns the direction of what follows.
const RAW: &str = "a\u{1b}[2J\u{9b}31m\u{202e}gnp.exe";

/// Whether a text would change what is around it.
fn is_raw(text: &str) -> bool {
    text.contains(['\u{1b}', '\u{9b}', '\u{202e}'])
}

/// Runs a command whose standard output nobody reads.
async fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
    let secret = "0123456789abcdef0123456789abcdef";
    command.args(arguments).env("AUTH_JWT_SECRET", secret);
    command.stdout(writer);
    Program::output(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_end_quietly_when_nobody_reads() {
    let (comfyui, relay) = scripted().await;
    let (relay_url, recording) = (relay.url(), format!("fixtures/{TXT2IMG}"));
    relay.submit_workflow("mine", &one_node_workflow()).await;
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    let commands: [&[&str]; 8] = [
        &["report", &recording],
        &["report", "--jobs", &recording],
        &["migrate", "--print"],
        &["token", "make", "--sub", "me", "--jobs", "*"],
        &["submit", "txt2img", "--relay", &relay_url],
        &["watch", "mine", "--relay", &relay_url],
        &["watch", "mine", "--json", "--relay", &relay_url],
        &["--help"],
    ];
    for arguments in commands {
        let output = unread(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("panicked"), "{arguments:?}: {error}");
        assert_ne!(output.status.code(), Some(101), "{arguments:?}");
    }
}

/// Nobody has reported this one: standard error is closed, as in `2>&1 | head`.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_nobody_reads_are_no_panic() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
    command.args(["submit", "x", "--relay", "http://127.0.0.1:1"]);
    command.stderr(writer);
    let output = Program::output(command).await;
    assert_ne!(output.status.code(), Some(101));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_elsewhere_are_printed_without_control_characters() {
    let (comfyui, relay) = scripted().await;
    relay.submit_workflow("mine", &one_node_workflow()).await;
    let outputs = json!({"9": {"images": [{"filename": RAW, "subfolder": "", "type": "output"}]}});
    let entry = json!({"outputs": outputs, "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    comfyui.set_queue(&[], &[]);
    let output = Program::run(&["watch", "mine", "--relay", &relay.url()], &[]).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("gnp.exe"), "{printed:?}");
    assert!(!is_raw(&printed), "{printed:?}");
    // Programs that read the messages get the name as it is, and a terminal that shows them is left alone.
    let output = Program::run(&["watch", "mine", "--json", "--relay", &relay.url()], &[]).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(!is_raw(&printed), "{printed:?}");
    let last: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(last["outputs"][0]["filename"], RAW);
    let url = relay.url();
    for command in ["jobs", "job"] {
        let named: &[&str] = if command == "job" { &["mine"] } else { &[] };
        for form in [&[][..], &["--json"]] {
            let arguments = [&[command], named, form, &["--relay", &url]].concat();
            let output = Program::run(&arguments, &[]).await;
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(
                printed.contains("gnp.exe") || command == "jobs",
                "{printed:?}"
            );
            assert!(!is_raw(&printed), "{command}: {printed:?}");
        }
    }
    assert_eq!(relay.job("mine").await.1["outputs"][0]["filename"], RAW);

    let refusal =
        json!({"error": {"type": "x", "message": format!("no node {RAW}"), "details": ""}});
    comfyui.answer("POST /prompt", 400, &refusal);
    let output = Program::run(&["submit", "txt2img", "--relay", &relay.url()], &[]).await;
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("gnp.exe"), "{printed:?}");
    assert!(!is_raw(&printed), "{printed:?}");
}

/// Nobody has reported this one: the id of another client's prompt.
#[tokio::test(flavor = "multi_thread")]
async fn ids_from_elsewhere_are_logged_without_control_characters() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_queue(&[RAW], &[]);
    let variables = [("COMFYUI_URL", comfyui.url()), ("LOG", "debug".to_owned())];
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let program = Program::start(&[], &variables);
    program.ready().await;
    program.logs("connected to ComfyUI").await;
    let body = json!({"job_id": "mine", "prompt_id": RAW});
    let (status, answer) = program.post(JOBS, &body).await.unwrap();
    assert_eq!(status, 201, "{answer}");
    program.logs("job registered").await;
    assert!(program.log().contains("gnp.exe"), "{}", program.log());
    assert!(!is_raw(&program.log()), "{:?}", program.log());
}

/// Nobody has reported this one: what the author of a graph has written.
#[tokio::test(flavor = "multi_thread")]
async fn classes_and_titles_of_nodes_are_printed_without_control_characters() {
    let (comfyui, relay) = scripted().await;
    let mut subscriber = relay.subscribe("mine").await;
    let node = json!({"class_type": RAW, "inputs": {}, "_meta": {"title": RAW}});
    relay.submit_workflow("mine", &json!({"9": node})).await;
    let data = json!({"node": "9", "prompt_id": "prompt"});
    comfyui.send(&json!({"type": "executing", "data": data}));
    subscriber
        .receive_until(|state| state["node"]["title"] == RAW)
        .await;
    comfyui.complete("prompt");
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    let output = Program::run(&["job", "mine", "--relay", &relay.url()], &[]).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("gnp.exe"), "{printed:?}");
    assert!(!is_raw(&printed), "{printed:?}");
}
