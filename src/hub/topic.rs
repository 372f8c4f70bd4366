use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::{Notify, broadcast};

use super::connection::Connection;
use super::lock::{Mutex, MutexGuard};
use super::mailbox::{Mailbox, Update};
use super::publication::{Preview, Publication};

static NEXT_CONNECTION_ID: AtomicU64 = AtomicU64::new(0);

/// What the subscribers of one job share.
#[derive(Debug)]
pub(super) struct Topic {
    /// Snapshot and receiver are taken under this one lock, so that no state falls between them.
    newest: Mutex<Newest>,
    /// How many publications are kept for a receiver that lags.
    backlog: usize,
    connections: Mutex<BTreeMap<u64, Connection>>,
    /// Notified of each preview.
    pub(super) previewed: Notify,
}

#[derive(Debug, Default)]
struct Newest {
    state: Option<Arc<Publication>>,
    preview: Option<Arc<Preview>>,
    /// The number of the last preview, also after that is forgotten.
    preview_seq: u64,
    /// Only while there are receivers: it has room for the whole backlog.
    states: Option<broadcast::Sender<Arc<Publication>>>,
    /// Where later updates are delivered.
    mailboxes: Vec<Arc<Mailbox>>,
    /// How many wait for a preview without being subscribers.
    preview_waits: usize,
}

impl Topic {
    pub(super) fn new(backlog: usize) -> Self {
        Self {
            newest: Mutex::default(),
            backlog,
            connections: Mutex::default(),
            previewed: Notify::new(),
        }
    }

    pub(super) fn publish(&self, publication: Publication) {
        let publication = Arc::new(publication);
        let mut newest = lock(&self.newest);
        newest.state = Some(publication.clone());
        for mailbox in &newest.mailboxes {
            mailbox.deliver(Update::State(publication.clone()));
        }
        if let Some(states) = &newest.states {
            // An error means that there is no receiver, which is no failure.
            let _ = states.send(publication);
        }
    }

    /// Puts a state in place of the newest one, if that has the same number, or is an end as well.
    pub(super) fn replace(&self, publication: Publication) {
        let mut newest = lock(&self.newest);
        let is_it = |state: &Arc<Publication>| {
            state.seq == publication.seq || (state.is_final() && publication.is_final())
        };
        if newest.state.as_ref().is_some_and(is_it) {
            newest.state = Some(Arc::new(publication));
        }
    }

    /// Publishes a preview under its number, or a higher one: subscribers discard what is not newer, and a relay that takes
    /// over a job counts from the beginning. Returns what was published.
    pub(super) fn publish_preview(&self, preview: Preview) -> Arc<Preview> {
        let mut newest = lock(&self.newest);
        newest.preview_seq = preview.seq.max(newest.preview_seq + 1);
        let preview = Arc::new(Preview {
            seq: newest.preview_seq,
            ..preview
        });
        newest.preview = Some(preview.clone());
        for mailbox in &newest.mailboxes {
            mailbox.deliver(Update::Preview(preview.clone()));
        }
        self.previewed.notify_waiters();
        preview
    }

    pub(super) fn forget_preview(&self) {
        lock(&self.newest).preview = None;
    }

    pub(super) fn newest(&self) -> Option<Arc<Publication>> {
        lock(&self.newest).state.clone()
    }

    pub(super) fn preview(&self) -> Option<Arc<Preview>> {
        lock(&self.newest).preview.clone()
    }

    /// The newest state, and a receiver of all later ones.
    pub(super) fn subscribe(
        &self,
    ) -> (
        Option<Arc<Publication>>,
        broadcast::Receiver<Arc<Publication>>,
    ) {
        let mut newest = lock(&self.newest);
        let state = newest.state.clone();
        let states = newest
            .states
            .get_or_insert_with(|| broadcast::Sender::new(self.backlog));
        (state, states.subscribe())
    }

    /// Frees the backlog, if no receiver is left.
    pub(super) fn trim(&self) {
        let mut newest = lock(&self.newest);
        newest.states = newest
            .states
            .take()
            .filter(|states| states.receiver_count() > 0);
    }

    /// Delivers all later updates to a mailbox, too.
    pub(super) fn attach(&self, mailbox: Arc<Mailbox>) {
        lock(&self.newest).mailboxes.push(mailbox);
    }

    pub(super) fn detach(&self, mailbox: &Arc<Mailbox>) {
        let mut newest = lock(&self.newest);
        let attached = newest
            .mailboxes
            .iter()
            .position(|attached| Arc::ptr_eq(attached, mailbox));
        if let Some(index) = attached {
            newest.mailboxes.swap_remove(index);
        }
    }

    pub(super) fn begin_preview_wait(&self) {
        lock(&self.newest).preview_waits += 1;
    }

    pub(super) fn end_preview_wait(&self) {
        lock(&self.newest).preview_waits -= 1;
    }

    /// Records a client's connection. Returns the id by which it is removed.
    pub(super) fn add_connection(&self, connection: Connection) -> u64 {
        let id = NEXT_CONNECTION_ID.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(id, connection);
        id
    }

    pub(super) fn remove_connection(&self, id: u64) {
        self.connections().remove(&id);
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        lock(&self.connections)
    }

    /// Whether it has subscribers, or somebody waits for a preview.
    pub(super) fn is_followed(&self) -> bool {
        let is_followed = {
            let newest = lock(&self.newest);
            !newest.mailboxes.is_empty() || newest.preview_waits > 0
        };
        is_followed || !self.connections().is_empty()
    }

    /// Whether one of its subscribers wants previews, or somebody waits for one.
    pub(super) fn wants_previews(&self) -> bool {
        lock(&self.newest).preview_waits > 0
            || self.connections().values().any(Connection::wants_previews)
    }
}

/// What these locks guard is consistent at any moment, also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
