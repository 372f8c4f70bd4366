//! Where a submission is: the words in its row.

/// It waits for a backend.
pub(super) const WAITING: &str = "waiting";

/// A backend has it, or is claimed for it.
pub(super) const HANDED_IN: &str = "handed_in";

/// A relay cancels its job.
pub(super) const WITHDRAWN: &str = "withdrawn";
