//! The node classes of the replay server.

use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};

use super::client::{ReplayClient, recording, replay};
use crate::support::recordings::TXT2IMG;

async fn get(name: &str, path: &str) -> Value {
    let server = replay(&[&recording(name)], PlaybackSpeed::Fastest, false).await;
    ReplayClient::of(&server).get(path).await
}

#[tokio::test]
async fn every_class_of_a_graph_is_known() {
    let classes = get(TXT2IMG, "/object_info").await;
    let recording = recording(TXT2IMG);
    let graph = &recording.prompts().next().unwrap().request_body["prompt"];
    for node in graph.as_object().unwrap().values() {
        let class = node["class_type"].as_str().unwrap();
        assert_eq!(classes[class]["name"], class);
        assert_eq!(classes[class]["output_node"], class == "SaveImage");
        for input in node["inputs"].as_object().unwrap().keys() {
            assert!(classes[class]["input"]["required"][input].is_array());
        }
    }
    let inputs = &classes["KSampler"]["input"]["required"];
    assert_eq!(inputs["steps"], json!(["INT"]));
    assert_eq!(inputs["sampler_name"], json!(["STRING"]));
    assert_eq!(inputs["model"], json!(["*"]));
    // As many outputs as graphs use.
    assert_eq!(
        classes["CheckpointLoaderSimple"]["output"],
        json!(["*", "*", "*"])
    );
    assert_eq!(classes["SaveImage"]["output"], json!([]));
    assert_eq!(get(TXT2IMG, "/api/object_info").await, classes);
}

#[tokio::test]
async fn one_class_is_asked_for_by_its_name() {
    let classes = get(TXT2IMG, "/object_info").await;
    let sampler = get(TXT2IMG, "/object_info/KSampler").await;
    assert_eq!(sampler, json!({"KSampler": classes["KSampler"]}));
    assert_eq!(get(TXT2IMG, "/object_info/LoadImage").await, json!({}));
}

/// The queue lists its node among the outputs that are executed.
#[tokio::test]
async fn a_class_of_an_extension_is_an_output_if_the_queue_lists_it() {
    for version in ["0.33.0", "0.8.0"] {
        let name = format!("{version}/12c-custom-ui-outputs");
        let classes = get(&name, "/object_info").await;
        assert_eq!(classes["ProbeUi"]["output_node"], true, "{name}");
        assert_eq!(classes["KSampler"]["output_node"], false, "{name}");
    }
}

#[tokio::test]
async fn servers_of_2023_have_the_same_route() {
    let classes = get("2023-08-14/01-txt2img-basic", "/object_info").await;
    assert_eq!(classes["SaveImage"]["output_node"], true);
    assert_eq!(classes["KSampler"]["output_node"], false);
}

/// The recorded server rejects every graph of this recording, and shows what it judges by.
#[tokio::test]
async fn of_the_classes_of_a_rejected_graph_that_is_known_which_the_rejection_shows() {
    let classes = get("0.33.0/08-validation-error", "/object_info").await;
    let loader = &classes["CheckpointLoaderSimple"];
    let files = [
        "tiny-sd15-b.safetensors",
        "tiny-sd15-fp16.safetensors",
        "tiny-sd15.safetensors",
    ];
    assert_eq!(
        loader["input"]["optional"]["ckpt_name"][0],
        json!(files),
        "{classes}"
    );
    assert_eq!(loader["python_module"], "nodes");
    let known: Vec<&String> = classes.as_object().unwrap().keys().collect();
    assert_eq!(known, ["CheckpointLoaderSimple", "KSampler", "VAEDecode"]);
}

/// Prompts of one recording leave inputs out that others set.
#[tokio::test]
async fn an_input_is_required_that_every_graph_sets() {
    let names = ["0.33.0/08-validation-error", TXT2IMG];
    let recordings = names.map(recording);
    let recordings: Vec<_> = recordings.iter().collect();
    let server = replay(&recordings, PlaybackSpeed::Fastest, false).await;
    let classes = ReplayClient::of(&server).get("/object_info").await;
    let loader = &classes["CheckpointLoaderSimple"]["input"]["required"];
    assert_eq!(
        loader["ckpt_name"][0].as_array().unwrap().len(),
        3,
        "{classes}"
    );
}
