//! `comfy-relay record`: records a ComfyUI server while it runs workflows.

mod inputs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::tungstenite::Message as WebSocketMessage;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use super::exit_code::WrongSetting;
use crate::comfy::{ComfyClient, HistoryEntry, Message};
use crate::config::{ComfyConfig, ComfyConnection, ServerUrl, parse_comfyui_url};
use crate::connector::{Connector, WebSocket};
use crate::job::{Event, Outcome};
use crate::recording::{Exchange, FrameKind, Meta, RecordedFrame, RecordedOutcome, Recording};
use crate::workflow;

/// How often the queue is read, as in the recordings that come with the program.
const QUEUE_INTERVAL: Duration = Duration::from_millis(500);

/// How often the history is read once a prompt has ended.
const HISTORY_INTERVAL: Duration = Duration::from_millis(250);

/// How long recording continues after the last prompt: ComfyUI sends its last messages late.
const LINGER: Duration = Duration::from_secs(1);

/// The name of the one socket in a recording.
const SOCKET: &str = "main";

/// Record a live ComfyUI while it runs workflows
///
/// Submits the workflows one after another, and writes every frame and every HTTP exchange, verbatim
/// and with its time, to a folder that "comfy-relay replay" can serve. The sizes of the pictures that
/// the workflows load go to inputs.json beside them.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// Workflows in API format, submitted in this order
    #[arg(required = true, value_name = "FILE")]
    workflows: Vec<PathBuf>,

    /// The folder to write to; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The ComfyUI server
    #[arg(
        long,
        env = "COMFYUI_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8188",
        value_parser = parse_comfyui_url,
        value_name = "URL"
    )]
    comfyui_url: ServerUrl,

    #[command(flatten)]
    connection: ComfyConnection,

    /// What the recording shows, in a sentence
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
}

/// What is being recorded. Clones write to the same recording.
#[derive(Debug, Clone)]
struct RecordingSession {
    base: Url,
    client: reqwest::Client,
    connector: Connector,
    client_id: String,
    began: Instant,
    frames: Arc<Mutex<Vec<RecordedFrame>>>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    /// Notified when the socket announces the end of a prompt.
    ended: Arc<Notify>,
}

/// A recorded prompt that ComfyUI accepted.
struct RecordedPromptEnd {
    prompt_id: String,
    outcome: RecordedOutcome,
    /// Seconds from submission to the entry in the history.
    seconds: Option<f64>,
}

pub(super) async fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let graphs = read(&args.workflows).await?;
    let config = ComfyConfig {
        urls: vec![args.comfyui_url],
        connection: args.connection,
        ..ComfyConfig::default()
    };
    let servers = ComfyClient::all(&config).map_err(|error| WrongSetting(error.into()))?;
    let server = servers.first().context("no ComfyUI server")?;
    let session = RecordingSession::new(server)?;
    let recorded_at = Timestamp::now();
    let stats = session
        .call(Method::GET, "/system_stats", Value::Null)
        .await;
    if stats.status != Some(200) {
        bail!(
            "ComfyUI at {} does not respond (--comfyui-url, COMFYUI_URL)",
            session.base
        );
    }
    let mut tasks = JoinSet::new();
    let socket = session
        .connect()
        .await
        .context("cannot open ComfyUI's socket")?;
    tasks.spawn(session.clone().record_socket(socket));
    tasks.spawn(session.clone().poll_queue());
    let (mut ends, mut inputs) = (Vec::new(), BTreeMap::new());
    for (file, graph) in args.workflows.iter().zip(graphs) {
        eprintln!("recording {}", file.display());
        inputs::measure(server, &graph, &mut inputs).await;
        match session.submit(graph).await {
            Some(prompt_id) => ends.push(session.follow(prompt_id).await),
            None => eprintln!(
                "ComfyUI rejects {}; its response is recorded",
                file.display()
            ),
        }
    }
    tokio::time::sleep(LINGER).await;
    tasks.shutdown().await;
    let mut meta = meta(&stats.response, &ends);
    meta.recorded_at = recorded_at.to_string();
    meta.client_id = session.client_id.clone();
    meta.description = args.description;
    if let Some(name) = args.out.file_name() {
        meta.scenario = name.to_string_lossy().into_owned();
    }
    let recording = Recording {
        meta,
        frames: std::mem::take(&mut lock(&session.frames)),
        exchanges: std::mem::take(&mut lock(&session.exchanges)),
        inputs,
    };
    recording.write(&args.out)?;
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// The graphs of workflow files.
async fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut graphs = Vec::new();
    for file in files {
        let text = tokio::fs::read_to_string(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?;
        let graph =
            workflow::parse(&text).with_context(|| format!("cannot submit {}", file.display()))?;
        graphs.push(Value::Object(graph));
    }
    Ok(graphs)
}

/// What a server's `/system_stats` and the ends of the prompts say for `meta.json`.
fn meta(stats: &Value, ends: &[RecordedPromptEnd]) -> Meta {
    let version = stats
        .pointer("/system/comfyui_version")
        .and_then(Value::as_str);
    let argv = stats.pointer("/system/argv").and_then(Value::as_array);
    let flags = argv.into_iter().flatten().skip(1).filter_map(Value::as_str);
    let id = |end: &RecordedPromptEnd| end.prompt_id.clone();
    Meta {
        comfyui_version: version.unwrap_or("unknown").to_owned(),
        scenario: String::new(),
        description: String::new(),
        recorded_at: String::new(),
        server_flags: flags.map(str::to_owned).collect(),
        client_id: String::new(),
        prompt_ids: ends.iter().map(id).collect(),
        outcome: ends.iter().map(|end| (id(end), end.outcome)).collect(),
        duration_s: ends.iter().map(|end| (id(end), end.seconds)).collect(),
        notes: Vec::new(),
        host: Value::Null,
    }
}

impl RecordingSession {
    fn new(server: &ComfyClient) -> anyhow::Result<Self> {
        Ok(Self {
            base: server.url().clone(),
            client: server.connector().http_client().build()?,
            connector: server.connector().clone(),
            client_id: server.client_id().to_owned(),
            began: Instant::now(),
            frames: Arc::default(),
            exchanges: Arc::default(),
            ended: Arc::default(),
        })
    }

    /// Opens the socket. Must come before the first submission: events from before it are lost.
    async fn connect(&self) -> anyhow::Result<WebSocket> {
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
    async fn record_socket(self, mut socket: WebSocket) {
        while let Some(message) = socket.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    eprintln!("warning: the socket failed: {error}");
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

    async fn poll_queue(self) {
        let mut tick = interval(QUEUE_INTERVAL);
        loop {
            tick.tick().await;
            self.call(Method::GET, "/queue", Value::Null).await;
        }
    }

    /// Submits a graph and returns the prompt's id; `None` if ComfyUI rejects the graph.
    async fn submit(&self, graph: Value) -> Option<String> {
        let body = json!({"prompt": graph, "client_id": self.client_id});
        let exchange = self.call(Method::POST, "/prompt", body).await;
        Some(exchange.response.get("prompt_id")?.as_str()?.to_owned())
    }

    /// Waits until a prompt is in the history, or the server does not respond any more.
    async fn follow(&self, prompt_id: String) -> RecordedPromptEnd {
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
    async fn call(&self, method: Method, path: &str, body: Value) -> Exchange {
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
