use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use super::connection::Connection;
use super::publication::{Preview, Publication};

/// What the followers of one job share.
#[derive(Debug)]
pub(super) struct Topic {
    /// The newest state. Snapshot and receiver are taken under this one lock, so that nothing can
    /// fall between them.
    newest: Mutex<Option<Arc<Publication>>>,
    states: broadcast::Sender<Arc<Publication>>,
    previews: watch::Sender<Option<Arc<Preview>>>,
    connections: Mutex<BTreeMap<u64, Connection>>,
}

impl Topic {
    pub(super) fn new(backlog: usize) -> Self {
        Self {
            newest: Mutex::default(),
            states: broadcast::Sender::new(backlog),
            previews: watch::Sender::new(None),
            connections: Mutex::default(),
        }
    }

    pub(super) fn publish(&self, publication: Publication) {
        let publication = Arc::new(publication);
        let mut newest = lock(&self.newest);
        *newest = Some(publication.clone());
        // Fails where nobody follows the job, which is no failure.
        let _ = self.states.send(publication);
    }

    pub(super) fn publish_preview(&self, preview: Preview) {
        self.previews.send_replace(Some(Arc::new(preview)));
    }

    pub(super) fn newest(&self) -> Option<Arc<Publication>> {
        lock(&self.newest).clone()
    }

    /// The newest state, and a receiver of all later ones.
    pub(super) fn follow(
        &self,
    ) -> (
        Option<Arc<Publication>>,
        broadcast::Receiver<Arc<Publication>>,
    ) {
        let newest = lock(&self.newest);
        (newest.clone(), self.states.subscribe())
    }

    pub(super) fn preview(&self) -> Option<Arc<Preview>> {
        self.previews.borrow().clone()
    }

    pub(super) fn follow_previews(&self) -> watch::Receiver<Option<Arc<Preview>>> {
        self.previews.subscribe()
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        lock(&self.connections)
    }
}

/// What these locks guard is whole at any moment, also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
