//! What can go wrong between the relay and ComfyUI.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// One fault. Frames are numbered from 0 over all sockets: the fault happens before that frame is forwarded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The socket is closed without a close frame.
    Disconnect { frame: usize },
    /// Every connection is closed, and new ones are refused for a while.
    Refuse { frame: usize, lasts: Duration },
    /// The next answers to a call are bad.
    Answers {
        frame: usize,
        call: Call,
        times: usize,
        how: BadAnswer,
    },
    /// Another frame is inserted, which ComfyUI did not send.
    Insert {
        frame: usize,
        malformed: MalformedFrame,
    },
    /// The frame is sent twice.
    Repeat { frame: usize },
    /// The server is replaced by a new one, with its history or without.
    Restart { frame: usize, keeps_history: bool },
    /// The socket stays open, answers pings, and forwards nothing more.
    Silence { frame: usize },
}

/// A call that ComfyUI answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Call {
    Queue,
    /// The history of one prompt.
    History,
    Prompt,
    Stats,
    /// The request for a socket.
    Socket,
}

/// How an answer is bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum BadAnswer {
    /// It has this status.
    Status(u16),
    /// It redirects to this port.
    Redirect(u16),
    Slow(Duration),
    /// HTML instead of JSON.
    Page,
    /// Complete, but the JSON ends too early.
    InvalidJson,
    /// JSON of another shape.
    OtherShape,
    /// The connection is closed in the middle of it.
    Truncated,
    /// An entry that is in the history is missing.
    Late,
}

/// A frame that is not an event of ComfyUI.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MalformedFrame {
    /// Not JSON.
    Text,
    /// Not UTF-8, in a text frame.
    NotUtf8,
    /// Random bytes.
    Binary(u64),
    /// A header that announces more than the longest accepted frame.
    TooLong,
    /// A mebibyte of an unknown type.
    Large,
    /// A text and an image, each a little shorter than the longest accepted frame.
    Huge,
    /// JSON nested deeper than any stack.
    Deep,
    /// An event of an unknown type.
    UnknownType,
    /// A known type with fields of wrong types.
    WrongTypes(usize),
    /// A frame with a reserved opcode.
    ReservedOpcode,
}

/// Known types with data of the wrong shape.
pub(crate) const WRONG_TYPES: [&str; 12] = [
    r#"{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": -1}}}}"#,
    r#"{"type": "status", "data": null}"#,
    r#"{"type": "executing", "data": {"node": 17, "prompt_id": {}}}"#,
    r#"{"type": "executing", "data": []}"#,
    r#"{"type": "progress", "data": {"value": "x", "max": null, "prompt_id": 5}}"#,
    r#"{"type": "progress", "data": {"value": NaN, "max": Infinity}}"#,
    r#"{"type": "progress_state", "data": {"prompt_id": "p", "nodes": [1, 2]}}"#,
    r#"{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {"3": null}}}"#,
    r#"{"type": "executed", "data": {"output": 7, "node": 9, "prompt_id": "p"}}"#,
    r#"{"type": "execution_error", "data": {"exception_message": {}, "prompt_id": []}}"#,
    r#"{"type": "execution_success", "data": "p"}"#,
    r#"{"type": 5, "data": {}}"#,
];

impl Fault {
    /// A random fault for a recording of so many frames.
    pub(crate) fn draw(rng: &mut StdRng, frames: usize) -> Self {
        let frame = rng.random_range(0..=frames);
        match rng.random_range(0..9) {
            0 => Self::Disconnect { frame },
            1 => Self::Refuse {
                frame,
                lasts: Duration::from_millis(rng.random_range(5..300)),
            },
            2 | 3 => Self::answers(rng, frame),
            4 => Self::Insert {
                frame,
                malformed: MalformedFrame::draw(rng),
            },
            5 => Self::Repeat { frame },
            6 => Self::Answers {
                frame: 0,
                call: Call::History,
                // Withheld for longer than `history_grace`, the prompt would rightly count as lost.
                times: rng.random_range(1..3),
                how: BadAnswer::Late,
            },
            7 => Self::Restart {
                frame,
                keeps_history: rng.random(),
            },
            _ => Self::Silence { frame },
        }
    }

    fn answers(rng: &mut StdRng, frame: usize) -> Self {
        let calls = [
            Call::Queue,
            Call::History,
            Call::Stats,
            Call::Prompt,
            Call::Socket,
        ];
        let call = calls[rng.random_range(0..calls.len())];
        let how = match rng.random_range(0..7) {
            0 => BadAnswer::Status(500),
            // Nothing listens on port 9, and the relay must not connect to it.
            1 => BadAnswer::Redirect(9),
            // If only the answer to a prompt were lost, the prompt would run without a job.
            _ if matches!(call, Call::Prompt | Call::Socket) => BadAnswer::Status(503),
            2 => BadAnswer::Slow(Duration::from_millis(rng.random_range(1..400))),
            3 => BadAnswer::Page,
            4 => BadAnswer::InvalidJson,
            5 => BadAnswer::OtherShape,
            _ => BadAnswer::Truncated,
        };
        let (frame, times) = match call {
            Call::Prompt | Call::Socket => (0, rng.random_range(1..3)),
            _ => (frame, rng.random_range(1..8)),
        };
        Self::Answers {
            frame,
            call,
            times,
            how,
        }
    }

    /// The frame before which it happens.
    pub(crate) fn frame(&self) -> usize {
        match self {
            Self::Disconnect { frame }
            | Self::Refuse { frame, .. }
            | Self::Answers { frame, .. }
            | Self::Insert { frame, .. }
            | Self::Repeat { frame }
            | Self::Restart { frame, .. }
            | Self::Silence { frame } => *frame,
        }
    }

    /// Whether it can make the relay lose its socket.
    pub(crate) fn disconnects(&self) -> bool {
        match self {
            Self::Answers { .. } | Self::Repeat { .. } => false,
            Self::Insert { malformed, .. } => {
                matches!(
                    malformed,
                    MalformedFrame::NotUtf8
                        | MalformedFrame::TooLong
                        | MalformedFrame::ReservedOpcode
                )
            }
            _ => true,
        }
    }
}

impl MalformedFrame {
    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..9) {
            0 => Self::Text,
            1 => Self::NotUtf8,
            2 => Self::Binary(rng.random()),
            3 => Self::TooLong,
            4 => Self::Large,
            5 => Self::Deep,
            6 => Self::UnknownType,
            7 => Self::WrongTypes(rng.random_range(0..WRONG_TYPES.len())),
            _ => Self::ReservedOpcode,
        }
    }
}
