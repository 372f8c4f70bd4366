/// Where and when a waiting job is planned to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// The index of the backend.
    pub backend: usize,
    /// Seconds until it starts. NaN if that is not known: the backend takes no jobs now, or it is not known how long
    /// one of the jobs before it runs.
    pub starts_in: f64,
    /// Seconds until it ends; NaN if its start or its own runtime is not known.
    pub ends_in: f64,
    /// Whether it is to be handed in now. All such jobs of a plan fit into the backends at once.
    pub now: bool,
}
