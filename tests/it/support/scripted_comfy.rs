//! A ComfyUI that answers what a test scripts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_tungstenite::tungstenite::Message;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

/// How many events a socket may lag behind: enough that no test loses one.
const MAX_EVENTS: usize = 8_192;

/// How long a test waits for a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The call that lists jobs, on newer servers.
pub(crate) const JOB_LIST: &str = "GET /api/jobs";

/// Counted like a call: a socket was closed.
const CLOSE: &str = "CLOSE /ws";

/// A ComfyUI that answers what a test scripts. Nothing runs in it.
pub(crate) struct ScriptedComfy {
    address: SocketAddr,
    script: Arc<Script>,
    _serving: JoinSet<()>,
}

struct Script {
    replies: Mutex<HashMap<String, watch::Sender<Reply>>>,
    /// How often each call was received.
    calls: watch::Sender<HashMap<String, usize>>,
    events: broadcast::Sender<Message>,
    /// The body of the last one of each call that has one.
    bodies: Mutex<HashMap<String, Bytes>>,
    refuses_sockets: watch::Sender<bool>,
    cuts_sockets: watch::Sender<bool>,
}

/// What a call is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// A status and a body.
    Text(u16, String),
    /// A file.
    File(Vec<u8>),
    /// A part of an answer, and nothing more.
    Stall(String),
    /// Nothing, until the reply is changed.
    Hang,
    /// The connection is closed without an answer.
    Disconnect,
}

impl ScriptedComfy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script {
            replies: Mutex::default(),
            calls: watch::Sender::default(),
            events: broadcast::Sender::new(MAX_EVENTS),
            bodies: Mutex::default(),
            refuses_sockets: watch::Sender::default(),
            cuts_sockets: watch::Sender::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, script.clone()));
        let comfyui = Self {
            address,
            script,
            _serving: serving,
        };
        let stats = json!({"system": {"comfyui_version": "0.8.0"}});
        comfyui.answer("GET /system_stats", 200, &stats);
        comfyui.set_queue(&[], &[]);
        comfyui
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers a call such as `GET /queue` with a status and JSON from now on.
    pub(crate) fn answer(&self, call: &str, status: u16, body: &Value) {
        self.reply(call, Reply::Text(status, body.to_string()));
    }

    /// Answers a call such as `GET /queue` with this reply from now on.
    pub(crate) fn reply(&self, call: &str, reply: Reply) {
        self.script.reply_to(call).send_replace(reply);
    }

    /// Accepts every prompt under this id.
    pub(crate) fn accept_prompts_as(&self, prompt_id: &str) {
        self.answer("POST /prompt", 200, &json!({ "prompt_id": prompt_id }));
    }

    /// Sets the prompts that run and those that wait.
    pub(crate) fn set_queue(&self, running: &[&str], pending: &[&str]) {
        let items = |ids: &[&str]| -> Vec<Value> {
            let items = ids.iter().enumerate();
            items
                .map(|(number, id)| json!([number, id, {}, {}, []]))
                .collect()
        };
        let queue = json!({"queue_running": items(running), "queue_pending": items(pending)});
        self.answer("GET /queue", 200, &queue);
    }

    /// Lists the prompts that run and those that wait, as newer servers do. The queue stays as it is.
    pub(crate) fn list_jobs(&self, running: &[&str], pending: &[&str]) {
        let status = |status: &'static str| move |(number, id): (usize, &&str)| json!({"id": id, "status": status, "priority": number});
        let running = running.iter().enumerate().map(status("in_progress"));
        let pending = pending.iter().enumerate().map(status("pending"));
        // The newest one first.
        let jobs: Vec<Value> = running.chain(pending).rev().collect();
        let pagination =
            json!({"offset": 0, "limit": null, "total": jobs.len(), "has_more": false});
        self.answer(
            JOB_LIST,
            200,
            &json!({"jobs": jobs, "pagination": pagination}),
        );
    }

    /// Sets the one prompt that runs, with its graph and the outputs that are executed.
    pub(crate) fn run_prompt(&self, prompt: &str, graph: &Value, outputs: &[&str]) {
        let item = json!([0, prompt, graph, {}, outputs]);
        let queue = json!({"queue_running": [item], "queue_pending": []});
        self.answer("GET /queue", 200, &queue);
    }

    /// Has an image of this size in the input folder.
    pub(crate) fn set_image(&self, name: &str, width: u32, height: u32) {
        self.reply(&view(name), Reply::File(png(width, height)));
    }

    /// Has an image of this size in the output folder.
    pub(crate) fn set_saved_image(&self, name: &str, width: u32, height: u32) {
        self.reply(&saved_view(name), Reply::File(png(width, height)));
    }

    /// Adds a prompt to the history as completed; the queue stays as it is.
    pub(crate) fn complete(&self, prompt: &str) {
        let entry = json!({"prompt": [0, prompt, {}, {}, []], "outputs": {},
            "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
        let call = format!("GET /history/{prompt}");
        self.answer(&call, 200, &json!({ prompt: entry }));
    }

    /// Sends an event to every socket.
    pub(crate) fn send(&self, event: &Value) {
        self.send_text(&event.to_string());
    }

    /// Sends a text to every socket.
    pub(crate) fn send_text(&self, text: &str) {
        self.send_frame(Message::text(text));
    }

    /// Sends the text of a node to every socket, as ComfyUI does.
    pub(crate) fn send_node_text(&self, node: &str, text: &str) {
        let length = u32::try_from(node.len()).unwrap().to_be_bytes();
        let frame = [
            &3u32.to_be_bytes(),
            &length,
            node.as_bytes(),
            text.as_bytes(),
        ];
        self.send_frame(Message::binary(frame.concat()));
    }

    /// Sends a preview of a node to every socket: four bytes stand for the image.
    pub(crate) fn send_preview(&self, prompt: &str, node: &str, display: &str) {
        let metadata = json!({"prompt_id": prompt, "node_id": node, "display_node_id": display, "image_type": "image/png"});
        self.send_picture(&metadata, &[1, 2, 3, 4]);
    }

    /// Sends a preview with these bytes for an image to all open sockets.
    pub(crate) fn send_picture(&self, metadata: &Value, image: &[u8]) {
        let metadata = metadata.to_string();
        let length = u32::try_from(metadata.len()).unwrap().to_be_bytes();
        let frame = [&4u32.to_be_bytes(), &length, metadata.as_bytes(), image];
        self.send_frame(Message::binary(frame.concat()));
    }

    fn send_frame(&self, frame: Message) {
        // Fails if no socket is open, which the test notices.
        let _ = self.script.events.send(frame);
    }

    /// Waits until a call has been received this many times more than now.
    pub(crate) async fn wait_for_more_calls(&self, call: &str, times: usize) {
        let calls = self.calls(call) + times;
        self.wait_for_calls(call, calls).await;
    }

    /// Waits until a call has been received this many times in all.
    pub(crate) async fn wait_for_calls(&self, call: &str, times: usize) {
        let mut calls = self.script.calls.subscribe();
        let often = |calls: &HashMap<String, usize>| calls.get(call) >= Some(&times);
        let waiting = tokio::time::timeout(CALL_TIMEOUT, calls.wait_for(often));
        let received = waiting.await;
        received.unwrap_or_else(|_| panic!("no {call}")).unwrap();
    }

    /// How often a call has been received.
    pub(crate) fn calls(&self, call: &str) -> usize {
        let calls = self.script.calls.borrow();
        calls.get(call).copied().unwrap_or_default()
    }

    /// Whether new sockets are refused; open ones stay.
    pub(crate) fn refuse_sockets(&self, refuse: bool) {
        self.script.refuses_sockets.send_replace(refuse);
    }

    /// Cuts every socket as soon as it is open.
    pub(crate) fn cut_sockets(&self, cut: bool) {
        self.script.cuts_sockets.send_replace(cut);
    }

    /// Closes every socket that is open.
    pub(crate) fn close_sockets(&self) {
        self.send_frame(Message::Close(None));
    }

    /// The body of the last `POST /prompt`.
    pub(crate) fn posted(&self) -> Value {
        self.body_of("POST /prompt")
    }

    /// The JSON of the last one of a call.
    pub(crate) fn body_of(&self, call: &str) -> Value {
        serde_json::from_slice(&self.bytes_of(call)).unwrap_or_default()
    }

    /// The body of the last one of a call, as it came.
    pub(crate) fn bytes_of(&self, call: &str) -> Bytes {
        let bodies = self.script.bodies.lock().unwrap();
        bodies.get(call).cloned().unwrap_or_default()
    }
}

impl Script {
    fn reply_to(&self, call: &str) -> watch::Sender<Reply> {
        let mut replies = self.replies.lock().unwrap();
        let nothing = || watch::Sender::new(Reply::Text(200, "{}".to_owned()));
        replies
            .entry(call.to_owned())
            .or_insert_with(nothing)
            .clone()
    }
}

/// The call for a file of the input folder.
pub(crate) fn view(name: &str) -> String {
    format!("GET /view?filename={name}&subfolder=&type=input")
}

/// The call for a file of the output folder.
pub(crate) fn saved_view(name: &str) -> String {
    format!("GET /view?filename={name}&subfolder=&type=output")
}

/// The head of a PNG file.
fn png(width: u32, height: u32) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    [
        &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..],
        &size,
        &[8, 2, 0, 0, 0],
    ]
    .concat()
}

async fn serve(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let script = script.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(script.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Fails if the test closes it.
            let _ = connection.with_upgrades().await;
        });
    }
}

type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    script: Arc<Script>,
    mut request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Disconnected> {
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    // Files are told apart by their names.
    let query = request.uri().query().filter(|_| path == "/view");
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let call = format!("{} {path}{query}", request.method());
    let reply = script.reply_to(&call);
    if call == "GET /ws" && !*script.refuses_sockets.borrow() {
        let (response, socket) = hyper_tungstenite::upgrade(&mut request, None).unwrap();
        let (mut events, calls) = (script.events.subscribe(), script.calls.clone());
        let cuts = *script.cuts_sockets.borrow();
        tokio::spawn(async move {
            let mut socket = socket.await.unwrap();
            if cuts {
                return;
            }
            loop {
                tokio::select! {
                    Ok(event) = events.recv() => if socket.send(event).await.is_err() { break },
                    frame = socket.next() => match frame {
                        Some(Ok(_)) => {}
                        _ => break,
                    },
                }
            }
            calls.send_modify(|calls| *calls.entry(CLOSE.to_owned()).or_default() += 1);
        });
        script
            .calls
            .send_modify(|calls| *calls.entry(call).or_default() += 1);
        return Ok(response.map(BodyExt::boxed_unsync));
    }
    let range = request.headers().get(RANGE);
    let range = range.map(|range| range.to_str().unwrap().to_owned());
    // What breaks off is no call.
    let body = request.into_body().collect().await;
    let body = body.map_err(|_| Disconnected)?.to_bytes();
    if !body.is_empty() {
        script.bodies.lock().unwrap().insert(call.clone(), body);
    }
    script
        .calls
        .send_modify(|calls| *calls.entry(call).or_default() += 1);
    let mut replies = reply.subscribe();
    let ready = replies.wait_for(|reply| !matches!(reply, Reply::Hang));
    let ready = ready.await.unwrap().clone();
    match ready {
        Reply::Text(status, text) => Ok(Response::builder()
            .status(status)
            .body(Full::new(text.into()).boxed_unsync())
            .unwrap()),
        Reply::File(bytes) => Ok(part(&bytes, range.as_deref()).map(BodyExt::boxed_unsync)),
        Reply::Stall(text) => {
            let begun = stream::once(async { Ok(Frame::data(text.into())) });
            let body = StreamBody::new(begun.chain(stream::pending()));
            Ok(Response::new(body.boxed_unsync()))
        }
        Reply::Hang => unreachable!("waited for another reply"),
        Reply::Disconnect => Err(Disconnected),
    }
}

/// The bytes of a file that are asked for, such as `bytes=0-65535`.
fn part(file: &[u8], range: Option<&str>) -> Response<Full<Bytes>> {
    let ends = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = ends else {
        return Response::new(Full::new(file.to_vec().into()));
    };
    let start: usize = start.parse().unwrap();
    let end = file.len().min(end.parse::<usize>().unwrap() + 1);
    let (status, bytes) = match file.get(start..end).filter(|part| !part.is_empty()) {
        Some(part) => (206, part.to_vec()),
        None => (416, Vec::new()),
    };
    Response::builder()
        .status(status)
        .header(
            CONTENT_RANGE,
            format!("bytes {start}-{}/{}", end.saturating_sub(1), file.len()),
        )
        .body(Full::new(bytes.into()))
        .unwrap()
}

/// Makes hyper close the connection.
#[derive(Debug)]
struct Disconnected;

impl std::fmt::Display for Disconnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("disconnected on purpose")
    }
}

impl std::error::Error for Disconnected {}
