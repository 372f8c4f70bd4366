use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long anything is waited for before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the relay, which holds what it hears against the contract.
pub(crate) struct Subscriber {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Every `progress` message so far.
    pub(crate) states: Vec<Value>,
    /// Every `error` message so far.
    pub(crate) errors: Vec<Value>,
    /// Every binary message so far.
    pub(crate) previews: Vec<Vec<u8>>,
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Text(Value),
    Preview(Vec<u8>),
    /// The close code; 1006 where the connection ended without one.
    Closed(u16),
}

impl Subscriber {
    pub(crate) async fn connect(request: impl IntoClientRequest + Unpin) -> Self {
        let (socket, _) = timeout(PATIENCE, connect_async(request))
            .await
            .unwrap()
            .unwrap();
        Self {
            socket,
            states: Vec::new(),
            errors: Vec::new(),
            previews: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_frame(&mut self, frame: Message) {
        self.socket.send(frame).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let frame = timeout(PATIENCE, self.socket.next())
                .await
                .expect("the relay says nothing");
            match frame {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    self.check(&message);
                    return Heard::Text(message);
                }
                Some(Ok(Message::Binary(bytes))) => {
                    self.previews.push(bytes.to_vec());
                    return Heard::Preview(bytes.to_vec());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Heard::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(1006),
            }
        }
    }

    /// Hears until a message satisfies the condition.
    pub(crate) async fn hear_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.hear().await {
                Heard::Text(message) if wanted(&message) => return message,
                Heard::Closed(code) => panic!("closed with {code} before it came"),
                _ => {}
            }
        }
    }

    /// Hears until the relay closes, and tells the code.
    pub(crate) async fn hear_out(&mut self) -> u16 {
        loop {
            if let Heard::Closed(code) = self.hear().await {
                return code;
            }
        }
    }

    /// The last state of a job that has been heard out.
    pub(crate) fn last(&self) -> &Value {
        self.states.last().expect("no state was heard")
    }

    /// The contract: known types; states in order, none behind an earlier one, none after the end.
    fn check(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "progress" => {
                let id = &message["job_id"];
                let percent = message["progress"].as_u64().unwrap();
                if let Some(before) = self
                    .states
                    .iter()
                    .rev()
                    .find(|state| state["job_id"] == *id)
                {
                    assert!(
                        before["seq"].as_u64() < message["seq"].as_u64(),
                        "{before} then {message}"
                    );
                    assert!(
                        before["progress"].as_u64().unwrap() <= percent,
                        "{before} then {message}"
                    );
                    assert!(!is_final(before), "{before} then {message}");
                }
                assert_eq!(
                    percent == 100,
                    message["status"] == "completed",
                    "{message}"
                );
                assert_eq!(
                    message["error"].is_string(),
                    message["status"] == "failed",
                    "{message}"
                );
                for field in ["message", "timestamp"] {
                    assert!(message[field].is_string(), "{message}");
                }
                assert!(message.get("estimated_remaining").is_some(), "{message}");
                self.states.push(message.clone());
            }
            "error" => self.errors.push(message.clone()),
            "connection" | "auth" | "ping" | "pong" | "system_status" => {}
            other => panic!("an undocumented type: {other}"),
        }
    }
}

/// Whether a `progress` message is the last one of its job.
pub(crate) fn is_final(state: &Value) -> bool {
    ["completed", "failed", "cancelled"]
        .iter()
        .any(|status| state["status"] == *status)
}
