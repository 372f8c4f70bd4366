//! [`RecordedFrame`]: one line of `ws.jsonl`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happened on one of the recorded sockets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FrameLine", into = "FrameLine")]
pub struct RecordedFrame {
    /// Seconds since the recording began.
    pub t: f64,
    /// Which of the recorded client's sockets; `main` belongs to the submitter.
    pub socket: String,
    /// What happened.
    pub kind: FrameKind,
}

/// What happened on a recorded socket.
#[derive(Debug, Clone, PartialEq)]
pub enum FrameKind {
    /// The socket received a text frame, verbatim.
    Text(String),
    /// The socket received a binary frame, verbatim.
    Binary(Bytes),
    /// The socket was opened.
    Open {
        /// Path and query of the request, for example `/ws?clientId=…`.
        url: String,
    },
    /// The socket was closed.
    Close {
        /// Whether the recorded client closed it, not the server.
        by_client: bool,
        /// Whether the TCP connection was closed without a close frame.
        abrupt: bool,
        /// The close code; 1006 if the connection ended without a close frame.
        code: Option<u16>,
    },
    /// The recorded client sent this: JSON, or a string that is not JSON.
    Sent(Value),
    /// Another event (`ping-sent`, `pong`, …), by its name.
    Other(String),
}

/// A line of `ws.jsonl`, with every key that the format has.
#[derive(Serialize, Deserialize)]
struct FrameLine {
    t: f64,
    socket: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    abrupt: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<Value>,
}

impl TryFrom<FrameLine> for RecordedFrame {
    type Error = String;

    fn try_from(line: FrameLine) -> Result<RecordedFrame, String> {
        let kind = if let Some(text) = line.text {
            FrameKind::Text(text)
        } else if let Some(binary) = line.binary {
            let bytes = STANDARD
                .decode(binary)
                .map_err(|error| format!("`binary` is not base64: {error}"))?;
            FrameKind::Binary(bytes.into())
        } else if let Some(sent) = line.sent {
            FrameKind::Sent(sent)
        } else {
            match line.event.as_deref() {
                Some("open") => FrameKind::Open {
                    url: line.url.ok_or("an `open` event needs its `url`")?,
                },
                Some("close") => FrameKind::Close {
                    by_client: line.by.as_deref() == Some("client"),
                    abrupt: line.abrupt.unwrap_or(false),
                    code: line.code,
                },
                Some(other) => FrameKind::Other(other.to_owned()),
                None => return Err("a frame needs `text`, `binary`, `sent` or `event`".to_owned()),
            }
        };
        Ok(RecordedFrame {
            t: line.t,
            socket: line.socket,
            kind,
        })
    }
}

impl From<RecordedFrame> for FrameLine {
    fn from(frame: RecordedFrame) -> FrameLine {
        let mut line = FrameLine {
            t: frame.t,
            socket: frame.socket,
            text: None,
            binary: None,
            event: None,
            url: None,
            by: None,
            abrupt: None,
            code: None,
            sent: None,
        };
        match frame.kind {
            FrameKind::Text(text) => line.text = Some(text),
            FrameKind::Binary(bytes) => line.binary = Some(STANDARD.encode(bytes)),
            FrameKind::Sent(sent) => line.sent = Some(sent),
            FrameKind::Open { url } => {
                line.event = Some("open".to_owned());
                line.url = Some(url);
            }
            FrameKind::Close {
                by_client,
                abrupt,
                code,
            } => {
                line.event = Some("close".to_owned());
                line.by = Some(if by_client { "client" } else { "server" }.to_owned());
                line.abrupt = abrupt.then_some(true);
                line.code = code;
            }
            FrameKind::Other(name) => line.event = Some(name),
        }
        line
    }
}
