//! Whether a job can be taken.

use crate::config::Dispatch;
use crate::relay::Relay;
use crate::relay::backend::operation::Operation;

/// Why no job can be taken at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The relay stops.
    #[error("the relay is being stopped")]
    Stopping,
    /// What is taken cannot be stored.
    #[error("the database does not answer")]
    Database,
    /// No server is to take anything.
    #[error("operators have stopped or removed every ComfyUI server")]
    Stopped,
    /// Nothing is kept here, and no server answers.
    #[error("no ComfyUI server that may take a job answers")]
    Unreachable,
}

impl NotReady {
    /// A stable word for it: the one with which a submission would be refused.
    pub fn code(self) -> &'static str {
        match self {
            Self::Stopping => "going_away",
            Self::Database => "database_unreachable",
            Self::Stopped => "paused",
            Self::Unreachable => "backend_unreachable",
        }
    }
}

impl Relay {
    /// Whether a job can be taken, by what is known already: no server and no database is asked.
    ///
    /// With a queue of its own, the relay takes jobs while its servers are away or stopped, and hands them in later.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.0.stop.is_cancelled() {
            return Err(NotReady::Stopping);
        }
        let tracker = &self.0.tracker;
        // An idle relay writes nothing, and reads what operators have stopped each second.
        if !tracker.recorder.is_ready() || !tracker.queue.operations.is_readable() {
            return Err(NotReady::Database);
        }
        if self.0.config.dispatch != Dispatch::Direct {
            return Ok(());
        }
        let backends = tracker.backends.iter();
        let mut running = backends
            .filter(|backend| backend.state().operation == Operation::Run)
            .peekable();
        if running.peek().is_none() {
            return Err(NotReady::Stopped);
        }
        if !running.any(|backend| *backend.connected.borrow()) {
            return Err(NotReady::Unreachable);
        }
        Ok(())
    }
}
