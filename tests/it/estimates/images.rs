//! Jobs that load images: their sizes are fetched from ComfyUI.

use comfy_relay::config::StoreConfig;
use serde_json::{Value, json};

use super::server::{case, has_run, progress, relay_at, remaining, start, state};
use crate::support::scripted_comfy::{Reply, ScriptedComfy, view};
use crate::support::test_relay::TestRelay;

const PICTURE: &str = include_str!("cases/picture.json");

/// Image to image on a picture.
fn workflow(picture: &str) -> Value {
    let mut workflow = case(PICTURE);
    workflow["4"]["inputs"]["image"] = picture.into();
    workflow
}

/// A server on which a picture of 512 by 512 pixels took ten seconds.
async fn experienced() -> (ScriptedComfy, TestRelay) {
    let comfyui = ScriptedComfy::start().await;
    comfyui.set_image("small.png", 512, 512);
    has_run(&comfyui, &workflow("small.png"), &["8"], 10);
    let relay = relay_at(&comfyui, StoreConfig::default()).await;
    (comfyui, relay)
}

async fn run(comfyui: &ScriptedComfy, relay: &TestRelay, id: &str, picture: &str) {
    let workflow = workflow(picture);
    let prompt = prompt_of(id);
    comfyui.accept_prompts_as(&prompt);
    comfyui.run_prompt(&prompt, &workflow, &["8"]);
    relay.submit_workflow(id, &workflow).await;
    start(comfyui, &prompt);
}

/// A job id must not be a prompt id: a job that is not known is looked for as a prompt.
fn prompt_of(job: &str) -> String {
    format!("prompt-{job}")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_picture_under_one_graph_takes_the_time_of_its_size() {
    let (comfyui, relay) = experienced().await;
    comfyui.set_image("other.png", 512, 512);
    comfyui.set_image("large.png", 2048, 2048);
    for (id, picture, seconds) in [
        ("same", "small.png", 7..=11),
        ("equal", "other.png", 7..=11),
        ("large", "large.png", 60..=200),
    ] {
        let mut subscriber = relay.subscribe(id).await;
        run(&comfyui, &relay, id, picture).await;
        let is_right = |state: &Value| seconds.contains(&remaining(state));
        state(
            &mut subscriber,
            &format!("takes {seconds:?} seconds"),
            is_right,
        )
        .await;
        comfyui.set_queue(&[], &[]);
        comfyui.complete(&prompt_of(id));
        subscriber.ends_as("completed").await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_arrives_after_the_start_changes_the_estimate() {
    let (comfyui, relay) = experienced().await;
    comfyui.reply(&view("large.png"), Reply::Hang);
    let mut subscriber = relay.subscribe("large").await;
    run(&comfyui, &relay, "large", "large.png").await;
    progress(
        &comfyui,
        "prompt-large",
        &[("1", 1, 1, true), ("4", 1, 1, true), ("5", 0, 1, false)],
    );
    let before = state(&mut subscriber, "has an estimate", |state| {
        remaining(state) > 0 && state["nodes"]["done"] == 2
    });
    let before = before.await;
    assert!(remaining(&before) < 60, "{before}");
    comfyui.set_image("large.png", 2048, 2048);
    let after = state(&mut subscriber, "takes a minute", |state| {
        remaining(state) >= 60
    })
    .await;
    assert_eq!(after["nodes"], before["nodes"], "{after}");
    assert_eq!(after["node"], before["node"], "{after}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_arrives_late_reaches_the_prompts_that_wait() {
    let (comfyui, relay) = experienced().await;
    comfyui.reply(&view("large.png"), Reply::Hang);
    let (large, small) = (workflow("large.png"), workflow("small.png"));
    let pending = json!([
        [1, "theirs", large, {"client_id": "another"}, ["8"]],
        [2, "prompt-ours", small, {}, ["8"]],
    ]);
    let queue = json!({"queue_running": [], "queue_pending": pending});
    comfyui.answer("GET /queue", 200, &queue);
    comfyui.accept_prompts_as("prompt-ours");
    let mut subscriber = relay.subscribe("ours").await;
    relay.submit_workflow("ours", &small).await;
    let before = state(&mut subscriber, "has an estimate", |state| {
        remaining(state) > 0
    })
    .await;
    assert!(remaining(&before) < 60, "{before}");
    comfyui.set_image("large.png", 2048, 2048);
    state(&mut subscriber, "waits a minute", |state| {
        remaining(state) >= 60
    })
    .await;
    relay.stop().await;
}

/// A box of an MP4 file.
fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
    [&length, &kind[..], body].concat()
}

/// An MP4 file of 512 by 512 pixels that describes itself at its end, as ffmpeg writes it.
fn video(frames: u32) -> Vec<u8> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
    let sides = [words(&[0; 19]), words(&[512 << 16, 512 << 16])].concat();
    let times = atom(b"stts", &words(&[0, 1, frames, 1]));
    let handler = [&[0; 8][..], b"vide", &[0; 12]].concat();
    let media = [
        atom(b"mdhd", &words(&[0, 0, 0, 16, frames, 0])),
        atom(b"hdlr", &handler),
        atom(b"minf", &atom(b"stbl", &times)),
    ];
    let track = [atom(b"tkhd", &sides), atom(b"mdia", &media.concat())].concat();
    let description = atom(b"moov", &atom(b"trak", &track));
    [
        atom(b"ftyp", b"isom"),
        atom(b"mdat", &[7; 100_000]),
        description,
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_takes_the_time_of_the_frames_that_are_taken_of_it() {
    let (comfyui, relay) = experienced().await;
    comfyui.reply(&view("clip.mp4"), Reply::File(video(64)));
    for (id, most, seconds) in [("all", 0, 300..=1_200), ("eight", 8, 40..=160)] {
        let mut workflow = workflow("small.png");
        workflow["4"] = json!({"class_type": "VHS_LoadVideo", "inputs": {
            "video": "clip.mp4", "force_rate": 0, "custom_width": 0, "custom_height": 0,
            "frame_load_cap": most, "skip_first_frames": 0, "select_every_nth": 1}});
        let prompt = prompt_of(id);
        let mut subscriber = relay.subscribe(id).await;
        comfyui.accept_prompts_as(&prompt);
        comfyui.run_prompt(&prompt, &workflow, &["8"]);
        relay.submit_workflow(id, &workflow).await;
        start(&comfyui, &prompt);
        let what = format!("takes {seconds:?} seconds");
        state(&mut subscriber, &what, |state| {
            seconds.contains(&remaining(state))
        })
        .await;
        comfyui.set_queue(&[], &[]);
        comfyui.complete(&prompt);
        subscriber.ends_as("completed").await;
    }
    relay.stop().await;
}

/// Neither a submission nor an event waits for a server that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_without_the_sizes_of_its_images() {
    let (comfyui, relay) = experienced().await;
    for (id, reply) in [
        ("hangs", Reply::Hang),
        ("missing", Reply::Text(404, String::new())),
        ("broken", Reply::Text(200, "not an image".to_owned())),
        ("dropped", Reply::Disconnect),
    ] {
        let picture = format!("{id}.png");
        comfyui.reply(&view(&picture), reply);
        let mut subscriber = relay.subscribe(id).await;
        run(&comfyui, &relay, id, &picture).await;
        comfyui.wait_for_calls(&view(&picture), 1).await;
        state(&mut subscriber, "runs", |state| {
            state["status"] == "processing"
        })
        .await;
        comfyui.set_queue(&[], &[]);
        comfyui.complete(&prompt_of(id));
        subscriber.ends_as("completed").await;
    }
    relay.stop().await;
}
