//! The prompts and sockets of a recording, and the version of its server.

use serde_json::Value;
use url::form_urlencoded;

use crate::recording::{Exchange, FrameKind, Recording};
use crate::replay::timeline::{RecordedPrompt, RecordedSocket};

/// The prompt that `post` submitted, with what the rest of the recording holds of it.
pub(super) fn prompt(recording: &Recording, post: &Exchange) -> RecordedPrompt {
    let response = &post.response;
    let id = response["prompt_id"].as_str().map(str::to_owned);
    let history = id.as_ref().and_then(|id| {
        let entries = recording.exchanges.iter().rev().filter_map(|exchange| {
            (exchange.history_id()? == *id).then(|| exchange.response.get(id))?
        });
        // Prompts can share an id; their numbers differ.
        let mut of_number =
            entries.filter(|entry| entry["prompt"][0].as_f64() == response["number"].as_f64());
        of_number.next().cloned()
    });
    let request = &post.request_body;
    RecordedPrompt {
        graph: request["prompt"].clone(),
        client_id: request["client_id"].as_str().map(str::to_owned),
        id,
        status: post.status.unwrap_or(200),
        response: response.clone(),
        keeps_number: request.get("number").is_some() || request.get("front").is_some(),
        history,
        early_reads: 0,
    }
}

/// The sockets of a recording, in the order in which they were first opened.
pub(super) fn sockets(recording: &Recording, prompts: &[RecordedPrompt]) -> Vec<RecordedSocket> {
    let mut sockets: Vec<RecordedSocket> = Vec::new();
    for frame in &recording.frames {
        if let FrameKind::Open { url } = &frame.kind
            && !sockets.iter().any(|socket| socket.name == frame.socket)
        {
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let given = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "clientId");
            let client_id = given
                .map(|(_, id)| id.into_owned())
                .or_else(|| assigned_id(recording, &frame.socket))
                .unwrap_or_default();
            let submits = |prompt: &RecordedPrompt| prompt.client_id.as_ref() == Some(&client_id);
            sockets.push(RecordedSocket {
                name: frame.socket.clone(),
                submits: prompts.iter().any(submits),
                client_id,
            });
        }
    }
    sockets
}

/// The client id that the server assigned to a socket that connected without one.
fn assigned_id(recording: &Recording, socket: &str) -> Option<String> {
    let mut texts = recording
        .frames
        .iter()
        .filter(|frame| frame.socket == socket)
        .filter_map(|frame| match &frame.kind {
            FrameKind::Text(text) => serde_json::from_str::<Value>(text).ok(),
            _ => None,
        });
    texts.find_map(|event| Some(event["data"]["sid"].as_str()?.to_owned()))
}

/// The parts of a release's version; none for the commits of 2023, which are named by date.
pub(super) fn release(version: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}
