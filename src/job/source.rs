/// Where the end of a job was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From an event on ComfyUI's socket.
    Ws,
    /// From the prompt's entry in the history.
    History,
    /// From its absence in the queue and the history.
    Queue,
    /// From a producer that is not ComfyUI.
    Producer,
}

impl Source {
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
