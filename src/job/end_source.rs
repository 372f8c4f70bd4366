/// Where the end of a job was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSource {
    /// From an event on ComfyUI's socket.
    Ws,
    /// From the prompt's entry in the history.
    History,
    /// From its reason in the queue and the history.
    Queue,
    /// From a producer that is not ComfyUI.
    Producer,
}

impl EndSource {
    const ALL: [Self; 4] = [Self::Ws, Self::History, Self::Queue, Self::Producer];

    /// The source that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// The word in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::History => "history",
            Self::Queue => "queue",
            Self::Producer => "producer",
        }
    }
}
