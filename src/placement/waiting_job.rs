/// A job that waits to be handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingJob {
    /// The index of its kind.
    pub kind: usize,
    /// Jobs of a higher priority go first.
    pub priority: i64,
    /// When it came in: of jobs of one priority, the lower goes first.
    pub order: u64,
    /// Whose share of the time it uses, as a number; jobs without one have a share together.
    pub share: Option<u32>,
}
