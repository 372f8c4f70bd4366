use jiff::Timestamp;

/// When a service expects to be ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServiceEnd {
    /// The whole time of the node by the first figure, in seconds.
    pub first_whole: f64,
    /// The end by the newest one.
    pub expected_at: Timestamp,
}
