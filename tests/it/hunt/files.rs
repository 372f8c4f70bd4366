//! Workflow files as people have them.

use reqwest::Method;
use serde_json::{Value, json};

use super::{JOBS, refusal, scripted, scripted_with_workflows};
use crate::support::program::Program;
use crate::support::recordings::one_node_workflow;
use crate::support::test_relay::response;

const NAN: &str = include_str!("cases/nan.json");

/// A PNG file with the texts that ComfyUI writes into it.
fn png(texts: &[(&str, &str)]) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], kind, data, &[0; 4]].concat()
    };
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]));
    for (keyword, text) in texts {
        file.extend(chunk(b"tEXt", format!("{keyword}\0{text}").as_bytes()));
    }
    file.extend(chunk(b"IEND", &[]));
    file
}

fn utf_16(text: &str) -> Vec<u8> {
    let text = format!("\u{feff}{text}");
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_as_editors_and_programs_save_them() {
    let folder = tempfile::tempdir().unwrap();
    let (comfyui, relay) = scripted_with_workflows(folder.path()).await;
    let graph = one_node_workflow();
    let text = serde_json::to_string_pretty(&graph).unwrap();
    let picture = png(&[("workflow", "{}"), ("prompt", &graph.to_string())]);
    let files: [(&str, &str, Vec<u8>); 6] = [
        (
            "workflow_api (1)",
            "workflow_api (1).json",
            text.clone().into(),
        ),
        ("wan & ltx, v2", "wan & ltx, v2.json", text.clone().into()),
        ("bom", "bom.json", format!("\u{feff}{text}").into()),
        ("windows", "windows.json", text.replace('\n', "\r\n").into()),
        ("ComfyUI_00001_.png", "ComfyUI_00001_.png", picture.clone()),
        ("renamed", "renamed.json", picture),
    ];
    for (name, file, content) in files {
        let path = folder.path().join(file);
        std::fs::write(&path, content).unwrap();
        let (status, answer) = relay.post(JOBS, &json!({"workflow": name})).await;
        assert_eq!(status, 201, "{name}: {answer}");
        assert_eq!(comfyui.posted()["prompt"], graph, "{name}");
        let arguments = ["submit", path.to_str().unwrap(), "--relay", &relay.url()];
        let output = Program::run(&arguments, &[]).await;
        assert!(output.status.success(), "{name}: {output:?}");
    }
    // What is listed can be submitted.
    let (_, answer) = relay.post(JOBS, &json!({"workflow": "no such"})).await;
    let message = answer["error"]["message"].as_str().unwrap();
    for name in ["workflow_api (1)", "wan & ltx, v2", "ComfyUI_00001_.png"] {
        assert!(message.contains(name), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_are_named_for_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (_comfyui, relay) = scripted_with_workflows(folder.path()).await;
    let text = one_node_workflow().to_string();
    let files: [(&str, Vec<u8>, &str, &str); 4] = [
        ("windows", utf_16(&text), "bad_json", "UTF-16"),
        (
            "latin",
            b"{\"1\": \"\xe4\"}".to_vec(),
            "bad_json",
            "unicode",
        ),
        ("scan", png(&[]), "not_api_format", "PNG"),
        (
            "editor",
            png(&[("prompt", "{\"nodes\": []}")]),
            "editor_format",
            "Export (API)",
        ),
    ];
    for (name, content, code, word) in files {
        std::fs::write(folder.path().join(format!("{name}.json")), content).unwrap();
        let answer = relay.post(JOBS, &json!({"workflow": name})).await;
        let message = answer.1["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(refusal(answer), (400, code.to_owned()), "{name}: {message}");
        assert!(message.contains(word), "{name}: {message}");
    }
    // A name that no file can have is not the relay's fault.
    let answer = relay
        .post(JOBS, &json!({"workflow": "x".repeat(300)}))
        .await;
    assert_eq!(refusal(answer), (400, "bad_workflow_name".to_owned()));
}

/// As Python's `json` writes and reads it.
#[tokio::test(flavor = "multi_thread")]
async fn nan_and_infinity_in_a_workflow_are_read() {
    let (comfyui, relay) = scripted().await;
    for number in ["NaN", "Infinity", "-Infinity"] {
        let body = format!("{{\"workflow\": {}}}", NAN.replace("NaN", number));
        let request = relay.request(Method::POST, JOBS).body(body);
        let (status, answer) = response(request).await;
        assert_eq!(status, 201, "{number}: {answer}");
        let prompt = &comfyui.posted()["prompt"];
        assert_eq!(prompt["20"]["is_changed"], json!([null]));
    }
}

/// Nobody has reported this one: a request from PowerShell, which writes a byte order mark or UTF-16.
#[tokio::test(flavor = "multi_thread")]
async fn request_bodies_are_read_as_files_are() {
    let (_comfyui, relay) = scripted().await;
    let body = json!({"workflow": one_node_workflow()}).to_string();
    let request = relay
        .request(Method::POST, JOBS)
        .body(format!("\u{feff}{body}"));
    let (status, answer) = response(request).await;
    assert_eq!(status, 201, "{answer}");
    let request = relay.request(Method::POST, JOBS).body(utf_16(&body));
    let answer: (u16, Value) = response(request).await;
    let message = answer.1["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(refusal(answer), (400, "bad_json".to_owned()));
    assert!(message.contains("UTF-16"), "{message}");
}
