use std::sync::atomic::{AtomicBool, Ordering};

/// What a server can do, as far as its answers have not shown that it cannot.
#[derive(Debug, Default)]
pub(super) struct Abilities {
    has_no_list: AtomicBool,
    shows_no_graph: AtomicBool,
}

impl Abilities {
    /// Whether it may list its jobs, as since 0.5.1.
    pub(super) fn lists_jobs(&self) -> bool {
        !self.has_no_list.load(Ordering::Relaxed)
    }

    /// It does not list its jobs.
    pub(super) fn note_no_list(&self) {
        self.has_no_list.store(true, Ordering::Relaxed);
    }

    /// Whether it may show the graph of a single job, as since 0.34.
    pub(super) fn shows_graphs(&self) -> bool {
        !self.shows_no_graph.load(Ordering::Relaxed)
    }

    /// It shows single jobs without their graphs.
    pub(super) fn note_no_graphs(&self) {
        self.shows_no_graph.store(true, Ordering::Relaxed);
    }

    /// It may be another server now.
    pub(super) fn forget(&self) {
        self.has_no_list.store(false, Ordering::Relaxed);
        self.shows_no_graph.store(false, Ordering::Relaxed);
    }
}
