//! [`RecordingSession`]: the traffic with one ComfyUI, as it is recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::tungstenite::Message as WebSocketMessage;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use crate::cli::output::print_note;
use crate::comfy::{ComfyClient, HistoryEntry, Message};
use crate::connector::{Connector, WebSocket};
use crate::job::{Event, Outcome};
use crate::recording::{Exchange, FrameKind, RecordedFrame, RecordedOutcome};

/// How often the queue is read, as in the recordings that come with the program.
const QUEUE_INTERVAL: Duration = Duration::from_millis(500);

/// How often the history is read once a prompt has ended.
const HISTORY_INTERVAL: Duration = Duration::from_millis(250);

/// The query of `/api/jobs` for the prompts that run and wait: with others, the server walks its whole history.
const OPEN_JOBS: &str = "?status=in_progress,pending&limit=200";

/// The name of the one socket in a recording.
const SOCKET: &str = "main";

/// What is being recorded. Clones write to the same recording.
#[derive(Debug, Clone)]
pub(super) struct RecordingSession {
    base: Url,
    client: reqwest::Client,
    connector: Connector,
    client_id: String,
    began: Instant,
    frames: Arc<Mutex<Vec<RecordedFrame>>>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    /// Notified when the socket announces the end of a prompt.
    ended: Arc<Notify>,
    /// The server has no `/api/jobs`: it is from before 0.5.1.
    lacks_jobs: Arc<AtomicBool>,
}

/// How a prompt that ComfyUI accepted ended.
pub(super) struct RecordedPromptEnd {
    pub(super) prompt_id: String,
    pub(super) outcome: RecordedOutcome,
    /// Seconds from submission to the entry in the history.
    pub(super) seconds: Option<f64>,
}

impl RecordingSession {
    /// A session with a server; nothing is connected yet.
    pub(super) fn new(server: &ComfyClient) -> anyhow::Result<Self> {
        Ok(Self {
            base: server.url().clone(),
            client: server.connector().http_client().build()?,
            connector: server.connector().clone(),
            client_id: server.client_id().to_owned(),
            began: Instant::now(),
            frames: Arc::default(),
            exchanges: Arc::default(),
            ended: Arc::default(),
            lacks_jobs: Arc::default(),
        })
    }

    /// The address of ComfyUI.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// The client id of its socket.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What was recorded, which it then no longer holds.
    pub(super) fn take(&self) -> (Vec<RecordedFrame>, Vec<Exchange>) {
        let frames = std::mem::take(&mut *lock(&self.frames));
        (frames, std::mem::take(&mut *lock(&self.exchanges)))
    }

    /// Opens the socket. Must come before the first submission: events from before it are lost.
    pub(super) async fn connect(&self) -> anyhow::Result<WebSocket> {
        let path = format!("/ws?clientId={}", self.client_id);
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}"))?;
        let config = WebSocketConfig::default();
        let mut socket = self.connector.websocket(&url, config).await?;
        self.record(FrameKind::Open { url: path });
        let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
        socket
            .send(WebSocketMessage::text(flags.to_string()))
            .await?;
        self.record(FrameKind::Sent(flags));
        Ok(socket)
    }

    /// Records what the socket receives until it closes or fails.
    pub(super) async fn record_socket(self, mut socket: WebSocket) {
        while let Some(message) = socket.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    print_note(format_args!("warning: the socket failed: {error}"));
                    return;
                }
            };
            match message {
                WebSocketMessage::Text(text) => {
                    if announces_end(&text) {
                        self.ended.notify_one();
                    }
                    self.record(FrameKind::Text(text.as_str().to_owned()));
                }
                WebSocketMessage::Binary(bytes) => self.record(FrameKind::Binary(bytes)),
                WebSocketMessage::Ping(_)
                | WebSocketMessage::Pong(_)
                | WebSocketMessage::Frame(_) => {}
                WebSocketMessage::Close(close) => {
                    self.record(FrameKind::Close {
                        by_client: false,
                        abrupt: false,
                        code: close.map(|close| close.code.into()),
                    });
                }
            }
        }
    }

    pub(super) async fn poll_queue(self) {
        let mut tick = interval(QUEUE_INTERVAL);
        loop {
            tick.tick().await;
            self.call(Method::GET, "/queue", Value::Null).await;
            self.call_jobs(OPEN_JOBS).await;
        }
    }

    /// Records what the server says of a prompt by its id.
    pub(super) async fn record_prompt(&self, prompt_id: &str) {
        let id = utf8_percent_encode(prompt_id, NON_ALPHANUMERIC);
        self.call_jobs(&format!("/{id}")).await;
    }

    /// Records an answer of `/api/jobs`, unless an earlier one has shown that the server has no such route.
    async fn call_jobs(&self, below: &str) {
        if self.lacks_jobs.load(Ordering::Relaxed) {
            return;
        }
        let path = format!("/api/jobs{below}");
        let exchange = self.call(Method::GET, &path, Value::Null).await;
        // A server that has the route answers with JSON, also where it does not know a prompt.
        let is_missing = matches!(exchange.status, Some(404 | 405)) && exchange.response.is_null();
        self.lacks_jobs.fetch_or(is_missing, Ordering::Relaxed);
    }

    /// Submits a graph and returns the prompt's id; `None` if ComfyUI rejects the graph.
    pub(super) async fn submit(&self, graph: Value) -> Option<String> {
        let body = json!({"prompt": graph, "client_id": self.client_id});
        let exchange = self.call(Method::POST, "/prompt", body).await;
        Some(exchange.response.get("prompt_id")?.as_str()?.to_owned())
    }

    /// Waits until a prompt is in the history, or the server does not respond any more.
    pub(super) async fn follow(&self, prompt_id: String) -> RecordedPromptEnd {
        let path = format!(
            "/history/{}",
            utf8_percent_encode(&prompt_id, NON_ALPHANUMERIC)
        );
        let began = Instant::now();
        loop {
            // The announcement of an end can be missed: read the history without one, too.
            let is_announced = timeout(QUEUE_INTERVAL, self.ended.notified()).await.is_ok();
            let exchange = self.call(Method::GET, &path, Value::Null).await;
            let entry = exchange.response.get(&prompt_id).cloned();
            match entry.and_then(|entry| HistoryEntry::read(entry, "")) {
                Some(entry) => {
                    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
                    return RecordedPromptEnd {
                        prompt_id,
                        outcome: outcome(entry),
                        seconds: Some(seconds),
                    };
                }
                None if exchange.status.is_none() => {
                    return RecordedPromptEnd {
                        prompt_id,
                        outcome: RecordedOutcome::Lost,
                        seconds: None,
                    };
                }
                None if is_announced => tokio::time::sleep(HISTORY_INTERVAL).await,
                None => {}
            }
        }
    }

    /// Sends an HTTP request and records the exchange, with or without a response.
    pub(super) async fn call(&self, method: Method, path: &str, body: Value) -> Exchange {
        let t = self.seconds();
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = self.client.request(method.clone(), format!("{base}{path}"));
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        let response = response.await;
        let mut exchange = Exchange {
            t,
            t_end: self.seconds(),
            method: method.to_string(),
            path: path.to_owned(),
            request_body: body,
            status: None,
            response: Value::Null,
            error: None,
            response_text: None,
        };
        match response {
            Ok((status, text)) => {
                exchange.status = Some(status);
                match serde_json::from_str(&text) {
                    Ok(json) => exchange.response = json,
                    Err(_) => exchange.response_text = Some(text),
                }
            }
            Err(error) => exchange.error = Some(error.to_string()),
        }
        lock(&self.exchanges).push(exchange.clone());
        exchange
    }

    fn record(&self, kind: FrameKind) {
        let frame = RecordedFrame {
            t: self.seconds(),
            socket: SOCKET.to_owned(),
            kind,
        };
        lock(&self.frames).push(frame);
    }

    /// Seconds since the recording began, to the microsecond.
    fn seconds(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6
    }
}

/// Whether a message of ComfyUI announces the end of a prompt.
fn announces_end(text: &str) -> bool {
    match Message::parse(text, "") {
        Message::Prompt { event, .. } => matches!(event, Event::Ended(_)),
        Message::PromptEnded { .. } => true,
        _ => false,
    }
}

fn outcome(entry: HistoryEntry) -> RecordedOutcome {
    match entry.history.messages.or(entry.history.word) {
        Some(Outcome::Completed) => RecordedOutcome::Completed,
        Some(Outcome::Cancelled) => RecordedOutcome::Cancelled,
        Some(Outcome::Failed(_)) => RecordedOutcome::Failed,
        None if entry.history.produced => RecordedOutcome::Completed,
        None => RecordedOutcome::Failed,
    }
}

/// A panic leaves no frame or exchange half recorded, so that a poisoned lock can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
