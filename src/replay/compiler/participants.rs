//! Who takes part in a recording: its prompts, its sockets, and the version of its server.

use serde_json::Value;

use crate::recording::{Exchange, FrameKind, Recording};
use crate::replay::timeline::{RecordedPrompt, RecordedSocket};

pub(super) fn expected(recording: &Recording, post: &Exchange) -> RecordedPrompt {
    let answer = &post.response;
    let id = answer["prompt_id"].as_str().map(str::to_owned);
    let history = id.as_ref().and_then(|id| {
        let entries = recording.exchanges.iter().rev().filter_map(|exchange| {
            (exchange.asks_history_of()? == *id).then(|| exchange.response.get(id))?
        });
        let mut of_number =
            entries.filter(|entry| entry["prompt"][0].as_f64() == answer["number"].as_f64());
        of_number.next().cloned()
    });
    RecordedPrompt {
        graph: post.request_body["prompt"].clone(),
        client: post.request_body["client_id"].as_str().map(str::to_owned),
        id,
        status: post.status.unwrap_or(200),
        answer: answer.clone(),
        placed: post.request_body.get("number").is_some()
            || post.request_body.get("front").is_some(),
        history,
        early_reads: 0,
    }
}

pub(super) fn labels(recording: &Recording, prompts: &[RecordedPrompt]) -> Vec<RecordedSocket> {
    let mut labels: Vec<RecordedSocket> = Vec::new();
    for frame in &recording.frames {
        if let FrameKind::Open { url } = &frame.kind
            && !labels.iter().any(|label| label.name == frame.socket)
        {
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let given =
                url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "clientId");
            let client = given
                .map(|(_, id)| id.into_owned())
                .or_else(|| assigned_sid(recording, &frame.socket));
            let client = client.unwrap_or_default();
            labels.push(RecordedSocket {
                name: frame.socket.clone(),
                addressed: prompts
                    .iter()
                    .any(|prompt| prompt.client.as_deref() == Some(&client)),
                client,
            });
        }
    }
    labels
}

/// The id that the server gave to a socket that brought none.
fn assigned_sid(recording: &Recording, socket: &str) -> Option<String> {
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

/// A release's parts; none for the commits of 2023, which are named by date.
pub(super) fn release(version: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}
