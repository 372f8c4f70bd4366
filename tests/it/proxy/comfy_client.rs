//! A client of ComfyUI: a socket, and requests to the same address.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::test_relay::response;
use crate::support::wait::PATIENCE;

/// The first message of clients that read previews with metadata.
const FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

/// The socket of a client.
pub(super) struct ComfyClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(super) id: String,
}

/// What a client receives.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Text(Value),
    Binary(Vec<u8>),
    /// The close code; 1006 for a connection that ended without one.
    Closed(u16),
}

impl ComfyClient {
    /// Connects to a server at `http://…`.
    pub(super) async fn connect(url: &str, id: &str) -> Self {
        let url = url.replacen("http", "ws", 1);
        let connecting = connect_async(format!("{url}/ws?clientId={id}"));
        let (socket, _) = timeout(PATIENCE, connecting).await.unwrap().unwrap();
        Self {
            socket,
            id: id.to_owned(),
        }
    }

    /// The same, with previews with metadata.
    pub(super) async fn with_metadata(url: &str, id: &str) -> Self {
        let mut client = Self::connect(url, id).await;
        client.socket.send(Message::text(FLAGS)).await.unwrap();
        client
    }

    pub(super) async fn next(&mut self) -> Event {
        let next = timeout(PATIENCE, self.receive()).await;
        next.expect("nothing comes")
    }

    async fn receive(&mut self) -> Event {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Event::Text(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Binary(bytes))) => Event::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    Event::Closed(frame.map_or(1005, |frame| frame.code.into()))
                }
                // A ping, which is no event.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Event::Closed(1006),
            };
        }
    }

    /// The next text.
    pub(super) async fn next_text(&mut self) -> Value {
        match self.next().await {
            Event::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    /// Everything up to the first text of which this holds.
    pub(super) async fn until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            events.push(event.clone());
            match &event {
                Event::Text(text) if is_last(text) => return events,
                Event::Closed(code) => panic!("closed with {code} after {events:?}"),
                _ => {}
            }
        }
    }

    /// Everything up to the end of a prompt, without the length of the queue.
    pub(super) async fn until_done(&mut self, prompt_id: &str) -> Vec<Event> {
        let is_done = |text: &Value| {
            text["type"] == "executing"
                && text["data"]["node"].is_null()
                && text["data"]["prompt_id"] == prompt_id
        };
        let mut events = self.until(is_done).await;
        events.retain(|event| !is_of_type(event, "status"));
        events
    }

    /// Receives until the queue has this length.
    pub(super) async fn until_length(&mut self, length: u64) {
        self.until(|text| text["data"]["status"]["exec_info"]["queue_remaining"] == length)
            .await;
    }
}

/// Whether an event is a text of this type.
pub(super) fn is_of_type(event: &Event, kind: &str) -> bool {
    matches!(event, Event::Text(text) if text["type"] == kind)
}

/// How many texts are of this type.
pub(super) fn count(events: &[Event], kind: &str) -> usize {
    events
        .iter()
        .filter(|event| is_of_type(event, kind))
        .count()
}

/// The ids of all prompts that are named, without repetitions.
pub(super) fn prompts(events: &[Event]) -> Vec<&str> {
    let mut named: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Text(text) => text["data"]["prompt_id"].as_str(),
            _ => None,
        })
        .collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// Posts a graph under a client id: the status and the answer.
pub(super) async fn post_prompt(url: &str, client_id: &str, graph: &Value) -> (u16, Value) {
    post(
        url,
        "/prompt",
        &json!({"prompt": graph, "client_id": client_id}),
    )
    .await
}

/// Posts a graph that is taken. Returns its prompt id.
pub(super) async fn take_prompt(url: &str, client_id: &str, graph: &Value) -> String {
    let (status, answer) = post_prompt(url, client_id, graph).await;
    assert_eq!(status, 200, "{answer}");
    answer["prompt_id"].as_str().unwrap().to_owned()
}

pub(super) async fn post(url: &str, path: &str, body: &Value) -> (u16, Value) {
    let client = reqwest::Client::new();
    response(client.post(format!("{url}{path}")).json(body)).await
}

pub(super) async fn get(url: &str, path: &str) -> (u16, Value) {
    let client = reqwest::Client::new();
    response(client.get(format!("{url}{path}"))).await
}
