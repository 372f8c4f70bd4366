//! Parameters are filled into inputs of every name, and into placeholders.

use serde_json::{Value, json};

use super::{JOBS, case, refusal, scripted};

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
