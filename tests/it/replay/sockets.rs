//! Which socket receives which events.

use comfy_relay::replay::PlaybackSpeed;
use futures_util::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::client::{CLIENT_ID, Event, ReplayClient, is_end_of, is_type, recording, replay, types};

#[tokio::test]
async fn feature_flags_are_answered_and_previews_name_their_prompt() {
    let recording = recording("0.8.0/02-previews-metadata");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
    socket
        .socket
        .send(Message::text(flags.to_string()))
        .await
        .unwrap();
    socket
        .until("the server's flags", |event| {
            is_type(event, "feature_flags")
        })
        .await;
    let id = client.submit(&recording, 0, Some(CLIENT_ID)).await;
    let received = socket.end_of(&id).await;
    let previews = received.iter().filter_map(|event| match event {
        Event::Binary(bytes) => Some(String::from_utf8_lossy(&bytes[8..200]).into_owned()),
        _ => None,
    });
    let previews: Vec<String> = previews.collect();
    assert!(!previews.is_empty() && previews.iter().all(|preview| preview.contains(&id)));
}

#[tokio::test]
async fn any_socket_receives_the_progress_of_a_prompt_without_client() {
    let recording = recording("0.8.0/13-no-client-id");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(Some(CLIENT_ID)).await;
    socket.greeting().await;
    let id = client.submit(&recording, 0, None).await;
    assert_eq!(client.result(&id).await["prompt"][3].get("client_id"), None);
    let received = socket
        .until("an empty queue", |event| {
            event
                .json()
                .pointer("/data/status/exec_info/queue_remaining")
                == Some(&json!(0))
        })
        .await;
    let kinds = types(&received);
    assert!(kinds.contains(&"progress_state".to_owned()) && kinds.contains(&"progress".to_owned()));
    assert!(
        !kinds.contains(&"execution_start".to_owned()) && !kinds.contains(&"executing".to_owned())
    );
    assert!(
        received
            .iter()
            .filter(|event| is_type(event, "progress"))
            .all(|event| event.json()["data"]["prompt_id"] == id.as_str())
    );
}

#[tokio::test]
async fn two_clients_receive_their_own_events() {
    let recording = recording("0.8.0/17-two-clients");
    let clients = ["client-a", "client-b"];
    let mine = |k: usize| {
        let client = recording.prompts().nth(k).unwrap().request_body["client_id"].clone();
        usize::from(client != recording.meta.client_id.as_str())
    };
    // With two ids, and both with one id on one socket.
    for shared in [false, true] {
        let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
        let client = ReplayClient::of(&server);
        let name = |k: usize| clients[if shared { 0 } else { mine(k) }];
        let mut a = client.connect(Some(clients[0])).await;
        let mut b = client.connect(Some(clients[1])).await;
        let mut ids = Vec::new();
        for k in 0..4 {
            ids.push(client.submit(&recording, k, Some(name(k))).await);
        }
        let of_b = (0..4)
            .filter(|k| !shared && mine(*k) == 1)
            .map(|k| &ids[k])
            .next_back();
        let mut statuses = Vec::new();
        for (socket, last) in [
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
            let received = socket.end_of(last).await;
            let others = (0..4).filter(|k| {
                !shared && mine(*k) != mine(ids.iter().position(|id| id == last).unwrap())
            });
            for k in others {
                assert!(!received.iter().any(|event| is_end_of(event, &ids[k])));
            }
            statuses.push(
                received
                    .iter()
                    .filter(|event| is_type(event, "status"))
                    .count(),
            );
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
async fn a_client_id_that_the_server_assigns_works_the_same() {
    let recording = recording("0.8.0/17b-server-assigned-sid");
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let mut socket = client.connect(None).await;
    let sid = socket.greeting().await["sid"].as_str().unwrap().to_owned();
    let id = client.submit(&recording, 0, Some(&sid)).await;
    socket.end_of(&id).await;
}
