//! Parameters by the names of the header.

use serde_json::{Value, json};

use super::{BATCHES, JOBS, WORKFLOWS, relay, relay_with, write};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::TestRelay;

/// The graph of a job, as it was submitted.
async fn graph(relay: &TestRelay, job: &str) -> Value {
    let (status, mut answer) = relay.get(&format!("{JOBS}/{job}/workflow")).await;
    assert_eq!(status, 200, "{answer}");
    answer["workflow"].take()
}

/// The parameters of a refusal, each with its code.
fn refused(answer: &Value) -> Vec<(&str, &str)> {
    let problems = answer["error"]["details"]["parameters"].as_array();
    let problems = problems.unwrap_or_else(|| panic!("{answer}"));
    problems
        .iter()
        .map(|it| {
            (
                it["parameter"].as_str().unwrap(),
                it["code"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn named_parameters_set_the_inputs_of_their_targets() {
    let (comfyui, relay) = relay().await;
    let body = json!({
        "workflow": "hires-fix",
        "parameters": {"prompt": "a cat", "steps": 30, "cfg": 5, "seed": 7.0, "scale": 1.5},
        "params": {"9.filename_prefix": "cats"},
    });
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{answer}");
    let prompt = &comfyui.posted()["prompt"];
    let input = |node: &str, input: &str| prompt[node]["inputs"][input].clone();
    assert_eq!(input("6", "text"), "a cat");
    assert_eq!(input("3", "steps"), 30);
    // Both samplers.
    assert_eq!(
        (input("3", "cfg"), input("11", "cfg")),
        (json!(5), json!(5))
    );
    assert_eq!(
        (input("3", "seed"), input("11", "seed")),
        (json!(7), json!(7))
    );
    assert_eq!(input("10", "scale_by"), 1.5);
    assert_eq!(input("9", "filename_prefix"), "cats");
    // What is not given stays as the graph has it.
    assert_eq!(input("7", "text"), "text, watermark");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_not_given_is_another_one_each_time() {
    let (comfyui, relay) = relay().await;
    let mut seeds = Vec::new();
    for parameters in [json!({}), json!({"seed": "random"})] {
        let body = json!({"workflow": "txt2img", "parameters": parameters});
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{answer}");
        seeds.push(
            comfyui.posted()["prompt"]["3"]["inputs"]["seed"]
                .as_u64()
                .unwrap(),
        );
    }
    assert_ne!(seeds[0], seeds[1]);
    assert!(seeds.iter().all(|seed| *seed < 1 << 53), "{seeds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_names_everything_that_is_wrong_with_the_parameters() {
    let (comfyui, relay) = relay().await;
    let body = json!({
        "workflow": "img2img",
        "parameters": {
            "prompt": 7, "steps": 0, "denoise": 1.5, "sampler": "", "stpes": 20, "3.steps": 9, "seed": "now",
        },
        "params": {"99.text": "a", "3.model": "x"},
    });
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("bad_parameter"))
    );
    let wanted = [
        ("stpes", "unknown_parameter"),
        // An input of a node is no parameter with a name.
        ("3.steps", "unknown_parameter"),
        ("start", "missing_parameter"),
        ("prompt", "wrong_type"),
        ("denoise", "out_of_limits"),
        ("steps", "out_of_limits"),
        ("sampler", "out_of_limits"),
        ("seed", "wrong_type"),
        ("99.text", "unknown_parameter"),
        ("3.model", "linked_input"),
    ];
    assert_eq!(refused(&answer), wanted);
    let message = answer["error"]["message"].as_str().unwrap();
    for text in [
        "did you mean \"steps\"?",
        "0 is less than 1",
        "1.5 is more than 1",
        "it is required",
    ] {
        assert!(message.contains(text), "{message}");
    }
    // The same of a check, which submits nothing either.
    let (status, checked) = relay.post(&format!("{WORKFLOWS}/check"), &body).await;
    assert_eq!((status, refused(&checked)), (400, refused(&answer)));
    assert_eq!(comfyui.calls("POST /prompt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_without_a_header_has_no_parameters_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let graph = std::fs::read("comfy_workflows/txt2img.json").unwrap();
    std::fs::write(folder.path().join("plain.json"), graph).unwrap();
    let (comfyui, relay) = relay_with(folder.path()).await;
    let body =
        json!({"workflow": "plain", "parameters": {"prompt": "a"}, "params": {"3.steps": 3}});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(
        (status, refused(&answer)),
        (400, vec![("prompt", "unknown_parameter")])
    );
    let body = json!({"workflow": "plain", "params": {"3.steps": 3}});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{answer}");
    let inputs = &comfyui.posted()["prompt"]["3"]["inputs"];
    assert_eq!(
        (&inputs["steps"], &inputs["seed"]),
        (&json!(3), &json!(1_234_567))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_batch_take_named_parameters() {
    let (_comfyui, relay) = relay().await;
    let submitted = async |body: Value| {
        let (status, answer) = relay.post(BATCHES, &body).await;
        assert_eq!(status, 201, "{answer}");
        let mut inputs = Vec::new();
        for job in answer["jobs"].as_array().unwrap() {
            let mut graph = graph(&relay, job["job_id"].as_str().unwrap()).await;
            inputs.push(graph["3"]["inputs"].take());
        }
        inputs
    };
    let pick = |inputs: &[Value]| -> Vec<(u64, u64)> {
        let number = |it: &Value, name: &str| it[name].as_u64().unwrap();
        inputs
            .iter()
            .map(|it| (number(it, "seed"), number(it, "steps")))
            .collect()
    };
    let counted = json!({"workflow": "txt2img", "parameters": {"seed": 5, "steps": 8}, "count": 3});
    assert_eq!(pick(&submitted(counted).await), [(5, 8), (6, 8), (7, 8)]);
    let first = json!({"workflow": "txt2img", "parameters": {"steps": 8}, "count": 2, "seed": 40});
    assert_eq!(pick(&submitted(first).await), [(40, 8), (41, 8)]);
    // Drawn once, then they grow.
    let drawn = pick(&submitted(json!({"workflow": "txt2img", "count": 2})).await);
    assert_eq!(drawn[1].0, drawn[0].0 + 1);
    let listed = json!({
        "workflow": "txt2img",
        "parameters": {"seed": 5, "steps": 8},
        "params": [{"steps": 9}, {"3.seed": 6}],
    });
    assert_eq!(pick(&submitted(listed).await), [(5, 9), (6, 8)]);
    let wrong = json!({"workflow": "txt2img", "params": [{"steps": 9}, {"steps": 0, "cfg": 99}]});
    let (status, answer) = relay.post(BATCHES, &wrong).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("bad_batch"))
    );
    let problem = &answer["error"]["details"]["problems"][0];
    assert_eq!(
        (&problem["index"], &problem["code"]),
        (&json!(1), &json!("bad_parameter"))
    );
    let message = problem["message"].as_str().unwrap();
    assert!(
        message.contains("\"steps\"") && message.contains("\"cfg\""),
        "{message}"
    );
}

/// A header with a seed that has to be given, and whose limits are narrow.
fn seeded() -> Value {
    json!({"title": "Draw", "parameters": [
        {"name": "seed", "type": "integer", "required": true, "minimum": 10, "maximum": 20, "targets": [{"node": "Sampler", "input": "seed"}]},
        {"name": "text", "type": "string", "default": "a", "targets": [{"node": "1", "input": "text"}]},
        {"name": "other", "type": "string", "default": "b", "targets": [{"node": "1", "input": "text"}]},
    ]})
}

/// A relay with that workflow, as `draw`.
async fn draw() -> (ScriptedComfy, TestRelay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let graph = json!({"1": {
        "class_type": "Draw", "_meta": {"title": "Sampler"}, "inputs": {"seed": "%seed%", "text": "c"},
    }});
    std::fs::write(folder.path().join("draw.json"), graph.to_string()).unwrap();
    let header = folder.path().join("draw.header.json");
    std::fs::write(header, seeded().to_string()).unwrap();
    let (comfyui, relay) = relay_with(folder.path()).await;
    (comfyui, relay, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_of_a_batch_are_those_of_the_header() {
    let (_comfyui, relay, _folder) = draw().await;
    let seeds = async |body: Value| {
        let (status, answer) = relay.post(BATCHES, &body).await;
        assert_eq!(status, 201, "{answer}");
        let mut seeds = Vec::new();
        for job in answer["jobs"].as_array().unwrap() {
            let graph = graph(&relay, job["job_id"].as_str().unwrap()).await;
            seeds.push(graph["1"]["inputs"]["seed"].as_u64().unwrap());
        }
        seeds
    };
    let first = json!({"workflow": "draw", "count": 2, "seed": 19});
    assert_eq!(seeds(first).await, [19, 20]);
    // By the title of the node, and beyond the limits of the parameter, which is not used.
    let titled = json!({"workflow": "draw", "count": 2, "params": {"Sampler.seed": 30}});
    assert_eq!(seeds(titled).await, [30, 31]);
    // As many as there are numbers.
    let drawn = json!({"workflow": "draw", "count": 11, "parameters": {"seed": 10}});
    assert_eq!(seeds(drawn).await, (10..=20).collect::<Vec<_>>());
    for body in [
        json!({"workflow": "draw", "count": 2, "seed": 20}),
        json!({"workflow": "draw", "count": 2, "parameters": {"seed": 20}}),
        json!({"workflow": "draw", "count": 1, "seed": 9}),
    ] {
        let (status, answer) = relay.post(BATCHES, &body).await;
        assert_eq!(
            (status, refused(&answer)),
            (400, vec![("seed", "out_of_limits")])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_counts_before_defaults_and_inputs_before_both() {
    let (comfyui, relay, _folder) = draw().await;
    let text = async |parameters: Value, params: Value| {
        let body = json!({"workflow": "draw", "parameters": parameters, "params": params});
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{answer}");
        comfyui.posted()["prompt"]["1"]["inputs"]["text"].take()
    };
    // "other" comes later in the header, and has a default for the same input.
    assert_eq!(text(json!({"seed": 11, "text": "x"}), json!({})).await, "x");
    assert_eq!(text(json!({"seed": 11}), json!({})).await, "b");
    // The title stands for the id, and the seed that is required is set.
    let titled = json!({"Sampler.seed": 11, "Sampler.text": "y"});
    assert_eq!(text(json!({"text": "x"}), titled).await, "y");
    // What is wrong is named as it was given.
    let wrong = json!({"workflow": "draw", "params": {"Sampler.seed": 11, "Sampler.text": 5}});
    let (status, answer) = relay.post(JOBS, &wrong).await;
    assert_eq!(
        (status, refused(&answer)),
        (400, vec![("Sampler.text", "wrong_type")])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wrong_parameters_are_not_all_listed() {
    let (_comfyui, relay) = relay().await;
    let problems = async |field: &str, name: &str, count: usize| {
        let given = (0..count).map(|number| (format!("{name}{number}"), json!(1)));
        let given: serde_json::Map<_, _> = given.collect();
        let (status, answer) = relay
            .post(JOBS, &json!({"workflow": "txt2img", field: given}))
            .await;
        assert_eq!(status, 400, "{answer}");
        refused(&answer).len()
    };
    for (field, name) in [("parameters", "steps"), ("params", "99.steps")] {
        assert_eq!(problems(field, name, 99).await, 99);
        assert_eq!(problems(field, name, 1_000).await, 100);
        assert_eq!(problems(field, name, 1_001).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_jobs_of_a_batch_share_is_bounded() {
    let (_comfyui, relay) = relay().await;
    let parameters = json!({"prompt": "a".repeat(300_000)});
    let counted =
        |count: usize| json!({"workflow": "txt2img", "parameters": parameters, "count": count});
    let (status, answer) = relay.post(BATCHES, &counted(2)).await;
    assert_eq!(status, 201, "{answer}");
    let each: Vec<Value> = (0..1_000).map(|seed| json!({"seed": seed})).collect();
    let listed = json!({"workflow": "txt2img", "parameters": parameters, "params": each});
    for body in [counted(1_000), listed] {
        let (status, answer) = relay.post(BATCHES, &body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("bad_batch"))
        );
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("at most 8"), "{message}");
    }
}

/// One parameter stands in for another that is not given, and a required one for an input that is set by itself.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_without_a_default_leave_their_targets_alone() {
    let (comfyui, relay) = relay().await;
    let loras = async |parameters: Value, params: Value| {
        let body = json!({"workflow": "lora-stack", "parameters": parameters, "params": params});
        let (status, answer) = relay.post(JOBS, &body).await;
        assert_eq!(status, 201, "{answer}");
        let prompt = comfyui.posted()["prompt"].take();
        ["10", "11", "12"].map(|node| {
            prompt[node]["inputs"]["lora_name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
    };
    assert_eq!(
        loras(json!({"lora_1": "a"}), json!({})).await,
        ["a", "a", "a"]
    );
    assert_eq!(
        loras(json!({"lora_1": "a", "lora_3": "c"}), json!({})).await,
        ["a", "a", "c"]
    );
    let inputs = json!({"10.lora_name": "x", "11.lora_name": "y", "12.lora_name": "z"});
    assert_eq!(loras(json!({}), inputs).await, ["x", "y", "z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_of_numbers_and_switches_are_set() {
    let folder = tempfile::tempdir().unwrap();
    let target = |input: &str| json!([{"node": "1", "input": input}]);
    let header = json!({"title": "Draw", "parameters": [
        {"name": "cfg", "type": "choice", "choices": [1, 7.5, 9], "targets": target("cfg")},
        {"name": "on", "type": "boolean", "targets": target("on")},
        {"name": "text", "type": "string", "max_length": 3, "targets": target("text")},
    ]});
    write(folder.path(), "draw", &header);
    let (comfyui, relay) = relay_with(folder.path()).await;
    let submit = async |parameters: Value| {
        relay
            .post(JOBS, &json!({"workflow": "draw", "parameters": parameters}))
            .await
    };
    let (status, answer) = submit(json!({"cfg": 9.0, "on": false, "text": "äöü"})).await;
    assert_eq!(status, 201, "{answer}");
    let inputs = &comfyui.posted()["prompt"]["1"]["inputs"];
    assert_eq!(
        (&inputs["cfg"], &inputs["on"], &inputs["text"]),
        (&json!(9), &json!(false), &json!("äöü"))
    );
    let (_, answer) = submit(json!({"cfg": 2, "on": 1, "text": "four"})).await;
    let wanted = [
        ("cfg", "not_a_choice"),
        ("on", "wrong_type"),
        ("text", "out_of_limits"),
    ];
    assert_eq!(refused(&answer), wanted);
}
