use jiff::Timestamp;

/// A job that goes on after a restart: what ran before was not received.
#[derive(Debug, Clone)]
pub(super) struct Resumption {
    /// When the job started.
    pub(super) started_at: Timestamp,
    /// Whether an event has shown which nodes run.
    pub(super) is_over: bool,
    /// How many runs had begun when nodes were inferred last.
    pub(super) runs: usize,
}
