use jiff::Timestamp;

use super::Bar;
use crate::job::NodeState;

/// One execution of a node, for the job's timeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeRun<'a> {
    /// The run's id.
    pub id: &'a str,
    /// The node of the graph that it counts as.
    pub display: &'a str,
    /// How it stands.
    pub state: NodeState,
    /// Its bar, if it had one.
    pub bar: Option<Bar>,
    /// When it was first heard of.
    pub started_at: Timestamp,
    /// When its end was heard.
    pub ended_at: Option<Timestamp>,
}

impl NodeRun<'_> {
    /// Seconds from its start to its end, or to `now` while that was not heard.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        let until = self.ended_at.unwrap_or(now);
        until.duration_since(self.started_at).as_secs_f64().max(0.0)
    }
}
