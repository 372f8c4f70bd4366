//! `workflows import`: graphs in API format, in the editor's format, and in pictures; hostile ones, too.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{JOBS, relay_with};
use crate::support::program::Program;
use crate::support::scripted_comfy::ScriptedComfy;

/// What an import leaves behind: the exit code, the errors, the graph and the header.
struct Imported {
    code: Option<i32>,
    errors: String,
    graph: Value,
    header: Value,
}

/// Imports a file as `flow`, with a ComfyUI at an address.
async fn import(folder: &Path, file: &str, content: &[u8], comfyui: &str) -> Imported {
    let path = folder.join(file);
    std::fs::write(&path, content).unwrap();
    let target = folder.join("workflows");
    let arguments = [
        "workflows",
        "import",
        path.to_str().unwrap(),
        "--name",
        "flow",
        "--folder",
        target.to_str().unwrap(),
        "--comfyui-url",
        comfyui,
    ];
    let output = Program::run(&arguments, &[]).await;
    let read = |name: &str| {
        let text = std::fs::read(target.join(name)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    Imported {
        code: output.status.code(),
        errors: String::from_utf8(output.stderr).unwrap(),
        graph: read("flow.json"),
        header: read("flow.header.json"),
    }
}

/// A chunk of a PNG file.
fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length[..], kind, data, &[0; 4]].concat()
}

/// A PNG file with more chunks.
fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    let head = chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        head,
        chunks.concat(),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// What the server says of the classes that the editor's graph has.
fn classes() -> Value {
    json!({
        "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors"]]}}},
        "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {"multiline": true}], "clip": ["CLIP"]}}},
        "EmptyLatentImage": {"input": {"required": {"width": ["INT"], "height": ["INT"], "batch_size": ["INT"]}}},
        "KSampler": {"input": {"required": {
            "model": ["MODEL"], "seed": ["INT", {"control_after_generate": true}], "steps": ["INT"], "cfg": ["FLOAT"],
            "sampler_name": [["euler", "lcm"]], "scheduler": ["COMBO", {"options": ["normal", "karras"]}],
            "positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "latent_image": ["LATENT"],
            "denoise": ["FLOAT", {"default": 1.0}],
        }}},
        "LoraLoader": {"input": {"required": {"model": ["MODEL"], "clip": ["CLIP"], "lora_name": [["l.safetensors"]],
            "strength_model": ["FLOAT"], "strength_clip": ["FLOAT"]}}},
        "VAEDecode": {"input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}}},
        // Alphabetical in the answer; the editor goes by the order.
        "SaveImage": {"input": {"required": {"filename_prefix": ["STRING"], "images": ["IMAGE"]}},
            "input_order": {"required": ["images", "filename_prefix"]}, "output_node": true},
    })
}

/// A graph as the editor saves it: with a note, a muted and a bypassed node, a reroute, a primitive, and a widget made an input.
fn editor() -> Value {
    let input =
        |name: &str, kind: &str, link: Value| json!({"name": name, "type": kind, "link": link});
    json!({
        "version": 0.4,
        "nodes": [
            {"id": 1, "type": "CheckpointLoaderSimple", "widgets_values": ["a.safetensors"],
                "outputs": [{"type": "MODEL"}, {"type": "CLIP"}, {"type": "VAE"}]},
            {"id": 2, "type": "LoraLoader", "mode": 4, "widgets_values": ["l.safetensors", 1, 1],
                "inputs": [input("model", "MODEL", json!(1)), input("clip", "CLIP", json!(2))],
                "outputs": [{"type": "MODEL"}, {"type": "CLIP"}]},
            {"id": 3, "type": "Reroute", "inputs": [input("", "*", json!(3))], "outputs": [{"type": "CLIP"}]},
            {"id": 4, "type": "CLIPTextEncode", "title": "Positive", "widgets_values": ["a cat"],
                "inputs": [input("clip", "CLIP", json!(4))]},
            {"id": 5, "type": "CLIPTextEncode", "widgets_values": ["text"],
                "inputs": [input("clip", "CLIP", json!(5)), {"name": "text", "type": "STRING", "link": 13, "widget": {"name": "text"}}]},
            {"id": 6, "type": "EmptyLatentImage", "widgets_values": [512, 768, 1]},
            {"id": 7, "type": "KSampler", "widgets_values": [42, "randomize", 25, 6.5, "euler", "karras", 1],
                "inputs": [input("model", "MODEL", json!(6)), input("positive", "CONDITIONING", json!(7)),
                    input("negative", "CONDITIONING", json!(8)), input("latent_image", "LATENT", json!(9))]},
            {"id": 8, "type": "VAEDecode", "inputs": [input("samples", "LATENT", json!(10)), input("vae", "VAE", json!(11))]},
            {"id": 9, "type": "SaveImage", "widgets_values": ["cats"], "inputs": [input("images", "IMAGE", json!(12))]},
            {"id": 10, "type": "MarkdownNote", "widgets_values": ["# read me"]},
            {"id": 11, "type": "SaveImage", "mode": 2, "widgets_values": ["muted"], "inputs": [input("images", "IMAGE", json!(12))]},
            {"id": 12, "type": "PrimitiveNode", "widgets_values": ["bad"], "outputs": [{"type": "STRING"}]},
        ],
        "links": [
            [1, 1, 0, 2, 0, "MODEL"], [2, 1, 1, 2, 1, "CLIP"], [3, 2, 1, 3, 0, "CLIP"], [4, 3, 0, 4, 0, "CLIP"],
            [5, 2, 1, 5, 0, "CLIP"], [6, 2, 0, 7, 0, "MODEL"], [7, 4, 0, 7, 1, "CONDITIONING"], [8, 5, 0, 7, 2, "CONDITIONING"],
            [9, 6, 0, 7, 3, "LATENT"], [10, 7, 0, 8, 0, "LATENT"], [11, 1, 2, 8, 1, "VAE"],
            {"id": 12, "origin_id": 8, "origin_slot": 0, "target_id": 9, "target_slot": 0, "type": "IMAGE"},
            [13, 12, 0, 5, 1, "STRING"],
        ],
    })
}

/// That graph in API format.
fn converted() -> Value {
    let node = |class: &str, title: &str, inputs: Value| json!({"inputs": inputs, "class_type": class, "_meta": {"title": title}});
    json!({
        "1": node("CheckpointLoaderSimple", "CheckpointLoaderSimple", json!({"ckpt_name": "a.safetensors"})),
        "4": node("CLIPTextEncode", "Positive", json!({"text": "a cat", "clip": ["1", 1]})),
        "5": node("CLIPTextEncode", "CLIPTextEncode", json!({"text": "bad", "clip": ["1", 1]})),
        "6": node("EmptyLatentImage", "EmptyLatentImage", json!({"width": 512, "height": 768, "batch_size": 1})),
        "7": node("KSampler", "KSampler", json!({
            "model": ["1", 0], "seed": 42, "steps": 25, "cfg": 6.5, "sampler_name": "euler", "scheduler": "karras",
            "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0], "denoise": 1,
        })),
        "8": node("VAEDecode", "VAEDecode", json!({"samples": ["7", 0], "vae": ["1", 2]})),
        "9": node("SaveImage", "SaveImage", json!({"images": ["8", 0], "filename_prefix": "cats"})),
    })
}

async fn comfyui(classes: &Value) -> ScriptedComfy {
    let comfyui = ScriptedComfy::start().await;
    comfyui.answer("GET /object_info", 200, classes);
    comfyui
}

#[tokio::test(flavor = "multi_thread")]
async fn the_editors_format_is_converted_by_the_servers_node_classes() {
    let folder = tempfile::tempdir().unwrap();
    let comfyui = comfyui(&classes()).await;
    let imported = import(
        folder.path(),
        "flow.json",
        editor().to_string().as_bytes(),
        &comfyui.url(),
    )
    .await;
    assert_eq!(imported.code, Some(0), "{}", imported.errors);
    assert_eq!(imported.graph, converted());
    let parameters = imported.header["parameters"].as_array().unwrap();
    let names: Vec<&str> = parameters
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let wanted = [
        "prompt",
        "negative",
        "steps",
        "cfg",
        "sampler",
        "scheduler",
        "denoise",
        "width",
        "height",
        "images",
        "checkpoint",
        "seed",
    ];
    assert_eq!(names, wanted);
    // It can be submitted as it is.
    let (server, relay) = relay_with(&folder.path().join("workflows")).await;
    let body =
        json!({"workflow": "flow", "parameters": {"prompt": "a dog", "negative": "", "steps": 3}});
    let (status, answer) = relay.post(JOBS, &body).await;
    assert_eq!(status, 201, "{answer}");
    let prompt = &server.posted()["prompt"];
    assert_eq!(
        (
            &prompt["4"]["inputs"]["text"],
            &prompt["7"]["inputs"]["steps"]
        ),
        (&json!("a dog"), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_editors_format_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = editor().to_string();
    // No server answers.
    let imported = import(
        folder.path(),
        "flow.json",
        text.as_bytes(),
        "http://127.0.0.1:1",
    )
    .await;
    assert_eq!(imported.code, Some(1));
    for part in [
        "editor's format",
        "CheckpointLoaderSimple",
        "--comfyui-url",
        "Export (API)",
    ] {
        assert!(imported.errors.contains(part), "{}", imported.errors);
    }
    // A server without some of the classes, and with others than were saved: all of it.
    let mut others = classes();
    others.as_object_mut().unwrap().remove("VAEDecode");
    others["EmptyLatentImage"]["input"]["required"]["width"] = json!(["STRING"]);
    others["SaveImage"]["input"]["required"]["format"] = json!(["COMFY_DYNAMICCOMBO_V3", {}]);
    others["SaveImage"]["input_order"]["required"] = json!(["images", "filename_prefix", "format"]);
    let mut saved = editor();
    let subgraph =
        json!({"id": 20, "type": "9a1ef1b4-77cc-4d1a-a1ea-4d5ce9d1ae02", "title": "Upscale"});
    saved["nodes"].as_array_mut().unwrap().push(subgraph);
    let comfyui = comfyui(&others).await;
    let imported = import(
        folder.path(),
        "flow.json",
        saved.to_string().as_bytes(),
        &comfyui.url(),
    )
    .await;
    assert_eq!(imported.code, Some(1));
    for part in [
        "node 8: the ComfyUI server has no node class \"VAEDecode\"",
        "node 6: the input \"width\" of EmptyLatentImage does not take 512",
        "node 9: the input \"format\" of SaveImage depends on others",
        "node 20: \"Upscale\" is a subgraph",
    ] {
        assert!(
            imported.errors.contains(part),
            "{part}: {}",
            imported.errors
        );
    }
    assert_eq!(imported.graph, Value::Null, "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_gives_the_graph_that_ran() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = "http://127.0.0.1:1";
    let text =
        |keyword: &str, text: &Value| chunk(b"tEXt", format!("{keyword}\0{text}").as_bytes());
    let both = png(&[text("workflow", &editor()), text("prompt", &converted())]);
    let imported = import(folder.path(), "both.png", &both, nowhere).await;
    assert_eq!(imported.code, Some(0), "{}", imported.errors);
    assert_eq!(imported.graph, converted());
    // What there is stays, unless it is to be replaced; a header stays in any case.
    let again = import(folder.path(), "both.png", &both, nowhere).await;
    assert_eq!(again.code, Some(1));
    assert!(again.errors.contains("--replace"), "{}", again.errors);
    // Without the graph that ran, that of the editor.
    std::fs::remove_dir_all(folder.path().join("workflows")).unwrap();
    let comfyui = comfyui(&classes()).await;
    let only_editor = png(&[text("workflow", &editor())]);
    let imported = import(folder.path(), "editor.png", &only_editor, &comfyui.url()).await;
    assert_eq!(
        (imported.code, imported.graph),
        (Some(0), converted()),
        "{}",
        imported.errors
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_files_are_refused_for_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let whole = png(&[chunk(
        b"tEXt",
        format!("prompt\0{}", converted()).as_bytes(),
    )]);
    let packed = [b"prompt\0\0".to_vec(), vec![0; 100]].concat();
    let deep = "[".repeat(100_000);
    let circle = json!({"nodes": [
        {"id": 1, "type": "Reroute", "inputs": [{"name": "", "link": 1}]},
        {"id": 2, "type": "SaveImage", "widgets_values": ["a"], "inputs": [{"name": "images", "link": 1}]},
    ], "links": [[1, 1, 0, 1, 0, "*"]]});
    let comfyui = comfyui(&classes()).await;
    let mut many = Map::new();
    many.insert(
        "nodes".to_owned(),
        vec![json!({"id": 1, "type": "A"}); 10_001].into(),
    );
    let twice = json!({"nodes": [{"id": 1, "type": "A"}, {"id": 1, "type": "A"}]});
    let files: [(&str, Vec<u8>, &str); 13] = [
        ("no workflow", png(&[]), "holds no workflow"),
        (
            "cut",
            whole[..whole.len() - 60].to_vec(),
            "ends in the middle",
        ),
        (
            "long chunk",
            [
                b"\x89PNG\r\n\x1a\n".to_vec(),
                b"\xff\xff\xff\xfftEXtprompt\0{}".to_vec(),
            ]
            .concat(),
            "ends in the middle",
        ),
        ("zTXt", png(&[chunk(b"zTXt", &packed)]), "compressed"),
        (
            "iTXt",
            png(&[chunk(b"iTXt", b"prompt\0\x01\0\0\0abc")]),
            "compressed",
        ),
        ("not JSON", png(&[chunk(b"tEXt", b"prompt\0{")]), "not JSON"),
        (
            "a list",
            png(&[chunk(b"tEXt", b"prompt\0[]")]),
            "not in API format",
        ),
        ("deep", deep.into(), "not JSON"),
        ("binary", vec![0xff; 1_000], "not JSON"),
        ("empty", Vec::new(), "not JSON"),
        (
            "many nodes",
            Value::Object(many).to_string().into(),
            "expected 1 to 10000 nodes, found 10001",
        ),
        (
            "one id",
            twice.to_string().into(),
            "two nodes have the id 1",
        ),
        (
            "other types",
            json!({"nodes": [{"id": [], "type": 7}]}).to_string().into(),
            "no id or no type",
        ),
    ];
    for (name, content, why) in files {
        let imported = import(folder.path(), "file", &content, &comfyui.url()).await;
        assert_eq!(imported.code, Some(1), "{name}: {}", imported.errors);
        assert!(imported.errors.contains(why), "{name}: {}", imported.errors);
        assert_eq!(imported.graph, Value::Null, "{name}");
    }
    // Links in a circle bring nothing.
    let imported = import(
        folder.path(),
        "file",
        circle.to_string().as_bytes(),
        &comfyui.url(),
    )
    .await;
    assert_eq!(imported.code, Some(0), "{}", imported.errors);
    assert_eq!(
        imported.graph["2"]["inputs"],
        json!({"filename_prefix": "a"})
    );
    for name in ["../up", "a/b", ".hidden", "x.header", ""] {
        let arguments = ["workflows", "import", "file", "--name", name];
        let output = Program::run(&arguments, &[]).await;
        assert_eq!(output.status.code(), Some(64), "{name}: {output:?}");
    }
}
