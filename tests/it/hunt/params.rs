//! Parameters are filled into inputs of every name, and into placeholders.

use serde_json::{Value, json};

use super::{JOBS, case, refusal, scripted};
use crate::support::scripted_comfy::ScriptedComfy;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::wait::wait_until;

const DOTTED: &str = include_str!("cases/dotted-input.json");
const PLACEHOLDERS: &str = include_str!("cases/placeholders.json");
const NULL: &str = include_str!("cases/placeholder-null.json");

/// What ComfyUI gets for a request.
async fn posted(body: &Value) -> Value {
    let (comfyui, relay) = scripted().await;
    let (status, answer) = relay.post(JOBS, body).await;
    assert_eq!(status, 201, "{answer}");
    comfyui.posted()["prompt"].take()
}

/// The inputs of dynamic combos have such names.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_with_dots_in_their_names_are_set() {
    let prompt = posted(&case(DOTTED)).await;
    assert_eq!(prompt["11"]["inputs"]["resize_type.width"], 768);
    // By the node's title, and where the title has dots, too.
    let mut body = case(DOTTED);
    body["workflow"]["11"]["_meta"] = json!({"title": "Fit v1.5"});
    body["params"] = json!({"Fit v1.5.resize_type.width": 640});
    let prompt = posted(&body).await;
    assert_eq!(prompt["11"]["inputs"]["resize_type.width"], 640);
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholders_take_values_of_other_kinds() {
    let prompt = posted(&case(PLACEHOLDERS)).await;
    let inputs = &prompt["3"]["inputs"];
    assert_eq!((&inputs["seed"], &inputs["steps"]), (&json!(7), &json!(4)));
    let prompt = posted(&case(NULL)).await;
    assert_eq!(prompt["3"]["inputs"]["image"], "a.png");
}

/// Nobody has reported these: other marks of placeholders, and a text that only contains one.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_whole_text_is_a_placeholder() {
    let body = |seed: &str| {
        let sampler = json!({"class_type": "KSampler", "inputs": {"seed": seed}});
        json!({"workflow": {"3": sampler}, "params": {"3.seed": 7}})
    };
    for seed in ["{{seed}}", "${seed}", " %seed% "] {
        assert_eq!(
            posted(&body(seed)).await["3"]["inputs"]["seed"],
            7,
            "{seed}"
        );
    }
    let (_comfyui, relay) = scripted().await;
    for text in ["100%", "%", "%%", "50% to 60%", "%a% and %b%", "{}"] {
        let answer = relay.post(JOBS, &body(text)).await;
        assert_eq!(refusal(answer), (400, "bad_parameter".to_owned()), "{text}");
    }
}

/// A placeholder takes what the class of its node takes, where the server says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_takes_the_kind_of_value_that_its_node_takes() {
    let comfyui = ScriptedComfy::start().await;
    let sampler = json!({"input": {
        "required": {"seed": ["INT", {}], "cfg": ["FLOAT"], "sampler_name": [["euler", "lcm"]]},
        "optional": {"note": ["STRING"], "tiled": ["BOOLEAN"]},
    }});
    let classes = json!({"KSampler": sampler, "SaveImage": {"output_node": true}});
    comfyui.answer("GET /object_info", 200, &classes);
    comfyui.accept_prompts_as("prompt");
    let relay = TestRelay::connected_to(&comfyui.url(), Settings::default()).await;
    let body = |input: &str, value: Value| {
        let sampler = json!({"class_type": "KSampler", "inputs": {input: "%it%"}});
        let graph = json!({"3": sampler, "9": {"class_type": "SaveImage", "inputs": {}}});
        json!({"workflow": graph, "params": {format!("3.{input}"): value}})
    };
    wait_until("the classes are known", async || {
        let (status, _) = relay.post(JOBS, &body("seed", json!("7"))).await;
        status == 400
    })
    .await;
    for (input, value, wanted) in [
        ("seed", json!(7.5), "a whole number"),
        ("cfg", json!("8"), "a number"),
        ("note", json!(3), "a text"),
        ("tiled", json!("yes"), "true or false"),
    ] {
        let (status, answer) = relay.post(JOBS, &body(input, value)).await;
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("expected {wanted}")), "{message}");
    }
    for (input, value) in [
        ("seed", json!(7)),
        ("cfg", json!(8)),
        ("note", json!("a")),
        ("tiled", json!(true)),
        // Not known: any.
        ("sampler_name", json!("lcm")),
        ("other", json!(1)),
    ] {
        let (status, answer) = relay.post(JOBS, &body(input, value)).await;
        assert_eq!(status, 201, "{answer}");
    }
}
