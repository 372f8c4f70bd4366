//! [`QueueWait`]: what is known of a job that waits in the relay's own queue.

use std::sync::Arc;

/// What is known of a job that waits in the relay's own queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueWait {
    /// How many jobs run or wait before it on the backend for which it is planned; `None` if it is planned for none.
    pub ahead: Option<usize>,
    /// The name of the backend for which it is planned; another one may take it.
    pub backend: Option<Arc<str>>,
    /// Why no backend takes it, as a part of a sentence; `None` if others only come first.
    pub reason: Option<Arc<str>>,
}
