//! A minimal client of a replay server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comfy_relay::recording::Recording;
use comfy_relay::replay::{PlaybackSpeed, Replay, ReplayOptions};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::recordings::{FIXTURES, replay_with};

/// The client id of most clients.
pub(crate) const CLIENT_ID: &str = "4c1b3f5e9d0a";

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often HTTP is polled.
pub(crate) const POLL: Duration = Duration::from_millis(5);

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

pub(crate) fn recording(name: &str) -> Arc<Recording> {
    Arc::new(Recording::read(&folder(name)).unwrap())
}

/// Starts a replay server of these recordings.
pub(crate) async fn replay(
    recordings: &[&Arc<Recording>],
    speed: PlaybackSpeed,
    repeat: bool,
) -> Replay {
    let options = ReplayOptions {
        speed,
        repeat,
        ..ReplayOptions::default()
    };
    let recordings = recordings.iter().copied().cloned().collect();
    replay_with(recordings, options).await
}

/// An HTTP client of a replay server.
#[derive(Clone)]
pub(crate) struct ReplayClient {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
}

impl ReplayClient {
    pub(crate) fn of(replay: &Replay) -> ReplayClient {
        ReplayClient {
            url: replay.url(),
            http: reqwest::Client::new(),
        }
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        let response = self
            .http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .ok()?;
        response.json().await.ok()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.try_get(path)
            .await
            .unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        )
    }

    /// Posts the k-th prompt of a recording with this client id, and returns the new prompt id.
    pub(crate) async fn submit(
        &self,
        recording: &Recording,
        k: usize,
        client: Option<&str>,
    ) -> String {
        let mut body = recording.prompts().nth(k).unwrap().request_body.clone();
        match client {
            Some(client) => body["client_id"] = json!(client),
            None => {
                body.as_object_mut().unwrap().remove("client_id");
            }
        }
        let (status, answer) = self.post("/prompt", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["prompt_id"].as_str().unwrap().to_owned()
    }

    /// Polls the history until it contains the prompt.
    pub(crate) async fn result(&self, id: &str) -> Value {
        let path = history_path(id);
        self.until(&format!("{path} to be there"), async || {
            let history = self.try_get(&path).await?;
            history.get(id).cloned()
        })
        .await
    }

    /// Polls until there is an answer.
    pub(crate) async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut tick = interval(POLL);
        while Instant::now() < end {
            tick.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
        panic!("waited too long for {what}");
    }

    pub(crate) async fn connect(&self, client: Option<&str>) -> ReplaySocket {
        self.try_connect(client)
            .await
            .expect("the replay accepts sockets")
    }

    pub(crate) async fn try_connect(&self, client: Option<&str>) -> Option<ReplaySocket> {
        let query = client
            .map(|client| format!("?clientId={client}"))
            .unwrap_or_default();
        let url = format!("{}/ws{query}", self.url.replace("http", "ws"));
        let (socket, _) = connect_async(url).await.ok()?;
        Some(ReplaySocket { socket })
    }
}

pub(crate) fn history_path(id: &str) -> String {
    let id: String =
        percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).collect();
    format!("/history/{id}")
}

/// A WebSocket to a replay server.
pub(crate) struct ReplaySocket {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What a socket receives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    /// A close frame with its code.
    Closed(Option<u16>),
    /// The connection ended without a close frame.
    Lost,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        match self {
            Event::Text(text) => serde_json::from_str(text).unwrap(),
            _ => Value::Null,
        }
    }
}

impl ReplaySocket {
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Event::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => Event::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    Event::Closed(frame.map(|frame| frame.code.into()))
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Event::Lost,
            };
        }
    }

    /// Everything up to and including the first event that satisfies `last`.
    pub(crate) async fn until(&mut self, what: &str, last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        let received = timeout(PATIENCE, async {
            loop {
                let event = self.next().await;
                let done = last(&event);
                let lost = event == Event::Lost;
                events.push(event);
                if done || lost {
                    return done;
                }
            }
        });
        match received.await {
            Ok(true) => events,
            _ => panic!("did not receive {what}, but {events:#?}"),
        }
    }

    /// Everything up to the end of a prompt.
    pub(crate) async fn end_of(&mut self, id: &str) -> Vec<Event> {
        self.until(&format!("the end of {id}"), |event| is_end_of(event, id))
            .await
    }

    pub(crate) async fn greeting(&mut self) -> Value {
        let first = timeout(PATIENCE, self.next()).await.unwrap().json();
        assert_eq!(first["type"], "status");
        first["data"].clone()
    }

    /// Closes it, and waits until the server has closed it too.
    pub(crate) async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let _ = timeout(PATIENCE, async {
            while let Some(Ok(_)) = self.socket.next().await {}
        })
        .await;
    }
}

pub(crate) fn is_type(event: &Event, kind: &str) -> bool {
    event.json()["type"] == kind
}

pub(crate) fn is_end_of(event: &Event, id: &str) -> bool {
    let event = event.json();
    event["type"] == "executing"
        && event["data"]["node"].is_null()
        && event["data"]["prompt_id"] == id
}

pub(crate) fn types(events: &[Event]) -> Vec<String> {
    let kind = |event: &Event| match event {
        Event::Text(_) => event.json()["type"].as_str().unwrap_or_default().to_owned(),
        other => format!("{other:?}"),
    };
    events.iter().map(kind).collect()
}
