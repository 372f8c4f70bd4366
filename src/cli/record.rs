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
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::tungstenite::Message as Wire;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use url::Url;
use uuid::Uuid;

use crate::comfy::{HistoryEntry, Message};
use crate::job::{Event, Outcome};
use crate::recording::{Exchange, FrameKind, Meta, RecordedFrame, RecordedOutcome, Recording};
use crate::workflow;

/// How often the queue is looked at, as in the recordings that come with the program.
const QUEUE_INTERVAL: Duration = Duration::from_millis(500);

/// How often the history is read once a prompt has ended.
const HISTORY_INTERVAL: Duration = Duration::from_millis(250);

/// How long the server is listened to after the last prompt: what it says of the end comes late.
const LINGER: Duration = Duration::from_secs(1);

/// The name of the one socket in a recording.
const SOCKET: &str = "main";

/// Record a live ComfyUI while it runs workflows
///
/// Submits the workflows one after another, and writes every frame and every HTTP exchange, verbatim
/// and with its time, to a folder that "comfy-relay replay" can serve.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// Workflows in API format, to be submitted in this order
    #[arg(required = true, value_name = "FILE")]
    workflows: Vec<PathBuf>,

    /// The folder to write to; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The ComfyUI server
    #[arg(long, env = "COMFYUI_URL", default_value = "http://127.0.0.1:8188", value_parser = super::serve::comfyui_url, value_name = "URL")]
    comfyui_url: Url,

    /// What the recording shows, in a sentence
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
}

type ComfySocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What is being recorded. Clones write to the same recording.
#[derive(Debug, Clone)]
struct RecordingSession {
    base: Url,
    client: reqwest::Client,
    client_id: String,
    began: Instant,
    frames: Arc<Mutex<Vec<RecordedFrame>>>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    /// Told when the socket says that a prompt has ended.
    ended: Arc<Notify>,
}

pub(super) async fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let graphs = read(&args.workflows).await?;
    let session = RecordingSession::new(args.comfyui_url)?;
    let recorded_at = Timestamp::now();
    let stats = session
        .call(Method::GET, "/system_stats", Value::Null)
        .await;
    if stats.status != Some(200) {
        bail!(
            "ComfyUI at {} does not answer (--comfyui-url, COMFYUI_URL)",
            session.base
        );
    }
    let mut tasks = JoinSet::new();
    let socket = session
        .connect()
        .await
        .context("cannot open ComfyUI's socket")?;
    let listening = session.clone().listen(socket);
    tasks.spawn(async {
        if let Err(error) = listening.await {
            eprintln!("warning: the socket broke off: {error:#}");
        }
    });
    tasks.spawn(session.clone().poll_queue());
    let mut outcomes = Vec::new();
    for (file, graph) in args.workflows.iter().zip(graphs) {
        eprintln!("recording {}", file.display());
        match session.submit(graph).await {
            Some(prompt_id) => outcomes.push(session.follow(prompt_id).await),
            None => eprintln!("ComfyUI refuses {}; its answer is recorded", file.display()),
        }
    }
    tokio::time::sleep(LINGER).await;
    tasks.shutdown().await;
    let scenario = args
        .out
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let version = stats
        .response
        .pointer("/system/comfyui_version")
        .and_then(Value::as_str);
    let meta = Meta {
        comfyui_version: version.unwrap_or("unknown").to_owned(),
        scenario: scenario.unwrap_or_default(),
        description: args.description,
        recorded_at: recorded_at.to_string(),
        server_flags: flags(&stats.response),
        client_id: session.client_id.clone(),
        prompt_ids: outcomes.iter().map(|(id, _, _)| id.clone()).collect(),
        outcome: outcomes
            .iter()
            .map(|(id, outcome, _)| (id.clone(), *outcome))
            .collect(),
        duration_s: outcomes
            .into_iter()
            .map(|(id, _, seconds)| (id, seconds))
            .collect::<BTreeMap<_, _>>(),
        notes: Vec::new(),
        host: Value::Null,
    };
    let recording = Recording {
        meta,
        frames: std::mem::take(&mut lock(&session.frames)),
        exchanges: std::mem::take(&mut lock(&session.exchanges)),
    };
    recording.write(&args.out)?;
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

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

fn flags(stats: &Value) -> Vec<String> {
    let argv = stats.pointer("/system/argv").and_then(Value::as_array);
    let flags = argv.into_iter().flatten().skip(1).filter_map(Value::as_str);
    flags.map(str::to_owned).collect()
}

impl RecordingSession {
    fn new(base: Url) -> anyhow::Result<Self> {
        Ok(Self {
            base,
            client: reqwest::Client::builder().no_proxy().build()?,
            client_id: Uuid::new_v4().simple().to_string(),
            began: Instant::now(),
            frames: Arc::default(),
            exchanges: Arc::default(),
            ended: Arc::default(),
        })
    }

    /// Opens the socket: events of prompts that are submitted before it are lost.
    async fn connect(&self) -> anyhow::Result<ComfySocket> {
        let path = format!("/ws?clientId={}", self.client_id);
        let mut url = self.base.join(&path)?;
        // A change between these schemes is always allowed.
        let _ = url.set_scheme("ws");
        let (mut socket, _) = connect_async(url.as_str()).await?;
        self.note(FrameKind::Open { url: path });
        let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
        socket.send(Wire::text(flags.to_string())).await?;
        self.note(FrameKind::Sent(flags));
        Ok(socket)
    }

    /// Records the socket until it closes.
    async fn listen(self, mut socket: ComfySocket) -> anyhow::Result<()> {
        while let Some(frame) = socket.next().await {
            match frame? {
                Wire::Text(text) => {
                    if tells_an_end(&text) {
                        self.ended.notify_one();
                    }
                    self.note(FrameKind::Text(text.as_str().to_owned()));
                }
                Wire::Binary(bytes) => self.note(FrameKind::Binary(bytes)),
                Wire::Ping(_) | Wire::Pong(_) | Wire::Frame(_) => {}
                Wire::Close(close) => {
                    self.note(FrameKind::Close {
                        by_client: false,
                        abrupt: false,
                        code: close.map(|close| close.code.into()),
                    });
                }
            }
        }
        Ok(())
    }

    async fn poll_queue(self) {
        let mut tick = interval(QUEUE_INTERVAL);
        loop {
            tick.tick().await;
            self.call(Method::GET, "/queue", Value::Null).await;
        }
    }

    /// Submits a graph; `None` where it is refused.
    async fn submit(&self, graph: Value) -> Option<String> {
        let body = json!({"prompt": graph, "client_id": self.client_id});
        let answer = self.call(Method::POST, "/prompt", body).await;
        Some(answer.response.get("prompt_id")?.as_str()?.to_owned())
    }

    /// Follows a prompt to its entry in the history: how it ended, and after how many seconds.
    async fn follow(&self, prompt_id: String) -> (String, RecordedOutcome, Option<f64>) {
        let path = format!(
            "/history/{}",
            utf8_percent_encode(&prompt_id, NON_ALPHANUMERIC)
        );
        let began = Instant::now();
        loop {
            // An end can be missed, for example while the socket is not open yet.
            let heard = timeout(QUEUE_INTERVAL, self.ended.notified()).await.is_ok();
            let answer = self.call(Method::GET, &path, Value::Null).await;
            let entry = answer.response.get(&prompt_id).cloned();
            match entry.and_then(|entry| HistoryEntry::read(entry, "")) {
                Some(entry) => {
                    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
                    return (prompt_id, outcome(entry), Some(seconds));
                }
                None if answer.status.is_none() => return (prompt_id, RecordedOutcome::Lost, None),
                None if heard => tokio::time::sleep(HISTORY_INTERVAL).await,
                None => {}
            }
        }
    }

    /// Makes an HTTP call and records it, whatever comes of it.
    async fn call(&self, method: Method, path: &str, body: Value) -> Exchange {
        let t = self.seconds();
        let folder = self.base.as_str().trim_end_matches('/');
        let mut request = self
            .client
            .request(method.clone(), format!("{folder}{path}"));
        if !body.is_null() {
            request = request.json(&body);
        }
        let answered = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        let answered = answered.await;
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
        match answered {
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

    fn note(&self, kind: FrameKind) {
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

fn tells_an_end(text: &str) -> bool {
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

/// What is recorded is whole at any moment, also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
