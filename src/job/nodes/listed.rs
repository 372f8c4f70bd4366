/// Whether the reports of all runs have listed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    NotYet,
    Yes,
    /// No longer: the server leaves out those that have finished.
    NoMore,
}
