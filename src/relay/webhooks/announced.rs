//! [`Announced`]: what was announced of a job.

/// Which events of a job were announced to webhooks.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::relay) struct Announced {
    pub(super) is_queued: bool,
    pub(super) is_started: bool,
    pub(super) has_ended: bool,
    /// Progress up to this percentage.
    pub(super) percent: u8,
}

impl Announced {
    /// Those of a job that was read from the database after its end: its owner has announced them.
    pub(in crate::relay) const ALL: Self = Self {
        is_queued: true,
        is_started: true,
        has_ended: true,
        percent: 100,
    };

    /// Whether anything was.
    pub(in crate::relay) fn is_any(self) -> bool {
        self.is_queued
    }
}
