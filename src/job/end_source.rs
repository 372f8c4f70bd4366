use crate::wire_schema::word_schema;

/// How the end of a job was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSource {
    /// By an event on ComfyUI's WebSocket.
    Ws,
    /// By the prompt's entry in ComfyUI's history.
    History,
    /// Because the prompt was in neither the queue nor the history.
    Queue,
    /// By a report of a producer other than ComfyUI.
    Producer,
    /// The relay has ended it itself: its producer was silent for too long, or it was cancelled where nobody runs it.
    Relay,
}

impl EndSource {
    const ALL: [Self; 5] = [
        Self::Ws,
        Self::History,
        Self::Queue,
        Self::Producer,
        Self::Relay,
    ];

    /// The inverse of [`EndSource::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// Its word in logs, in the database and in responses (`learned_from`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::History => "history",
            Self::Queue => "queue",
            Self::Producer => "producer",
            Self::Relay => "relay",
        }
    }
}

word_schema!(EndSource, "How the end of a job was learned.");
