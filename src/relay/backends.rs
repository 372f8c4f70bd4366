//! [`Backends`]: the ComfyUI servers that the relay follows, configured or added while it runs.

use std::ops::Index;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::Backend;
use super::slots::Slots;

/// How many backends are added until the relay is restarted, those that were removed again counted: each costs some memory for
/// each kind of job that waits.
pub(super) const MAX_ADDED: usize = 4_096;

/// The backends. One that is removed keeps its index until the relay ends, and is passed over.
#[derive(Debug)]
pub(super) struct Backends {
    slots: Slots<Arc<Backend>>,
    /// How often one was added or removed.
    revision: AtomicU64,
}

impl Backends {
    /// The configured ones.
    pub(super) fn new(configured: Vec<Arc<Backend>>) -> Self {
        Self {
            slots: Slots::new(configured, MAX_ADDED),
            revision: AtomicU64::new(0),
        }
    }

    /// Those that there are now.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Backend>> + Clone {
        self.slots.iter().filter(|backend| !backend.is_removed())
    }

    /// By their indices, those that were removed among them.
    pub(super) fn slots(&self) -> impl DoubleEndedIterator<Item = &Arc<Backend>> + Clone {
        self.slots.iter()
    }

    /// How many there are, those that were removed counted: the index of the next one.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The one with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Backend>> {
        self.iter().find(|backend| backend.name() == name)
    }

    /// How often one was added or removed: as long as this stays, the same ones are there.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Adds one with the index [`Backends::slot_count`]. Returns whether there was room. Only one may be added at a time.
    pub(super) fn add(&self, backend: Arc<Backend>) -> bool {
        let is_added = self.slots.push(backend);
        self.revision.fetch_add(1, Ordering::AcqRel);
        is_added
    }

    /// Removes one.
    pub(super) fn remove(&self, backend: &Backend) {
        backend.set_removed();
        self.revision.fetch_add(1, Ordering::AcqRel);
    }
}

impl Index<usize> for Backends {
    type Output = Arc<Backend>;

    fn index(&self, index: usize) -> &Arc<Backend> {
        &self.slots[index]
    }
}
