//! [`Timeline`]: a recording as an ordered list of steps that a server can play to other clients. Pure.
//!
//! What the recorded client did (posting, connecting, closing, deleting) becomes a step that waits until a client of the
//! replay has done the same, or that is done to the client; what the server did becomes a step that affects whichever
//! clients are connected.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;

use crate::job::ImageFile;
use crate::recording::RecordedInput;

/// Everything that is played of a recording, and what the server responds besides.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// The steps in order, each with its time in seconds.
    pub(super) steps: Vec<(f64, Step)>,
    /// The recorded `POST /prompt`s, in order.
    pub(super) prompts: Vec<RecordedPrompt>,
    /// The recorded sockets, in the order in which they were first opened.
    pub(super) sockets: Vec<RecordedSocket>,
    /// The message that the server sends to a client whose first message is its feature flags.
    pub(super) feature_flags: Option<String>,
    /// The response to `GET /system_stats`.
    pub(super) system_stats: Value,
    /// Whether the server uses the prompt ids that clients send with `/prompt` and `/interrupt`: since 0.3.60.
    pub(super) uses_client_ids: bool,
    /// Whether the server lists jobs without their graphs: since 0.5.1.
    pub(super) lists_jobs: bool,
    /// Whether the server cancels a prompt by its id, and says whether it has: since 0.25.
    pub(super) cancels_by_id: bool,
    /// Whether execution events carry a timestamp: not in 2023.
    pub(super) has_timestamps: bool,
    /// The pictures that its graphs load.
    pub(super) inputs: HashMap<ImageFile, RecordedInput>,
}

/// One step of a timeline. A prompt is named by its index in [`Timeline::prompts`], a socket by its index in
/// [`Timeline::sockets`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// The recorded client posted this prompt: wait until a client has.
    Post(usize),
    /// A socket received a frame.
    Frame(ReceivedFrame),
    /// A socket was opened.
    Open {
        socket: usize,
        /// The node that the server's greeting named as executing.
        node: Option<String>,
        /// Whether to wait until a client has opened its socket, too.
        awaited: bool,
    },
    /// The recorded client's socket was closed, and the client reconnected later.
    Close { socket: usize, abrupt: bool },
    /// The prompt begins to run.
    Start(usize),
    /// The prompt's end was announced, but its history entry may not exist yet.
    EndAnnounced(usize),
    /// The recorded client read the history too early: give clients the time to do so, too.
    EarlyReads(usize),
    /// The prompt has left the queue and is in the history.
    End(usize),
    /// The prompt left the queue without having run.
    Removed(usize),
    /// The recorded client had read the prompt's history: wait until a client has.
    HistoryRead(usize),
    /// The prompt was deleted from the history.
    HistoryDeleted(usize),
    /// The server died, with its queue and history.
    Kill,
    /// The server accepts connections again.
    Restart,
}

impl Step {
    /// The prompt that the step is about: if that prompt takes another course, the step is skipped.
    pub(super) fn prompt(&self) -> Option<usize> {
        match self {
            Step::Frame(frame) => frame.prompt,
            Step::Start(k)
            | Step::EndAnnounced(k)
            | Step::EarlyReads(k)
            | Step::End(k)
            | Step::Removed(k)
            | Step::HistoryRead(k)
            | Step::HistoryDeleted(k) => Some(*k),
            Step::Post(_) | Step::Open { .. } | Step::Close { .. } | Step::Kill | Step::Restart => {
                None
            }
        }
    }
}

/// A frame that a recorded socket received.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReceivedFrame {
    /// Which socket.
    pub(super) socket: usize,
    /// The frame, with recorded ids.
    pub(super) payload: Payload,
    /// The prompt that it is about; none for `status`, which is about the queue.
    pub(super) prompt: Option<usize>,
    /// The node that it names as executing now.
    pub(super) executing: Option<String>,
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Payload {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}

/// A recorded socket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RecordedSocket {
    /// Its name in the recording.
    pub(super) name: String,
    /// The client id that it connected with, or that the server assigned to it.
    pub(super) client_id: String,
    /// Whether a recorded prompt was posted with that client id: otherwise it only observes.
    pub(super) submits: bool,
}

/// A recorded `POST /prompt`.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordedPrompt {
    /// The graph, by which a client's prompt is recognised.
    pub(super) graph: Value,
    /// The client id that it was posted with.
    pub(super) client_id: Option<String>,
    /// The id that the server assigned; none if it rejected the prompt.
    pub(super) id: Option<String>,
    /// The status of the response.
    pub(super) status: u16,
    /// The body of the response.
    pub(super) response: Value,
    /// Whether the recorded client asked for a place in the queue (`number`, `front`): the recorded number is then kept.
    pub(super) keeps_number: bool,
    /// The last history entry that was read of it.
    pub(super) history: Option<Value>,
    /// How many reads of its history came too early.
    pub(super) early_reads: u32,
}

impl RecordedPrompt {
    /// The nodes whose outputs were requested, as `/queue` lists them.
    pub(super) fn outputs(&self) -> Value {
        let listed = self
            .history
            .as_ref()
            .and_then(|entry| entry.pointer("/prompt/4"));
        listed.cloned().unwrap_or_else(|| Value::Array(Vec::new()))
    }
}

impl Timeline {
    /// The socket that stands for all clients that only observe: `main` if it observes, else the first that does.
    pub(super) fn observer(&self) -> Option<usize> {
        let observes = |name: Option<&str>| {
            self.sockets
                .iter()
                .position(|socket| !socket.submits && name.is_none_or(|name| socket.name == name))
        };
        observes(Some("main")).or_else(|| observes(None))
    }

    /// Whether a prompt was posted with this client id, and a socket was opened with it.
    pub(super) fn has_submitter(&self, client_id: &str) -> bool {
        self.sockets
            .iter()
            .any(|socket| socket.submits && socket.client_id == client_id)
    }
}
