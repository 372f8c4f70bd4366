use crate::wire_schema::word_schema;

/// The state of one node in [`Event::Nodes`](super::Event::Nodes).
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// The id of the run.
    pub node: String,
    /// The node of the graph that it counts as.
    pub display: Option<String>,
    /// The position of its bar.
    pub value: f64,
    /// The length of its bar; 1 for a node without one.
    pub max: f64,
    /// Running, finished or failed.
    pub state: NodeState,
    /// Whether the node is loading a model.
    pub loading: bool,
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It runs.
    Running,
    /// It has run to its end.
    Finished,
    /// It need not run: its result is cached.
    Cached,
    /// It raised an error.
    Failed,
    /// It ran when the job was cancelled.
    Interrupted,
}

impl NodeState {
    const ALL: [Self; 5] = [
        Self::Running,
        Self::Finished,
        Self::Cached,
        Self::Failed,
        Self::Interrupted,
    ];

    /// The state of a word in the API.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Its word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

word_schema!(NodeState, "The state of a node.");
