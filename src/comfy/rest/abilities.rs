use std::sync::atomic::{AtomicBool, Ordering};

/// What a server can do, as far as its answers have not shown that it cannot.
#[derive(Debug, Default)]
pub(super) struct Abilities {
    has_no_list: AtomicBool,
    /// The newest request for its list was not answered.
    list_is_late: AtomicBool,
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

    /// It has not answered for its list, which passes, as when its event loop stands still for a moment. If it does not the next
    /// time either, it does not list its jobs.
    pub(super) fn note_late_list(&self) {
        if self.list_is_late.swap(true, Ordering::Relaxed) {
            self.note_no_list();
        }
    }

    /// It has answered for its list.
    pub(super) fn note_answered_list(&self) {
        self.list_is_late.store(false, Ordering::Relaxed);
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
        self.list_is_late.store(false, Ordering::Relaxed);
        self.shows_no_graph.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_answer_does_not_stand_for_all() {
        let abilities = Abilities::default();
        abilities.note_late_list();
        assert!(abilities.lists_jobs());
        abilities.note_answered_list();
        abilities.note_late_list();
        assert!(abilities.lists_jobs());
        abilities.note_late_list();
        assert!(!abilities.lists_jobs());
        abilities.forget();
        abilities.note_late_list();
        assert!(abilities.lists_jobs());
    }
}
