use jiff::Timestamp;

use super::bar::Bar;
use crate::job::NodeState;

/// One execution of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeRun<'a> {
    /// The run's id.
    pub id: &'a str,
    /// The node of the graph that it counts as.
    pub display: &'a str,
    /// Its state.
    pub state: NodeState,
    /// Its bar, if it had one.
    pub bar: Option<Bar>,
    /// When its first message was received.
    pub started_at: Timestamp,
    /// When the message of its end was received.
    pub ended_at: Option<Timestamp>,
}

impl NodeRun<'_> {
    /// Seconds from its start to its end, or to `now` while it runs.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        let until = self.ended_at.unwrap_or(now);
        until.duration_since(self.started_at).as_secs_f64().max(0.0)
    }
}
