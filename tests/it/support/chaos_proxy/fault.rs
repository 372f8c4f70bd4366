//! What can go wrong between the relay and ComfyUI.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// One fault. Frames are counted from 0, over all sockets of a play: the fault comes before the frame of
/// that number is handed on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The socket breaks off without a word.
    Cut { frame: usize },
    /// Every connection breaks off, and for a while no new one is taken.
    Refuse { frame: usize, lasts: Duration },
    /// From the frame on, the next answers to a call are spoilt.
    Answers {
        frame: usize,
        call: Call,
        times: usize,
        how: Spoilt,
    },
    /// A frame comes that is none of ComfyUI's.
    Insert { frame: usize, junk: Junk },
    /// The frame comes twice.
    Repeat { frame: usize },
    /// The server is killed, and another one comes in its place, with the history or without.
    Restart { frame: usize, keeps_history: bool },
    /// The socket stays open and healthy, and brings nothing any more.
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
    /// The wish for a socket.
    Socket,
}

/// How an answer is spoilt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spoilt {
    /// With this status.
    Status(u16),
    /// The server sends whoever calls to this port.
    Redirect(u16),
    Slow(Duration),
    /// A page instead of JSON.
    Page,
    /// JSON that ends too early, as a whole answer.
    Garbled,
    /// JSON of another shape.
    Strange,
    /// The connection breaks off in the middle of the answer.
    Cut,
    /// An entry of the history that is there is not shown yet.
    Late,
}

/// What a frame can hold that is no event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Junk {
    /// Not JSON.
    Text,
    /// Not UTF-8, in a text frame.
    NotUtf8,
    /// Random bytes.
    Binary(u64),
    /// A frame that says to be longer than any that is taken.
    TooLong,
    /// A mebibyte of an unknown type.
    Large,
    /// A text and an image, each a little shorter than the longest frame that is taken.
    Huge,
    /// JSON that is nested deeper than any stack.
    Deep,
    /// An event of a type that nobody knows.
    UnknownType,
    /// A known type with fields of wrong types.
    WrongTypes(usize),
    /// Bytes that are no frame.
    NoFrame,
}

/// Known types with data of a wrong shape.
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
    /// A fault of a play of so many frames.
    pub(crate) fn draw(rng: &mut StdRng, frames: usize) -> Self {
        let frame = rng.random_range(0..=frames);
        match rng.random_range(0..9) {
            0 => Self::Cut { frame },
            1 => Self::Refuse {
                frame,
                lasts: Duration::from_millis(rng.random_range(5..300)),
            },
            2 | 3 => Self::answers(rng, frame),
            4 => Self::Insert {
                frame,
                junk: Junk::draw(rng),
            },
            5 => Self::Repeat { frame },
            6 => Self::Answers {
                frame: 0,
                call: Call::History,
                times: rng.random_range(1..8),
                how: Spoilt::Late,
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
            0 => Spoilt::Status(500),
            // Nobody listens there, and nobody may ask.
            1 => Spoilt::Redirect(9),
            // A prompt that was taken without an answer is no fault of a play: it is followed, or nobody's.
            _ if matches!(call, Call::Prompt | Call::Socket) => Spoilt::Status(503),
            2 => Spoilt::Slow(Duration::from_millis(rng.random_range(1..400))),
            3 => Spoilt::Page,
            4 => Spoilt::Garbled,
            5 => Spoilt::Strange,
            _ => Spoilt::Cut,
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

    /// The frame before which it comes.
    pub(crate) fn frame(&self) -> usize {
        match self {
            Self::Cut { frame }
            | Self::Refuse { frame, .. }
            | Self::Answers { frame, .. }
            | Self::Insert { frame, .. }
            | Self::Repeat { frame }
            | Self::Restart { frame, .. }
            | Self::Silence { frame } => *frame,
        }
    }

    /// Whether the relay may lose its socket by it.
    pub(crate) fn loses_sockets(&self) -> bool {
        match self {
            Self::Answers { .. } | Self::Repeat { .. } => false,
            Self::Insert { junk, .. } => {
                matches!(junk, Junk::NotUtf8 | Junk::TooLong | Junk::NoFrame)
            }
            _ => true,
        }
    }
}

impl Junk {
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
            _ => Self::NoFrame,
        }
    }
}
