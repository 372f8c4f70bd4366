//! [`Timeline`]: a recording as an ordered list of steps that a server can play to other clients. Pure.
//!
//! A recording is a dialogue. What the recorded client did (posting, opening, closing, deleting) becomes a step that
//! waits for a caller, or that is done to one; what the server did becomes a step that happens to whoever is there.

use bytes::Bytes;
use serde_json::Value;

/// Everything that is played of a recording, with what the server answers beside it.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// The steps in order, each with its time in seconds.
    pub(super) steps: Vec<(f64, Step)>,
    /// The recorded `POST /prompt`s, in order.
    pub(super) prompts: Vec<RecordedPrompt>,
    /// The recorded sockets, in the order of their first opening.
    pub(super) labels: Vec<RecordedSocket>,
    /// The server's answer to a client that opens with its feature flags.
    pub(super) feature_flags: Option<String>,
    /// The answer to `GET /system_stats`.
    pub(super) system_stats: Value,
    /// Whether the server takes the caller's prompt ids (in `/prompt` and `/interrupt`): since 0.3.60.
    pub(super) honours_ids: bool,
    /// Whether execution events carry a timestamp: not in 2023.
    pub(super) stamped: bool,
}

/// One step of a timeline. A prompt is named by its place among the recorded `POST /prompt`s.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// The recorded client posted this prompt: wait until a caller has.
    Post(usize),
    /// A socket heard something.
    Frame(ReceivedFrame),
    /// A socket was opened; `node` is what its greeting said to be executing.
    Open {
        label: usize,
        node: Option<String>,
        awaited: bool,
    },
    /// The recorded client's socket was closed, and the client came back later.
    Close { label: usize, abrupt: bool },
    /// The prompt playbacks.
    Start(usize),
    /// The prompt's end was announced, but the history may not know of it yet.
    Ending(usize),
    /// The recorded client was too early with its reads of the history: give callers the time to be so, too.
    Gap(usize),
    /// The prompt has left the queue and is in the history.
    End(usize),
    /// The prompt left the queue without having playback.
    Gone(usize),
    /// The recorded client had read the prompt's history: wait until a caller has.
    Learned(usize),
    /// The prompt was deleted from the history.
    HistoryDeleted(usize),
    /// The server died, with its queue and history.
    Kill,
    /// The server answers again.
    Restart,
}

impl Step {
    /// The prompt whose fate it is part of: if that takes another course, this does not happen.
    pub(super) fn prompt(&self) -> Option<usize> {
        match self {
            Step::Frame(heard) => heard.prompt,
            Step::Start(k)
            | Step::Ending(k)
            | Step::Gap(k)
            | Step::End(k)
            | Step::Gone(k)
            | Step::Learned(k)
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
    pub(super) label: usize,
    /// The frame, with recorded ids.
    pub(super) payload: Payload,
    /// The prompt it tells of; none for `status`, which tells of the queue.
    pub(super) prompt: Option<usize>,
    /// The node that it says to be executing now.
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
    /// The client id that it connected with, or that the server gave it.
    pub(super) client: String,
    /// Whether a recorded prompt was posted with that client id: otherwise it only observes.
    pub(super) addressed: bool,
}

/// A recorded `POST /prompt`.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordedPrompt {
    /// The graph, by which a caller's prompt is recognised.
    pub(super) graph: Value,
    /// The client id that it was posted with.
    pub(super) client: Option<String>,
    /// The id that the server gave it; none if it was refused.
    pub(super) id: Option<String>,
    /// The status of the answer.
    pub(super) status: u16,
    /// The answer.
    pub(super) answer: Value,
    /// Whether the recorded client asked for a place in the queue (`number`, `front`): its number is then kept.
    pub(super) placed: bool,
    /// The last history entry that was read of it.
    pub(super) history: Option<Value>,
    /// How many reads of its history came too early.
    pub(super) early_reads: u32,
}

impl RecordedPrompt {
    /// The nodes whose outputs were asked for, as `/queue` lists them.
    pub(super) fn outputs(&self) -> Value {
        let listed = self
            .history
            .as_ref()
            .and_then(|entry| entry.pointer("/prompt/4"));
        listed.cloned().unwrap_or_else(|| Value::Array(Vec::new()))
    }
}

impl Timeline {
    /// The socket that stands for all that merely observe: `main` if it does, else the first that does.
    pub(super) fn observer(&self) -> Option<usize> {
        let observes =
            |(index, label): (usize, &RecordedSocket)| (!label.addressed).then_some(index);
        let main = self
            .labels
            .iter()
            .position(|label| !label.addressed && label.name == "main");
        main.or_else(|| self.labels.iter().enumerate().find_map(observes))
    }

    /// Whether a prompt was posted with this client id, and a socket listened with it.
    pub(super) fn listens(&self, client: &str) -> bool {
        self.labels
            .iter()
            .any(|label| label.addressed && label.client == client)
    }
}
