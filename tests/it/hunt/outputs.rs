//! `output_path` is what people made the job for, the same in each run.

use serde_json::{Value, json};

use super::scripted;
use crate::support::recordings::one_node_workflow;

const OUTPUTS: &str = include_str!("cases/holds-17-outputs/outputs.json");

/// The last state of a job whose history has these outputs, in this order.
async fn ended_with(graph: &Value, outputs: &Value) -> Value {
    let (comfyui, relay) = scripted().await;
    let mut subscriber = relay.subscribe("mine").await;
    relay.submit_workflow("mine", graph).await;
    for (node, output) in outputs.as_object().unwrap() {
        let data = json!({"prompt_id": "prompt", "node": node, "output": output});
        comfyui.send(&json!({"type": "executed", "data": data}));
    }
    let entry = json!({"outputs": outputs, "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    comfyui.answer("GET /history/prompt", 200, &json!({"prompt": entry}));
    comfyui.set_queue(&[], &[]);
    subscriber.ends_as("completed").await;
    subscriber.last().clone()
}

/// Results are found in every list, previews are none, and no folder of the server is shown.
#[tokio::test(flavor = "multi_thread")]
async fn results_are_told_from_previews() {
    // As ComfyUI writes it, with NaN.
    let outputs: Value = serde_json::from_str(&OUTPUTS.replace("NaN", "null")).unwrap();
    for (name, path) in [
        ("5890 rgthree comparer first", json!("ST_00001_.png")),
        ("5815 preview+save", json!("real.png")),
        ("only preview temp", Value::Null),
        ("vhs temp", Value::Null),
        ("vhs output", json!("vid/AnimateDiff_00001-audio.mp4")),
        ("savevideo core", json!("video/ComfyUI_00001_.mp4")),
    ] {
        let state = ended_with(&one_node_workflow(), &outputs[name]).await;
        assert_eq!(state["output_path"], path, "{name}: {state}");
        assert!(!state.to_string().contains("/home/"), "{state}");
    }
}

fn file(name: &str) -> Value {
    json!({"filename": name, "subfolder": "", "type": "output"})
}

/// A graph of three outputs, in the order of their ids.
fn three_outputs() -> Value {
    json!({
        "2": {"class_type": "SaveText", "inputs": {}},
        "5": {"class_type": "SaveAudio", "inputs": {}},
        "10": {"class_type": "SaveImage", "inputs": {}},
        "12": {"class_type": "SaveVideo", "inputs": {}},
    })
}

/// Whichever node is the fastest.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_picture_or_video_of_the_graph_is_the_output_path() {
    let (text, audio) = (
        json!({"text": [file("a.txt")]}),
        json!({"audio": [file("a.flac")]}),
    );
    let (picture, video) = (
        json!({"images": [file("a.png")]}),
        json!({"images": [file("a.mp4")]}),
    );
    for (outputs, path) in [
        (
            json!({"2": text, "5": audio, "12": video, "10": picture}),
            "a.png",
        ),
        (
            json!({"12": video, "10": picture, "5": audio, "2": text}),
            "a.png",
        ),
        (json!({"2": text, "12": video}), "a.mp4"),
        (json!({"2": text, "5": audio}), "a.flac"),
        (json!({"2": text}), "a.txt"),
    ] {
        let state = ended_with(&three_outputs(), &outputs).await;
        assert_eq!(state["output_path"], path, "{outputs}");
    }
}

/// Nobody has reported this one: files without a known kind, and a preview of the first node.
#[tokio::test(flavor = "multi_thread")]
async fn other_files_come_last_and_previews_never() {
    let preview = json!({"filename": "p.png", "subfolder": "", "type": "temp"});
    let outputs = json!({"2": {"3d": [file("a.glb")]}, "5": {"audio": [file("a.wav")]}, "10": {"images": [preview]}});
    let state = ended_with(&three_outputs(), &outputs).await;
    assert_eq!(state["output_path"], "a.wav");
    let outputs = json!({"2": {"3d": [file("a.glb")]}, "10": {"images": [preview]}});
    assert_eq!(
        ended_with(&three_outputs(), &outputs).await["output_path"],
        "a.glb"
    );
}

/// A minute at 24 frames a second.
#[tokio::test(flavor = "multi_thread")]
async fn every_file_is_listed_of_a_job_that_makes_many() {
    let frame = |number| json!({"filename": format!("frame_{number:05}_.png"), "subfolder": "frames", "type": "output"});
    let frames: Vec<Value> = (0..1_440).map(frame).collect();
    let state = ended_with(&one_node_workflow(), &json!({"9": {"images": frames}})).await;
    assert_eq!(state["outputs"].as_array().unwrap().len(), 1_440);
    assert_eq!(state["outputs_total"], 1_440);
    assert_eq!(state["output_path"], "frames/frame_00000_.png");
    assert_eq!(state["outputs"][1_439]["filename"], "frame_01439_.png");
}
