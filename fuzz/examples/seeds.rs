//! Writes the seeds that fuzzing begins with, made from the recordings.
//!
//! In the root of the repository: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`. It replaces
//! the files `corpus/TARGET/seed-*`, and keeps those that fuzzing has found.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use comfy_relay::recording::{FrameKind, Recording};
use comfy_relay_fuzz::client::{
    DEFLATES, IS_BUILT, IS_DEFLATED, IS_FINAL, IS_LONG, IS_SLOW, RSV1, deflate, frame,
};
use comfy_relay_fuzz::{PART, STEP};
use serde_json::{Value, json};

/// The longest seed, in bytes: fuzzing runs short ones more often.
const MAX_SEED: usize = 6_000;

/// How many messages of one kind are taken from the beginning and from the end of a recording.
const MAX_OF_A_KIND: usize = 2;

/// How many bytes of an image are taken.
const MAX_IMAGE: usize = 48;

/// How many recordings of the newest server are taken, and how many of each older one.
const RECORDINGS: (usize, usize) = (30, 3);

/// Messages of clients, valid and invalid.
const CLIENT_MESSAGES: [&str; 18] = [
    r#"{"type":"ping"}"#,
    r#"{"type":"pong"}"#,
    r#"{"type":"subscribe","job_id":"shot-12"}"#,
    r#"{"type":"unsubscribe","job_id":"shot-12"}"#,
    r#"{"type":"cancel"}"#,
    r#"{"type":"cancel","job_id":null}"#,
    r#"{"type":"cancel","job_id":"617c4f05-aadd-4e7d-844d-ddafb1bf35ae"}"#,
    r#"{"job_id":"a.b_c:d-1","type":"subscribe","more":[1,2.5e3,{"x":null}]}"#,
    r#"{"type":"subscribe","job_id":"monitor"}"#,
    r#"{"type":"subscribe","job_id":"j\u00f6b"}"#,
    r#"{"type":"subscribe","job_id":7}"#,
    r#"{"type":"subscribe"}"#,
    r#"{"type":"progress"}"#,
    r#"["ping"]"#,
    r#"["cancel",{"job_id":"shot-12"}]"#,
    r#""ping""#,
    "null",
    "this is no json",
];

fn main() -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recordings = recordings(&fuzz.join("../fixtures"))?;
    let messages: Vec<String> = messages(&recordings);
    write(fuzz, "client_frames", client_frames(&messages))?;
    write(
        fuzz,
        "client_messages",
        messages.into_iter().map(String::into_bytes).collect(),
    )?;
    write(fuzz, "job_ids", job_ids(&recordings))?;
    write(
        fuzz,
        "upstream_frames",
        recordings.iter().filter_map(upstream).collect(),
    )?;
    write(fuzz, "workflows", workflows(&recordings))
}

/// The first recordings of each server, in the order of their names.
fn recordings(fixtures: &Path) -> io::Result<Vec<Recording>> {
    let servers = folders(fixtures)?;
    let newest = fixtures.join("0.8.0");
    let mut recordings = Vec::new();
    for server in servers {
        let count = if server == newest {
            RECORDINGS.0
        } else {
            RECORDINGS.1
        };
        for folder in folders(&server)?.into_iter().take(count) {
            recordings.push(Recording::read(&folder).map_err(io::Error::other)?);
        }
    }
    Ok(recordings)
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(of)?.collect::<io::Result<Vec<_>>>()?;
    let mut folders: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    folders.retain(|path| path.is_dir());
    folders.sort_unstable();
    Ok(folders)
}

fn write(fuzz: &Path, target: &str, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    let folder = fuzz.join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("seed-")) {
            fs::remove_file(path)?;
        }
    }
    let (mut count, mut bytes) = (0, 0);
    for (index, seed) in seeds.iter().enumerate() {
        if seed.len() <= MAX_SEED && !seeds[..index].contains(seed) {
            fs::write(folder.join(format!("seed-{count:02}")), seed)?;
            count += 1;
            bytes += seed.len();
        }
    }
    println!("{target}: {count} seeds, {bytes} bytes");
    Ok(())
}

/// Messages to the relay, and those that recorded clients sent to ComfyUI.
fn messages(recordings: &[Recording]) -> Vec<String> {
    let mut messages: Vec<String> = CLIENT_MESSAGES.map(str::to_owned).into();
    for frame in recordings.iter().flat_map(|recording| &recording.frames) {
        if let FrameKind::Sent(sent) = &frame.kind {
            messages.push(sent.to_string());
        }
    }
    messages
}

/// A case of `client_frames`: 7 bytes arrive with the handshake.
fn client_case(flags: u8, rest: &[u8]) -> Vec<u8> {
    [&[flags, 7, 0, 1, 30, 255], rest].concat()
}

/// Frames to build: head and payload.
fn built(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let frames = frames
        .iter()
        .map(|&(head, payload)| [&[head, payload.len() as u8], payload].concat());
    frames.collect::<Vec<_>>().concat()
}

/// Frames as they are sent.
fn sent(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (head, payload) in frames {
        frame(*head, payload, &mut bytes);
    }
    bytes
}

fn client_frames(messages: &[String]) -> Vec<Vec<u8>> {
    const TEXT: u8 = 1;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;
    let mut seeds = Vec::new();
    for text in messages.iter().take(CLIENT_MESSAGES.len()) {
        let text = text.as_bytes();
        seeds.push(client_case(0, &sent(&[(TEXT | IS_FINAL, text)])));
        let deflated = deflate(text);
        seeds.push(client_case(
            DEFLATES,
            &sent(&[(TEXT | IS_FINAL | RSV1, &deflated)]),
        ));
    }
    let compressed = TEXT | IS_FINAL | RSV1 | IS_DEFLATED;
    let talk: &[(u8, &[u8])] = &[
        (TEXT | IS_FINAL, b"plain"),
        (compressed, b"compressed, compressed"),
        (PING | IS_FINAL, b"are you there?"),
        (PONG | IS_FINAL, b""),
        (compressed, b"once more"),
        (CLOSE | IS_FINAL, b"\x03\xe8bye"),
    ];
    let deflated = deflate(b"to be or not to be, to be");
    let (begin, end) = deflated.split_at(9);
    let fragments: &[(u8, &[u8])] = &[
        (TEXT | RSV1, begin),
        (PING | IS_FINAL, b""),
        (IS_FINAL, end),
        (TEXT, b"in "),
        (0, b""),
        (IS_FINAL, b"pieces"),
    ];
    let long: &[(u8, &[u8])] = &[
        (TEXT | IS_FINAL | IS_LONG, b"0123456789"),
        (compressed | IS_LONG, b"0123456789"),
        (compressed | IS_LONG, &[b'x'; 65]),
        (compressed | IS_LONG, &[b'x'; 70]),
    ];
    let wrong: &[(u8, &[u8])] = &[(TEXT | IS_FINAL, b"fine"), (TEXT | IS_FINAL, b"\xff\xfe")];
    for flags in [0, DEFLATES, DEFLATES | IS_SLOW] {
        for frames in [talk, fragments, long, wrong] {
            seeds.push(client_case(flags | IS_BUILT, &built(frames)));
        }
        seeds.push(client_case(flags, &sent(fragments)));
        seeds.push(client_case(
            flags,
            &sent(&[(PING | IS_FINAL, &[b'p'; 126])]),
        ));
        seeds.push(client_case(
            flags,
            &sent(&[(3 | IS_FINAL, b""), (TEXT, b"")]),
        ));
    }
    seeds
}

fn job_ids(recordings: &[Recording]) -> Vec<Vec<u8>> {
    let mut ids: Vec<String> = [
        "shot-12", "a.b_c:d", "monitor", "Monitor", "", "j\u{f6}b", "a/b", "../a",
    ]
    .map(str::to_owned)
    .into();
    ids.extend([127, 128, 129].map(|length| "x".repeat(length)));
    for recording in recordings.iter().take(12) {
        ids.extend(recording.meta.prompt_ids.iter().take(1).cloned());
    }
    ids.into_iter().map(String::into_bytes).collect()
}

/// A recording's first prompt, with few messages of each kind.
fn upstream(recording: &Recording) -> Option<Vec<u8>> {
    let prompt = recording.prompts().next()?;
    let mut steps = vec![
        format!("g{}", prompt.request_body).into_bytes(),
        b"q1".to_vec(),
    ];
    let messages: Vec<(f64, Vec<u8>, String)> = recording
        .frames
        .iter()
        .filter(|frame| frame.socket == "main")
        .filter_map(|frame| match &frame.kind {
            FrameKind::Text(text) => {
                let value: Value = serde_json::from_str(text).ok()?;
                Some((
                    frame.t,
                    text.clone().into_bytes(),
                    value["type"].to_string(),
                ))
            }
            FrameKind::Binary(bytes) => {
                let image = &bytes[..bytes.len().min(MAX_IMAGE)];
                let line = image.iter().copied().filter(|&byte| byte != STEP).collect();
                Some((frame.t, line, "binary".to_owned()))
            }
            _ => None,
        })
        .collect();
    let mut left: HashMap<&str, usize> = HashMap::new();
    for (_, _, kind) in &messages {
        *left.entry(kind).or_default() += 1;
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut before = 0.0;
    for (at, line, kind) in &messages {
        let (seen, left) = (seen.entry(kind).or_default(), left.entry(kind).or_default());
        if *seen < MAX_OF_A_KIND || *left <= MAX_OF_A_KIND {
            steps.push(format!("+{:.0}", (at - before) * 1_000.0).into_bytes());
            steps.push(line.clone());
            before = *at;
        }
        *seen += 1;
        *left -= 1;
    }
    let asked = recording.exchanges.iter().rev().find_map(|exchange| {
        let id = exchange.history_id()?;
        let entry = exchange.response.get(&id)?;
        Some(json!({"outputs": entry["outputs"], "status": entry["status"]}))
    });
    match asked {
        Some(entry) => steps.push(format!("h{entry}").into_bytes()),
        None => steps.push(b"f".to_vec()),
    }
    Some(steps.join(&STEP))
}

fn workflows(recordings: &[Recording]) -> Vec<Vec<u8>> {
    let case = |file: &Value, params: Value, outputs: Value| {
        let parts = [file, &params, &outputs].map(|part| part.to_string().into_bytes());
        parts.join(&PART)
    };
    let params = [
        json!({"3.seed": 7, "KSampler.steps": 20}),
        json!({"4.ckpt_name": "a.safetensors"}),
        json!({"3.model": "x"}),
        json!({"seed": 1}),
        json!({}),
    ];
    let mut seeds = Vec::new();
    let graphs = recordings
        .iter()
        .filter_map(|recording| recording.prompts().next());
    for (prompt, params) in graphs.zip(params.iter().cycle()) {
        let graph = &prompt.request_body["prompt"];
        seeds.push(case(graph, params.clone(), json!(["9"])));
    }
    let small = json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 1024, "batch_size": 2}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "latent_image": ["2", 0], "steps": 20,
            "start_at_step": 5, "end_at_step": 10_000, "sampler_name": "heun", "cfg": 1.0, "seed": 1},
            "_meta": {"title": "Sampler"}},
        "4": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 2.0}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}}
    });
    let circle = json!({
        "1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
        "2": {"class_type": "B", "inputs": {"x": ["1", 0], "y": "z"}, "_meta": {"title": "A.B"}}
    });
    let editor = json!({"nodes": [], "links": [], "version": 0.4});
    seeds.push(case(
        &small,
        json!({"Sampler.seed": 2, "3.steps": 30}),
        json!(["5"]),
    ));
    seeds.push(case(&circle, json!({"A.B.y": "w"}), json!(null)));
    seeds.push(case(&editor, json!({}), json!([])));
    seeds.push(case(
        &json!({"prompt": small, "client_id": "c"}),
        json!({"3.cfg": "x"}),
        json!([]),
    ));
    seeds.push(b"[1, 2".to_vec());
    seeds
}
