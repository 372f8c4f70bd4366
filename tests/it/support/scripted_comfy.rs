use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
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

/// How many events may be on their way to a socket: none of a flood is to be lost.
const MAX_EVENTS: usize = 8_192;

/// How long a call is waited for.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

/// Counts as a call: a socket was closed.
const CLOSE: &str = "CLOSE /ws";

/// A ComfyUI that answers what the test tells it to. Nothing runs in it.
pub(crate) struct ScriptedComfy {
    address: SocketAddr,
    script: Arc<Script>,
    _serving: JoinSet<()>,
}

struct Script {
    replies: Mutex<HashMap<String, watch::Sender<Reply>>>,
    /// How often each call came.
    calls: watch::Sender<HashMap<String, usize>>,
    events: broadcast::Sender<String>,
    /// The body of the prompt that was posted last.
    posted: Mutex<Value>,
    /// It takes no new sockets.
    is_closed: watch::Sender<bool>,
}

#[derive(Clone)]
pub(crate) enum Reply {
    /// A status and a body.
    Text(u16, String),
    /// None, as long as this is the reply.
    Hang,
    /// The connection breaks off.
    Broken,
}

impl ScriptedComfy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script {
            replies: Mutex::default(),
            calls: watch::Sender::default(),
            events: broadcast::Sender::new(MAX_EVENTS),
            posted: Mutex::default(),
            is_closed: watch::Sender::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, script.clone()));
        let impostor = Self {
            address,
            script,
            _serving: serving,
        };
        let stats = json!({"system": {"comfyui_version": "0.8.0"}});
        impostor.answer("GET /system_stats", 200, &stats);
        impostor.queue(&[], &[]);
        impostor
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self, call: &str, status: u16, body: &Value) {
        self.reply(call, Reply::Text(status, body.to_string()));
    }

    /// What a call such as `GET /queue` comes to from now on.
    pub(crate) fn reply(&self, call: &str, reply: Reply) {
        self.script.reply_to(call).send_replace(reply);
    }

    /// The prompts that run, and those that wait.
    pub(crate) fn queue(&self, running: &[&str], pending: &[&str]) {
        let items = |ids: &[&str]| -> Vec<Value> {
            let items = ids.iter().enumerate();
            items
                .map(|(number, id)| json!([number, id, {}, {}, []]))
                .collect()
        };
        let queue = json!({"queue_running": items(running), "queue_pending": items(pending)});
        self.answer("GET /queue", 200, &queue);
    }

    /// A prompt has ended well.
    pub(crate) fn complete(&self, prompt: &str) {
        let entry = json!({"prompt": [0, prompt, {}, {}, []], "outputs": {},
            "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
        let call = format!("GET /history/{prompt}");
        self.answer(&call, 200, &json!({ prompt: entry }));
    }

    /// Tells an event to every socket.
    pub(crate) fn say(&self, event: &Value) {
        // Fails where no socket is open, which the test will find out.
        let _ = self.script.events.send(event.to_string());
    }

    /// Waits until a call has come this often.
    pub(crate) async fn called(&self, call: &str, times: usize) {
        let mut calls = self.script.calls.subscribe();
        let often = |calls: &HashMap<String, usize>| calls.get(call) >= Some(&times);
        let waiting = tokio::time::timeout(CALL_PATIENCE, calls.wait_for(often));
        waiting.await.expect("the call did not come").unwrap();
    }

    pub(crate) fn calls(&self, call: &str) -> usize {
        let calls = self.script.calls.borrow();
        calls.get(call).copied().unwrap_or_default()
    }

    /// Whether new sockets are refused; those that are open stay.
    pub(crate) fn refuse_sockets(&self, refuse: bool) {
        self.script.is_closed.send_replace(refuse);
    }

    /// The body of the prompt that was posted last.
    pub(crate) fn posted(&self) -> Value {
        self.script.posted.lock().unwrap().clone()
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

async fn serve(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let script = script.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(script.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Fails where the test breaks it off.
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn answer(
    script: Arc<Script>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let call = format!("{} {path}", request.method());
    let reply = script.reply_to(&call);
    if call == "GET /ws" && !*script.is_closed.borrow() {
        let (response, socket) = hyper_tungstenite::upgrade(&mut request, None).unwrap();
        let (mut events, calls) = (script.events.subscribe(), script.calls.clone());
        tokio::spawn(async move {
            let mut socket = socket.await.unwrap();
            loop {
                tokio::select! {
                    Ok(event) = events.recv() => if socket.send(Message::text(event)).await.is_err() { break },
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
        return Ok(response);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if call == "POST /prompt" {
        *script.posted.lock().unwrap() = serde_json::from_slice(&body).unwrap();
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
            .body(Full::new(text.into()))
            .unwrap()),
        Reply::Hang => unreachable!("it was waited for another"),
        Reply::Broken => Err(Broken),
    }
}

/// Makes the server break off the connection.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken on purpose")
    }
}

impl std::error::Error for Broken {}
