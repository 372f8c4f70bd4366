//! Who hears what on which socket.

use comfy_relay::replay::PlaybackSpeed;
use futures_util::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::caller::{Caller, ME, Sound, ends, is, recording, replay, types};

#[tokio::test]
async fn flags_are_answered_and_previews_tell_their_prompt() {
    let recording = recording("0.8.0/02-previews-metadata");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
    ear.socket
        .send(Message::text(flags.to_string()))
        .await
        .unwrap();
    ear.until("the server's flags", |sound| is(sound, "feature_flags"))
        .await;
    let id = caller.submit(&recording, 0, Some(ME)).await;
    let heard = ear.end_of(&id).await;
    let previews = heard.iter().filter_map(|sound| match sound {
        Sound::Binary(bytes) => Some(String::from_utf8_lossy(&bytes[8..200]).into_owned()),
        _ => None,
    });
    let previews: Vec<String> = previews.collect();
    assert!(!previews.is_empty() && previews.iter().all(|preview| preview.contains(&id)));
}

#[tokio::test]
async fn an_observer_hears_a_prompt_without_client() {
    let recording = recording("0.8.0/13-no-client-id");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(Some(ME)).await;
    ear.greeting().await;
    let id = caller.submit(&recording, 0, None).await;
    assert_eq!(caller.result(&id).await["prompt"][3].get("client_id"), None);
    let heard = ear
        .until("an empty queue", |sound| {
            sound
                .event()
                .pointer("/data/status/exec_info/queue_remaining")
                == Some(&json!(0))
        })
        .await;
    let kinds = types(&heard);
    assert!(kinds.contains(&"progress_state".to_owned()) && kinds.contains(&"progress".to_owned()));
    assert!(
        !kinds.contains(&"execution_start".to_owned()) && !kinds.contains(&"executing".to_owned())
    );
    assert!(
        heard
            .iter()
            .filter(|sound| is(sound, "progress"))
            .all(|sound| sound.event()["data"]["prompt_id"] == id.as_str())
    );
}

#[tokio::test]
async fn two_clients_hear_their_own() {
    let recording = recording("0.8.0/17-two-clients");
    let clients = ["client-a", "client-b"];
    let mine = |k: usize| {
        let client = recording.prompts().nth(k).unwrap().request_body["client_id"].clone();
        usize::from(client != recording.meta.client_id.as_str())
    };
    // With an id each, and both with one id over one socket.
    for shared in [false, true] {
        let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
        let caller = Caller::of(&server);
        let name = |k: usize| clients[if shared { 0 } else { mine(k) }];
        let mut a = caller.connect(Some(clients[0])).await;
        let mut b = caller.connect(Some(clients[1])).await;
        let mut ids = Vec::new();
        for k in 0..4 {
            ids.push(caller.submit(&recording, k, Some(name(k))).await);
        }
        let of_b = (0..4)
            .filter(|k| !shared && mine(*k) == 1)
            .map(|k| &ids[k])
            .next_back();
        let mut statuses = Vec::new();
        for (ear, last) in [
            (
                &mut a,
                (0..4)
                    .filter(|k| shared || mine(*k) == 0)
                    .map(|k| &ids[k])
                    .next_back(),
            ),
            (&mut b, of_b),
        ] {
            let Some(last) = last else { continue };
            let heard = ear.end_of(last).await;
            let others = (0..4).filter(|k| {
                !shared && mine(*k) != mine(ids.iter().position(|id| id == last).unwrap())
            });
            for k in others {
                assert!(!heard.iter().any(|sound| ends(sound, &ids[k])));
            }
            statuses.push(heard.iter().filter(|sound| is(sound, "status")).count());
        }
        let recorded = |frame: &&comfy_relay::recording::RecordedFrame| matches!(&frame.kind, comfy_relay::recording::FrameKind::Text(text) if frame.socket == "main" && text.contains("\"status\", \"data\""));
        assert!(
            statuses
                .iter()
                .all(|count| *count <= recording.frames.iter().filter(recorded).count()),
            "{statuses:?}"
        );
    }
}

#[tokio::test]
async fn a_server_assigned_id_is_as_good() {
    let recording = recording("0.8.0/17b-server-assigned-sid");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let caller = Caller::of(&server);
    let mut ear = caller.connect(None).await;
    let sid = ear.greeting().await["sid"].as_str().unwrap().to_owned();
    let id = caller.submit(&recording, 0, Some(&sid)).await;
    ear.end_of(&id).await;
}
