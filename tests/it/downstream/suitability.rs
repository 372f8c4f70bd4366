//! Which backends can run a workflow: checked without submitting it.

use std::time::Duration;

use comfy_relay::comfy::PromptOptions;
use comfy_relay::relay::placeable;
use comfy_relay::replay::{PlaybackSpeed, Replay};
use serde_json::{Value, json};

use crate::support::hanging_server::HangingServer;
use crate::support::program::Program;
use crate::support::recordings::{recording, replay, workflow};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay, UNREACHABLE};
use crate::support::wait::wait_until;

const CHECK: &str = "/api/anime/workflows/check";
const OBJECT_INFO: &str = "GET /object_info";

/// Replays two recordings of a version: one shows what the graph needs, the other the model files of the server.
async fn replaying(version: &str) -> Replay {
    let names = ["01-txt2img-basic", "08-validation-error"];
    let mut recordings = Vec::new();
    for name in names {
        recordings.push(recording(&format!("{version}/{name}")).await);
    }
    replay(recordings, PlaybackSpeed::Fastest).await
}

/// A relay before servers of two versions, of which only the older one has the file `corrupt.safetensors`.
async fn two_servers() -> (TestRelay, [Replay; 2]) {
    let servers = [replaying("0.33.0").await, replaying("0.3.60").await];
    let urls = servers.each_ref().map(Replay::url).join(",");
    (
        TestRelay::connected_to(&urls, Settings::default()).await,
        servers,
    )
}

async fn graph_with(node: &str, input: &str, value: Value) -> Value {
    let mut graph = workflow("0.33.0/01-txt2img-basic").await;
    graph[node]["inputs"][input] = value;
    graph
}

async fn check(relay: &TestRelay, workflow: &Value) -> Value {
    let (status, answer) = relay.post(CHECK, &json!({ "workflow": workflow })).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Whether each server can run the workflow.
fn verdicts(answer: &Value) -> Vec<Value> {
    let backends = answer["backends"].as_array().unwrap();
    backends.iter().map(|it| it["can_run"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lacks_a_model_file_is_named_with_it() {
    let (relay, _servers) = two_servers().await;
    let answer = check(&relay, &workflow("0.33.0/01-txt2img-basic").await).await;
    assert_eq!(verdicts(&answer), [true, true], "{answer}");
    assert_eq!(answer["can_run"], true);

    let graph = graph_with("4", "ckpt_name", json!("corrupt.safetensors")).await;
    let answer = check(&relay, &graph).await;
    assert_eq!(verdicts(&answer), [false, true], "{answer}");
    assert_eq!(answer["can_run"], true);
    let problem = json!([{
        "node": "4",
        "class_type": "CheckpointLoaderSimple",
        "input": "ckpt_name",
        "code": "value_not_in_list",
        "message": "model file \"corrupt.safetensors\" is missing",
    }]);
    assert_eq!(answer["backends"][0]["problems"], problem);
    assert_eq!(answer["backends"][1]["problems"], json!([]));

    let name = answer["backends"][0]["name"].clone();
    let body = json!({"workflow": graph, "backend": name});
    let (_, answer) = relay.post(CHECK, &body).await;
    assert_eq!(
        (&answer["can_run"], verdicts(&answer)),
        (&json!(false), vec![json!(false)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_server_can_each_has_its_reasons() {
    let (relay, _servers) = two_servers().await;
    let options = PromptOptions::default();
    let placed = async |graph: &Value| {
        let asked = relay
            .handle
            .suitability(graph.as_object().unwrap(), &options)
            .await;
        placeable(&asked)
    };
    let graph = graph_with("4", "ckpt_name", json!("corrupt.safetensors")).await;
    assert_eq!(placed(&graph).await.unwrap(), [1]);

    let graph = graph_with("4", "ckpt_name", json!("missing.safetensors")).await;
    let error = placed(&graph).await.unwrap_err().to_string();
    let lacks = "model file \"missing.safetensors\" is missing";
    assert_eq!(error.matches(lacks).count(), 2, "{error}");

    // A wrong value is wrong everywhere: that is ComfyUI's own refusal.
    let graph = graph_with("3", "steps", json!("many")).await;
    let error = placed(&graph).await.unwrap_err().to_string();
    assert!(
        error.starts_with("ComfyUI refuses the workflow: "),
        "{error}"
    );
    assert!(error.contains("KSampler (node 3), input steps"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_checked_with_its_parameters() {
    let (relay, _servers) = two_servers().await;
    let body = |name: &str, value: Value| json!({"workflow": "txt2img", "params": {name: value}});
    let (status, answer) = relay
        .post(CHECK, &body("4.ckpt_name", json!("tiny-sd15.safetensors")))
        .await;
    assert_eq!(
        (status, verdicts(&answer)),
        (200, vec![json!(true), json!(true)]),
        "{answer}"
    );
    for (body, status, code) in [
        (body("4.nothing", json!(1)), 400, "bad_parameter"),
        (json!({"workflow": "nowhere"}), 404, "workflow_not_found"),
        (
            json!({"workflow": {"nodes": [], "links": []}}),
            400,
            "editor_format",
        ),
        (json!({"workflow": 7}), 400, "bad_workflow"),
        (json!({}), 400, "bad_workflow"),
        (
            json!({"workflow": "txt2img", "backend": "gpu7"}),
            400,
            "backend_unknown",
        ),
        (
            json!({"workflow": "txt2img", "job_id": "a"}),
            400,
            "unknown_field",
        ),
    ] {
        let (got, answer) = relay.post(CHECK, &body).await;
        assert_eq!(
            (got, &answer["error"]["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
}

/// The definition of a loader with these files, which is an output.
fn loader(files: &[&str]) -> Value {
    json!({"Loader": {"input": {"required": {"file": [files]}}, "output": [], "output_node": true,
        "python_module": "nodes"}})
}

fn loading(file: &str) -> Value {
    json!({"1": {"class_type": "Loader", "inputs": {"file": file}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_added_is_found_without_a_restart() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(OBJECT_INFO, 200, &loader(&["a.pt"]));
    let mut settings = Settings::default();
    settings.comfy.fresh_classes = Duration::ZERO;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    assert_eq!(verdicts(&check(&relay, &loading("a.pt")).await), [true]);
    assert_eq!(verdicts(&check(&relay, &loading("b.pt")).await), [false]);
    comfyui.answer(OBJECT_INFO, 200, &loader(&["a.pt", "b.pt"]));
    assert_eq!(verdicts(&check(&relay, &loading("b.pt")).await), [true]);
    // What can run is not asked for again.
    let calls = comfyui.calls(OBJECT_INFO);
    assert_eq!(verdicts(&check(&relay, &loading("b.pt")).await), [true]);
    assert_eq!(comfyui.calls(OBJECT_INFO), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lacks_something_is_not_asked_for_every_workflow() {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer(OBJECT_INFO, 200, &loader(&["a.pt"]));
    let mut settings = Settings::default();
    settings.comfy.fresh_classes = Duration::from_secs(3_600);
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    assert_eq!(verdicts(&check(&relay, &loading("b.pt")).await), [false]);
    let calls = comfyui.calls(OBJECT_INFO);
    for _ in 0..20 {
        assert_eq!(verdicts(&check(&relay, &loading("b.pt")).await), [false]);
    }
    assert_eq!(comfyui.calls(OBJECT_INFO), calls);
}

/// One that hangs with its answer, one that hangs from the start, one that is away, and one that does not say what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_holds_up_none() {
    let (good, slow, silent) = (
        ScriptedComfy::start().await,
        ScriptedComfy::start().await,
        ScriptedComfy::start().await,
    );
    let hanging = HangingServer::start().await;
    good.answer(OBJECT_INFO, 200, &loader(&["a.pt"]));
    slow.reply(OBJECT_INFO, Reply::Hang);
    silent.answer(OBJECT_INFO, 200, &json!({}));
    let urls = [good.url(), slow.url(), hanging.url(), silent.url()].join(",");
    let mut settings = Settings::default();
    settings.comfy.classes_timeout = Duration::from_millis(50);
    let relay = TestRelay::start(&urls, settings).await;
    // That of the good one is known.
    wait_until("the good server is known", async || {
        verdicts(&check(&relay, &loading("a.pt")).await)[0] == true
    })
    .await;
    let answer = check(&relay, &loading("b.pt")).await;
    let expected = [json!(false), Value::Null, Value::Null, Value::Null];
    assert_eq!(verdicts(&answer), expected, "{answer}");
    assert_eq!(answer["can_run"], false);
    let reason = answer["backends"][1]["message"].as_str().unwrap();
    assert!(reason.contains("not known"), "{reason}");
    // The job may wait for them.
    let options = PromptOptions::default();
    let graph = loading("b.pt");
    let asked = relay
        .handle
        .suitability(graph.as_object().unwrap(), &options)
        .await;
    assert_eq!(placeable(&asked).unwrap(), [1, 2, 3]);
}

/// What an extension refuses or takes, only ComfyUI knows.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_extension_may_take_is_not_known() {
    let comfyui = ScriptedComfy::start().await;
    let mut classes = loader(&["a.pt"]);
    classes["Loader"]["python_module"] = json!("custom_nodes.loaders");
    comfyui.answer(OBJECT_INFO, 200, &classes);
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let answer = check(&relay, &loading("b.pt")).await;
    assert_eq!(verdicts(&answer), [Value::Null], "{answer}");
    assert_eq!(
        answer["backends"][0]["problems"][0]["code"],
        "value_not_in_list"
    );
    assert!(
        answer["backends"][0]["message"]
            .as_str()
            .unwrap()
            .contains("check of its own")
    );
}

/// Runs `comfy-relay workflow check`: its exit code, its output and its errors.
async fn run(relay: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let command = ["workflow", "check", "--relay", relay];
    let output = Program::run(&[&command, arguments].concat(), &[]).await;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_what_each_server_lacks() {
    let (relay, _servers) = two_servers().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("graph.json");
    let graph = graph_with("4", "ckpt_name", json!("corrupt.safetensors")).await;
    std::fs::write(&file, graph.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let answer = check(&relay, &graph).await;
    let names = [0, 1].map(|index| {
        answer["backends"][index]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    });

    let (code, shown, _) = run(&relay.url(), &[file]).await;
    assert_eq!(code, Some(0), "{shown}");
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["SERVER", "CAN", "RUN", "NODE", "INPUT", "PROBLEM"]
    );
    let lacks =
        "no 4 CheckpointLoaderSimple ckpt_name model file \"corrupt.safetensors\" is missing";
    assert_eq!(lines[1].join(" "), format!("{} {lacks}", names[0]));
    assert_eq!(lines[2].join(" "), format!("{} yes", names[1]));

    let (code, shown, _) = run(&relay.url(), &[file, "--backend", &names[0]]).await;
    assert_eq!((code, shown.lines().count()), (Some(1), 2), "{shown}");
    let (code, shown, _) = run(&relay.url(), &[file, "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, shown), (Some(0), answer));
    let param = ["txt2img", "-p", "4.ckpt_name=missing.safetensors"];
    let (code, shown, _) = run(&relay.url(), &param).await;
    assert_eq!(
        (code, shown.matches(" no ").count()),
        (Some(1), 2),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_why_it_cannot_check() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let editor = file("editor.json", r#"{"nodes": [], "links": []}"#);
    let graph = file("graph.json", r#"{"1": {"class_type": "A", "inputs": {}}}"#);
    let url = relay.url();
    for (relay, arguments, code, why) in [
        (url.as_str(), vec![editor.as_str()], 1, "Export (API)"),
        (
            &url,
            vec!["/nowhere/graph.json"],
            1,
            "cannot read /nowhere/graph.json",
        ),
        (
            &url,
            vec!["graph.json"],
            1,
            "there is no file \"graph.json\"",
        ),
        (
            &url,
            vec![&graph, "--backend", "gpu7"],
            1,
            "there is no backend \"gpu7\"",
        ),
        (&url, vec![&graph, "--no-such-flag"], 64, "--no-such-flag"),
        (&url, vec![&graph, "-p", "seed"], 64, "NODE.INPUT=VALUE"),
        (UNREACHABLE, vec![&graph], 1, "does not respond"),
    ] {
        let (got, shown, error) = run(relay, &arguments).await;
        assert_eq!(
            (got, shown.as_str()),
            (Some(code), ""),
            "{arguments:?}: {error}"
        );
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
    // Of a server that does not answer, it is not known.
    let (code, shown, _) = run(&url, &[&graph]).await;
    assert_eq!(code, Some(1));
    assert!(
        shown.contains("not known") && shown.contains("does not answer"),
        "{shown}"
    );
}
