//! A WebSocket client of the relay that checks every message against the protocol.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::message_description::MessageDescription;
use super::wait::PATIENCE;

/// How long a test waits for one message among others.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// A subscriber of one or several jobs, or of the monitor.
pub(crate) struct Subscriber {
    /// The channel of the AsyncAPI document.
    channel: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Every `progress` message so far.
    pub(crate) states: Vec<Value>,
    /// Every `error` message so far.
    pub(crate) errors: Vec<Value>,
    /// Every binary message so far.
    pub(crate) previews: Vec<Vec<u8>>,
}

/// What a subscriber receives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    Text(Value),
    Preview(Vec<u8>),
    /// The close code: 1005 for a close frame without one, 1006 for a connection that ended without a close
    /// frame (RFC 6455, section 7.1.5).
    Closed(u16),
}

impl Subscriber {
    pub(crate) async fn connect(request: impl IntoClientRequest + Unpin) -> Self {
        let request = request.into_client_request().unwrap();
        let path = request.uri().path().trim_end_matches('/');
        // A proxy may have the relay below a prefix.
        let address = &path[path.find("/ws/").unwrap()..];
        let channel = MessageDescription::kept().channel(address);
        let channel = channel.unwrap_or_else(|| panic!("{address} is not documented"));
        let connecting = timeout(PATIENCE, connect_async(request)).await;
        let (socket, _) = connecting.unwrap().unwrap();
        Self {
            channel: channel.to_owned(),
            socket,
            states: Vec::new(),
            errors: Vec::new(),
            previews: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.send_frame(Message::text(text)).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: Message) {
        self.socket.send(frame).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            let frame = timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("the relay sends nothing") {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    self.check(&message);
                    return Received::Text(message);
                }
                Some(Ok(Message::Binary(bytes))) => {
                    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
                    let head = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
                    let checked = MessageDescription::kept().check_preview(&self.channel, &head);
                    checked.unwrap();
                    self.previews.push(bytes.to_vec());
                    return Received::Preview(bytes.to_vec());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Received::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Closed(1006),
            }
        }
    }

    /// Receives the greeting, which is the first message of every socket.
    pub(crate) async fn receive_greeting(&mut self) -> Value {
        match self.receive().await {
            Received::Text(greeting) if greeting["type"] == "connection" => greeting,
            other => panic!("not a greeting: {other:?}"),
        }
    }

    /// Receives until a message satisfies the condition.
    pub(crate) async fn receive_until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let receiving = timeout(LONG_PATIENCE, async {
            loop {
                match self.receive().await {
                    Received::Text(message) if is_wanted(&message) => return message,
                    Received::Closed(code) => panic!("closed with {code} before it came"),
                    _ => {}
                }
            }
        });
        receiving.await.expect("other messages come instead")
    }

    /// Receives until a message has this type.
    pub(crate) async fn receive_type(&mut self, kind: &str) -> Value {
        self.receive_until(|message| message["type"] == kind).await
    }

    /// Receives until the relay closes, and returns the close code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let Received::Closed(code) = self.receive().await {
                return code;
            }
        }
    }

    /// Receives until the last job has ended and the relay closes normally, and checks the final status.
    pub(crate) async fn ends_as(&mut self, status: &str) {
        assert_eq!(self.close_code().await, 1000, "{:?}", self.states);
        assert_eq!(self.last()["status"], status, "{}", self.last());
    }

    /// Sends a ping message and waits for the answer: everything that was sent before has been handled.
    pub(crate) async fn ping(&mut self) {
        assert!(self.try_ping().await, "closed before the answer to a ping");
    }

    /// Sends a ping message; whether it is answered before the relay closes.
    pub(crate) async fn try_ping(&mut self) -> bool {
        self.send(r#"{"type": "ping"}"#).await;
        loop {
            match self.receive().await {
                Received::Text(message) if message["type"] == "pong" => return true,
                Received::Closed(_) => return false,
                _ => {}
            }
        }
    }

    /// The last state that was received.
    pub(crate) fn last(&self) -> &Value {
        self.states.last().expect("no state was received")
    }

    /// Checks the protocol: documented messages; states in order, progress that never falls, nothing after the end.
    fn check(&mut self, message: &Value) {
        let checked = MessageDescription::kept().check_sent(&self.channel, message);
        checked.unwrap();
        match message["type"].as_str().unwrap() {
            "progress" => {
                self.check_state(message);
                self.states.push(message.clone());
            }
            "error" => self.errors.push(message.clone()),
            _ => {}
        }
    }

    fn check_state(&self, state: &Value) {
        let progress = state["progress"].as_u64().unwrap();
        let of_same_job = |other: &&Value| other["job_id"] == state["job_id"];
        if let Some(before) = self.states.iter().rev().find(of_same_job) {
            let in_order = before["seq"].as_u64() < state["seq"].as_u64();
            let falls = before["progress"].as_u64().unwrap() > progress;
            let is_valid = in_order && !falls && !is_final(before);
            assert!(is_valid, "{before} then {state}");
        }
        let is_completed = state["status"] == "completed";
        assert_eq!(progress == 100, is_completed, "{state}");
        let is_failed = state["status"] == "failed";
        assert_eq!(state["error"].is_string(), is_failed, "{state}");
        for field in ["message", "timestamp"] {
            assert!(state[field].is_string(), "{state}");
        }
        assert!(state.get("estimated_remaining").is_some(), "{state}");
    }
}

/// Whether a `progress` message is the last one of its job.
pub(crate) fn is_final(state: &Value) -> bool {
    let statuses = ["completed", "failed", "cancelled"];
    statuses.iter().any(|status| state["status"] == *status)
}

/// Whether a `progress` message shows that ComfyUI does not answer, and since when.
pub(crate) fn waits_for_comfyui(state: &Value) -> bool {
    let message = state["message"].as_str().unwrap_or_default();
    message.starts_with("Waiting for ComfyUI to answer, since ") && message.ends_with(" UTC")
}
