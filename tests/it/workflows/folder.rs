//! The folder of workflows: what it lists, what is wrong in it, and that a change counts at once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{JOBS, WORKFLOWS, header, relay, relay_with, steps, write};
use crate::support::program::Program;
use crate::support::wait::wait_until;

/// The workflows that the repository has.
const SHIPPED: [&str; 9] = [
    "animatediff",
    "hires-fix",
    "image-to-video",
    "img2img",
    "inpaint",
    "lora-stack",
    "txt2img",
    "txt2img-sdxl",
    "upscale",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_workflows_of_the_repository_have_headers_that_fit() {
    let (_comfyui, relay) = relay().await;
    let (status, answer) = relay.get(WORKFLOWS).await;
    assert_eq!(status, 200);
    assert_eq!(answer["broken"], json!([]));
    let workflows = answer["workflows"].as_array().unwrap();
    let names: Vec<&str> = workflows
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, SHIPPED);
    for workflow in workflows {
        assert_eq!(workflow["has_header"], true, "{workflow}");
        for field in ["title", "description"] {
            assert!(!workflow[field].as_str().unwrap().is_empty(), "{workflow}");
        }
        let parameters = workflow["schema"]["properties"].as_object().unwrap();
        for (name, schema) in parameters {
            assert!(schema["description"].is_string(), "{name}");
        }
    }
}

/// Every link leads to an output that its node has, as far as nodes with one output go, and something is saved.
#[tokio::test(flavor = "multi_thread")]
async fn the_graphs_of_the_repository_are_whole() {
    let outputs = |class: &str| match class {
        "CheckpointLoaderSimple" => 3,
        "LoadImage" | "LoraLoader" => 2,
        _ => 1,
    };
    let (_comfyui, relay) = relay().await;
    for name in SHIPPED {
        let (_, answer) = relay.get(&format!("{WORKFLOWS}/{name}")).await;
        let graph = answer["workflow"].as_object().unwrap();
        let mut linked = BTreeSet::new();
        for (id, node) in graph {
            for (input, value) in node["inputs"].as_object().unwrap() {
                let Some([from, output]) = value.as_array().map(Vec::as_slice) else {
                    continue;
                };
                let from = from.as_str().unwrap();
                let class = graph[from]["class_type"].as_str().unwrap();
                let count = outputs(class);
                assert!(
                    output.as_u64().unwrap() < count,
                    "{name}: {id}.{input} of {class}"
                );
                linked.insert(from);
            }
        }
        let ends = graph.iter().filter(|(id, _)| !linked.contains(id.as_str()));
        let ends: Vec<&str> = ends
            .map(|(_, node)| node["class_type"].as_str().unwrap())
            .collect();
        assert!(
            matches!(ends.as_slice(), ["SaveImage" | "SaveVideo"]),
            "{name}: {ends:?}"
        );
    }
}

/// The header of a graph, and everything that is found wrong with it.
#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_a_header_are_found_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let target = |node: &str, input: &str| json!([{"node": node, "input": input}]);
    let wrong = json!({
        "titel": "Draw",
        "description": 7,
        "parameters": [
            {"name": "Steps", "type": "integer", "targets": target("1", "steps")},
            {"name": "steps", "type": "int", "targets": target("1", "steps")},
            {"name": "cfg", "type": "number", "minimum": 9, "maximum": 1, "step": 0, "targets": target("1", "cfg")},
            {"name": "text", "type": "integer", "default": 1, "targets": target("1", "text")},
            {"name": "on", "type": "boolean", "default": "yes", "choices": [], "targets": target("1", "on")},
            {"name": "image", "type": "image", "required": true, "default": "a.png", "targets": target("9", "image")},
            {"name": "far", "type": "integer", "default": 70, "maximum": 50, "targets": target("1", "far")},
            {"name": "near", "type": "integer", "maximum": 5, "targets": target("1", "steps")},
            {"name": "near", "type": "string", "targets": []},
            {"name": "pick", "type": "choice", "choices": ["a", 1], "targets": target("1", "text")},
            7,
        ],
    });
    write(folder.path(), "wrong", &wrong);
    write(folder.path(), "right", &header(&steps()));
    let (comfyui, relay) = relay_with(folder.path()).await;
    let (_, answer) = relay.get(WORKFLOWS).await;
    assert_eq!(answer["workflows"][0]["name"], "right");
    let broken = &answer["broken"][0];
    assert_eq!(
        (&broken["name"], &broken["code"]),
        (&json!("wrong"), &json!("bad_header"))
    );
    let places: Vec<&str> = broken["header"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["place"].as_str().unwrap())
        .collect();
    let wanted = [
        "titel",
        "title",
        "description",
        "parameters[0].name",
        "parameters.steps.type",
        "parameters.cfg.step",
        "parameters.cfg.minimum",
        "parameters.cfg.default",
        "parameters.text.type",
        "parameters.on.choices",
        "parameters.on.default",
        "parameters.image.targets[0]",
        "parameters.image.required",
        "parameters.far.targets[0]",
        "parameters.far.default",
        "parameters.near.default",
        "parameters.near.name",
        "parameters.near.targets",
        "parameters.pick.choices",
        "parameters[10]",
    ];
    assert_eq!(places, wanted, "{broken:#}");
    // It is not submitted, and the others are.
    let (status, answer) = relay.post(JOBS, &json!({"workflow": "wrong"})).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (500, &json!("bad_header"))
    );
    assert_eq!(answer["error"]["details"]["header"], broken["header"]);
    let (status, answer) = relay.get(&format!("{WORKFLOWS}/wrong")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (500, &json!("bad_header"))
    );
    let (status, _) = relay.post(JOBS, &json!({"workflow": "right"})).await;
    assert_eq!((status, comfyui.calls("POST /prompt")), (201, 1));
    for (text, why) in [("{", "it is not JSON"), ("[]", "it is not an object")] {
        std::fs::write(folder.path().join("wrong.header.json"), text).unwrap();
        let (_, answer) = relay.get(WORKFLOWS).await;
        let message = answer["broken"][0]["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
}

/// The folder may be that into which ComfyUI saves its pictures: they can be submitted, and are not all read for a list.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_listed_if_they_have_a_header() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "draw", &header(&steps()));
    let graph = std::fs::read(folder.path().join("draw.json")).unwrap();
    for name in ["a.png", "b.png"] {
        let text = [&b"prompt\0"[..], &graph].concat();
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        let file = [&b"\x89PNG\r\n\x1a\n"[..], &length, b"tEXt", &text, &[0; 4]].concat();
        std::fs::write(folder.path().join(name), file).unwrap();
    }
    let path = folder.path().join("b.png.header.json");
    std::fs::write(path, header(&steps()).to_string()).unwrap();
    let (comfyui, relay) = relay_with(folder.path()).await;
    let (_, answer) = relay.get(WORKFLOWS).await;
    let names = answer["workflows"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(
        (names, &answer["broken"]),
        (vec!["b.png", "draw"], &json!([]))
    );
    for (body, status) in [
        (json!({"workflow": "a.png"}), 201),
        (
            json!({"workflow": "a.png", "parameters": {"steps": 3}}),
            400,
        ),
        (
            json!({"workflow": "b.png", "parameters": {"steps": 3}}),
            201,
        ),
    ] {
        let (found, answer) = relay.post(JOBS, &body).await;
        assert_eq!(found, status, "{body}: {answer}");
    }
    assert_eq!(comfyui.posted()["prompt"]["1"]["inputs"]["steps"], 3);
}

/// No restart, and no waiting: the files are read for each request.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_the_folder_counts_for_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let (comfyui, relay) = relay_with(folder.path()).await;
    let names = async || {
        let (_, answer) = relay.get(WORKFLOWS).await;
        let names = answer["workflows"].as_array().unwrap().clone();
        names
            .iter()
            .map(|it| it["name"].clone())
            .collect::<Vec<Value>>()
    };
    let submit = async |steps: u64| {
        let body = json!({"workflow": "draw", "parameters": {"steps": steps}});
        relay.post(JOBS, &body).await.0
    };
    assert_eq!((names().await.len(), submit(40).await), (0, 404));
    write(folder.path(), "draw", &header(&steps()));
    assert_eq!(
        (names().await, submit(40).await),
        (vec![json!("draw")], 201)
    );
    let mut narrow = steps();
    narrow["maximum"] = json!(30);
    write(folder.path(), "draw", &header(&narrow));
    assert_eq!((submit(40).await, submit(30).await), (400, 201));
    assert_eq!(comfyui.posted()["prompt"]["1"]["inputs"]["steps"], 30);
    std::fs::remove_file(folder.path().join("draw.header.json")).unwrap();
    assert_eq!((submit(30).await, names().await.len()), (400, 1));
    std::fs::remove_file(folder.path().join("draw.json")).unwrap();
    assert_eq!((submit(30).await, names().await.len()), (404, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_header_is_logged_once_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = steps();
    wrong["maximum"] = json!("many");
    write(folder.path(), "draw", &header(&wrong));
    let path = folder.path().to_str().unwrap();
    let relay = Program::start(&["--workflows", path], &[]);
    relay.ready().await;
    // At the start, before anybody asks.
    relay.logs("parameters.steps.maximum").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}{WORKFLOWS}", relay.address());
    let ask = async || client.get(&url).send().await.unwrap().text().await.unwrap();
    for _ in 0..3 {
        assert!(ask().await.contains("bad_header"));
    }
    assert_eq!(relay.log().matches("parameters.steps.maximum").count(), 1);
    wrong["maximum"] = json!(7);
    write(folder.path(), "draw", &header(&wrong));
    wait_until("the other mistake is logged", async || {
        ask().await;
        relay.log().contains("parameters.steps.default")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workflow_is_shown_with_its_graph() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a b", &header(&steps()));
    let (_comfyui, relay) = relay_with(folder.path()).await;
    let (status, answer) = relay.get(&format!("{WORKFLOWS}/a%20b")).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["name"], &answer["title"]),
        (&json!("a b"), &json!("Draw"))
    );
    assert_eq!(answer["workflow"]["1"]["class_type"], "Draw");
    for (name, status) in [("nobody", 404), ("a%20b.header", 400), ("..%2Fa", 400)] {
        let (found, answer) = relay.get(&format!("{WORKFLOWS}/{name}")).await;
        assert_eq!(found, status, "{answer}");
    }
}
