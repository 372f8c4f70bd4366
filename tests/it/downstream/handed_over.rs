//! What a submission passes on to ComfyUI beside the graph.

use std::fs;

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::recordings::{one_node_workflow, workflow};
use crate::support::scripted_comfy::{Reply, ScriptedComfy};
use crate::support::test_relay::{Settings, TestRelay};

const JOBS: &str = "/api/anime/jobs";

/// The key of the operator, and one that a client brings.
const KEYS: [&str; 2] = ["comfyui-operators-secret", "comfyui-clients-secret"];

/// A recording with two outputs, of which the first prompt asks for one.
const PARTIAL: &str = "0.33.0/32-partial-targets";

async fn scripted_with(settings: Settings) -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    let relay = TestRelay::connected_to(&comfyui.url(), settings).await;
    comfyui.accept_prompts_as("prompt");
    comfyui.set_queue(&["prompt"], &[]);
    (comfyui, relay)
}

/// A submission of one node with more fields.
fn submission(job: &str, more: &Value) -> Value {
    let mut body = json!({"job_id": job, "workflow": one_node_workflow()});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

/// What ComfyUI gets beside graph and ids.
async fn handed_over(comfyui: &ScriptedComfy, relay: &TestRelay, body: &Value) -> Value {
    let (status, answer) = relay.post(JOBS, body).await;
    assert_eq!(status, 201, "{answer}");
    let mut posted = comfyui.posted();
    let fields = posted.as_object_mut().unwrap();
    for own in ["prompt", "client_id", "prompt_id"] {
        assert!(fields.remove(own).is_some(), "{own}");
    }
    posted
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_submission_passes_on_goes_to_comfyui_as_it_is() {
    let (comfyui, relay) = scripted_with(Settings::default()).await;
    let extra_data = json!({"extra_pnginfo": {"workflow": {"nodes": []}}, "mine": [1, null]});
    let node = one_node_workflow();
    let id = node.as_object().unwrap().keys().next().unwrap().clone();
    for (number, (given, wanted)) in [
        (json!({}), json!({})),
        (
            json!({"extra_data": extra_data}),
            json!({"extra_data": extra_data}),
        ),
        (
            json!({"extra_data": {"mine": 1}, "preview_method": "taesd"}),
            json!({"extra_data": {"mine": 1, "preview_method": "taesd"}}),
        ),
        (
            json!({"extra_data": {"preview_method": "of a newer server"}}),
            json!({"extra_data": {"preview_method": "of a newer server"}}),
        ),
        (
            json!({"partial_execution_targets": [id]}),
            json!({"partial_execution_targets": [id]}),
        ),
        (json!({"front": true}), json!({"front": true})),
        (json!({"front": false, "number": -2.5}), json!({"number": -2.5})),
        (
            json!({"front": null, "number": null, "extra_data": null, "preview_method": null, "partial_execution_targets": null}),
            json!({}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        comfyui.accept_prompts_as(&format!("prompt-{number}"));
        let body = submission(&format!("job-{number}"), &given);
        assert_eq!(handed_over(&comfyui, &relay, &body).await, wanted, "{given}");
    }
    // The body of ComfyUI's own request.
    comfyui.accept_prompts_as("prompt-own");
    let own = json!({"prompt": node, "client_id": "c", "front": true, "extra_data": {"mine": 1}});
    let wanted = json!({"front": true, "extra_data": {"mine": 1}});
    assert_eq!(handed_over(&comfyui, &relay, &own).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_passed_on_is_refused_before_anything_is_sent() {
    let (comfyui, relay) = scripted_with(Settings::default()).await;
    for (given, code) in [
        (json!({"extra_data": KEYS[1]}), "bad_extra_data"),
        (json!({"extra_data": [KEYS[1]]}), "bad_extra_data"),
        (json!({"preview_method": "always"}), "bad_preview_method"),
        (json!({"preview_method": 1}), "bad_preview_method"),
        (
            json!({"preview_method": "auto", "extra_data": {"preview_method": "none"}}),
            "bad_preview_method",
        ),
        (json!({"partial_execution_targets": "1"}), "bad_target"),
        (json!({"partial_execution_targets": [1]}), "bad_target"),
        (json!({"partial_execution_targets": []}), "bad_target"),
        (json!({"partial_execution_targets": ["77"]}), "bad_target"),
        (json!({"front": 1}), "bad_front"),
        (json!({"number": "1"}), "bad_number"),
        (json!({"number": true}), "bad_number"),
        (json!({"number": 1, "front": true}), "bad_number"),
        (json!({"fronts": true}), "unknown_field"),
    ] {
        let (status, answer) = relay.post(JOBS, &submission("job", &given)).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(code)),
            "{given}: {answer}"
        );
        assert!(!answer.to_string().contains(KEYS[1]), "{answer}");
    }
    // A prompt that ComfyUI has already takes none of them.
    let (status, answer) = relay
        .post(JOBS, &json!({"prompt_id": "prompt", "front": true}))
        .await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_job")));
    assert_eq!(comfyui.calls("POST /prompt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_are_asked_for_where_somebody_waits_for_them() {
    let (comfyui, relay) = scripted_with(Settings::default()).await;
    let auto = json!({"extra_data": {"preview_method": "auto"}});

    let _plain = relay.connect("/ws/nobody").await;
    let body = submission("nobody", &json!({}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, json!({}));

    let _watcher = relay.connect("/ws/watched?previews=1").await;
    let body = submission("watched", &json!({}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, auto);

    let _decided = relay.connect("/ws/decided?previews=1").await;
    let body = submission("decided", &json!({"preview_method": "none"}));
    let none = json!({"extra_data": {"preview_method": "none"}});
    assert_eq!(handed_over(&comfyui, &relay, &body).await, none);

    // A socket that follows another job, too.
    let mut follower = relay.connect("/ws/other?previews=1").await;
    follower
        .send(r#"{"type": "subscribe", "job_id": "second"}"#)
        .await;
    follower.ping().await;
    let body = submission("second", &json!({}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, auto);

    // A stream of many jobs, which selects some that are still to come.
    let feed = relay.connect("/ws/jobs?group=act-1&previews=1").await;
    let body = submission("first", &json!({"group": "act-2"}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, json!({}));
    let body = submission("in-it", &json!({"group": "act-1"}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, auto);
    drop(feed);
}

/// What is handed in again is what was handed in before.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_handed_in_again_keeps_what_it_passes_on() {
    let mut settings = Settings::default();
    settings.comfy.submit_wait = std::time::Duration::from_millis(1);
    let (comfyui, relay) = scripted_with(settings).await;
    comfyui.set_queue(&[], &[]);
    comfyui.reply("POST /prompt", Reply::Hang);
    let given = json!({"extra_data": {"api_key_comfy_org": KEYS[1]}, "front": true});
    let (status, answer) = relay.post(JOBS, &submission("job", &given)).await;
    assert_eq!(status, 202, "{answer}");
    comfyui.reply("POST /prompt", Reply::Disconnect);
    comfyui.wait_for_calls("POST /prompt", 2).await;
    let posted = comfyui.posted();
    assert_eq!(posted["extra_data"], given["extra_data"]);
    assert_eq!(posted["front"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn partner_nodes_get_the_key_unless_the_submission_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, format!("{}\n", KEYS[0])).unwrap();
    let mut settings = Settings::default();
    settings.comfy.api_key_file = Some(file.clone());
    let (comfyui, relay) = scripted_with(settings).await;
    let key = |key: &str| json!({"extra_data": {"api_key_comfy_org": key}});

    let body = submission("plain", &json!({}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, key(KEYS[0]));
    let body = submission("own", &key(KEYS[1]));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, key(KEYS[1]));
    let token = json!({"extra_data": {"auth_token_comfy_org": KEYS[1]}});
    let body = submission("token", &token);
    assert_eq!(handed_over(&comfyui, &relay, &body).await, token);

    fs::write(&file, "renewed").unwrap();
    let body = submission("renewed", &json!({}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, key("renewed"));
    fs::remove_file(&file).unwrap();
    let body = submission("gone", &json!({}));
    assert_eq!(handed_over(&comfyui, &relay, &body).await, key("renewed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_submit_passes_its_flags_on() {
    let (comfyui, relay) = scripted_with(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workflow.json");
    fs::write(&file, one_node_workflow().to_string()).unwrap();
    let url = relay.url();
    let submit = async |flags: &[&str]| {
        let fixed = ["submit", file.to_str().unwrap(), "--relay", &url];
        Program::run(&[&fixed[..], flags].concat(), &[]).await
    };
    for (flags, wanted) in [
        (&["--front"][..], json!({"front": true})),
        (&["--number", "-3"], json!({"number": -3.0})),
        (
            &[
                "--preview-method",
                "auto",
                "--target",
                "9",
                "--extra-data",
                "mine=[1]",
                "--extra-data",
                "name=shot",
            ],
            json!({"partial_execution_targets": ["9"], "extra_data": {"mine": [1], "name": "shot", "preview_method": "auto"}}),
        ),
    ] {
        let output = submit(flags).await;
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        let posted = comfyui.posted();
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&posted[name], value, "{flags:?}");
        }
    }
    for flags in [&["--front", "--number", "1"][..], &["--target", "77"]] {
        let output = submit(flags).await;
        assert!(!output.status.success(), "{flags:?}");
    }
    assert_eq!(comfyui.calls("POST /prompt"), 3);
}

/// The plan holds the outputs that run, before the server's queue shows them.
#[tokio::test(flavor = "multi_thread")]
async fn the_plan_of_a_job_with_targets_holds_what_runs() {
    let relay = TestRelay::replaying(PARTIAL).await;
    let graph = workflow(PARTIAL).await;
    let mut subscriber = relay.subscribe("job").await;
    let body = json!({"job_id": "job", "workflow": graph, "partial_execution_targets": ["11"]});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{answer}");
    subscriber.ends_as("completed").await;
    let total = graph.as_object().unwrap().len();
    for state in &subscriber.states {
        if let Some(planned) = state["nodes"]["total"].as_u64() {
            assert!((planned as usize) < total, "{state}");
        }
    }
    let files = subscriber.last()["outputs"].as_array().unwrap();
    assert!(files.iter().all(|file| file["node"] == "11"), "{files:?}");
    // The server's queue and history have what was asked for.
    let prompt = answer["prompt_id"].as_str().unwrap();
    let (_, history) = relay.get_from_comfyui(&format!("/history/{prompt}")).await;
    assert_eq!(history[prompt]["prompt"][4], json!(["11"]), "{history}");
}

/// Neither the operator's key nor that of a client is in the database, in the log, or in an answer.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_partner_nodes_are_neither_stored_nor_logged_nor_shown() {
    // A server of an age that shows extra_data as it is in its queue and its history.
    const RECORDING: &str = "0.8.0/01-txt2img-basic";
    let folder = tempfile::tempdir().unwrap();
    let comfyui = Program::replay(RECORDING, "127.0.0.1:0");
    comfyui.ready().await;
    let url = format!("http://{}", comfyui.address());
    let database = folder.path().join("relay.db");
    let database_url = format!("sqlite:{}", database.display());
    let variables = [
        ("COMFY_API_KEY", KEYS[0]),
        ("COMFYUI_URL", &url),
        ("DATABASE_URL", &database_url),
        ("LOG", "trace"),
    ];
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    let graph = workflow(RECORDING).await;
    let mut answers = Vec::new();
    for (job, key) in [("own", Some(KEYS[1])), ("operators", None)] {
        let mut body = json!({"job_id": job, "workflow": graph});
        if let Some(key) = key {
            body["extra_data"] = json!({"api_key_comfy_org": key});
        }
        let (status, answer) = relay.post(JOBS, &body).await.unwrap();
        answers.push((status, answer));
        for path in ["", "/workflow", "/estimate", "/outputs"] {
            answers.extend(relay.get(&format!("{JOBS}/{job}{path}")).await);
        }
    }
    // Refused ones repeat what they hold least of all.
    for body in [
        json!({"workflow": graph, "extra_data": KEYS[1]}),
        json!({"workflow": graph, "extra_data": {"api_key_comfy_org": KEYS[1]}, "front": KEYS[0]}),
        json!({"workflow": "none", "extra_data": {"api_key_comfy_org": KEYS[1]}}),
    ] {
        answers.extend(relay.post(JOBS, &body).await);
    }
    for path in [JOBS, "/api/anime/health", "/api/anime/websocket/status"] {
        answers.extend(relay.get(path).await);
    }
    assert_eq!(answers[0].0, 201, "{:?}", answers[0]);
    let log = relay.kill().await;
    assert!(log.contains("TRACE") && log.contains("job registered"));
    let mut stored = Vec::new();
    for file in fs::read_dir(folder.path()).unwrap() {
        stored.extend(fs::read(file.unwrap().path()).unwrap());
    }
    let holds = |bytes: &[u8], text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds(&stored, "own"), "the job is in the database");
    for key in KEYS {
        assert!(!holds(&stored, key), "{key} is stored");
        assert!(!log.contains(key), "{key} is logged");
        for (_, answer) in &answers {
            assert!(!answer.to_string().contains(key), "{answer}");
        }
    }
}
