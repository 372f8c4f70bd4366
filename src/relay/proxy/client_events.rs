//! [`ClientEvents`]: what one socket of a client is sent.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use super::caller::client_of;
use super::known_prompt::is_prompt;
use super::made_frames;
use super::tap_queue::{TapFrame, TapQueue};
use crate::job::Job;
use crate::relay::Relay;
use crate::relay::backend::{Backend, Lease};
use crate::relay::registry::Entry;
use crate::relay::tracker::Tracker;

/// What one socket of a client is sent: what ComfyUI would send it, if all servers were one. There may be several sockets of one
/// client id, and each is sent everything.
#[derive(Debug)]
pub struct ClientEvents {
    tracker: Arc<Tracker>,
    client_id: String,
    queue: Arc<TapQueue>,
}

impl ClientEvents {
    /// The next frame; `None` if the socket reads too slowly and is to be closed. Cancel safe.
    pub async fn next(&self) -> Option<TapFrame> {
        self.queue.next().await
    }
}

impl Drop for ClientEvents {
    fn drop(&mut self) {
        self.tracker.tap.remove_socket(&self.client_id, &self.queue);
    }
}

impl Relay {
    /// Follows the prompts of a client: first the length of the queue, and the node that runs for it, if one does.
    pub fn client_events(&self, client_id: &str) -> ClientEvents {
        let tracker = &self.0.tracker;
        let count = || tracker.prompts_remaining();
        let queue = tracker.tap.open_socket(count, |length| {
            let greeting = made_frames::status(length, Some(client_id));
            // Under the lock of the jobs: no event of the node comes in between.
            let registry = tracker.registry();
            let is_of_client = |entry: &&Entry| client_of(entry.job.tags()) == Some(client_id);
            let running = registry.processing().filter(is_of_client);
            let running = running.filter_map(|entry| entry.job.nodes().current());
            let running = running.map(|node| made_frames::running(node.id));
            let first = std::iter::once(greeting).chain(running);
            tracker.tap.add_socket(client_id, first)
        });
        ClientEvents {
            tracker: tracker.clone(),
            client_id: client_id.to_owned(),
            queue,
        }
    }

    /// How many prompts run or wait, on all servers and in the relay's own queue.
    pub fn prompts_remaining(&self) -> u64 {
        self.0.tracker.prompts_remaining()
    }

    /// The number of a prompt that comes now: it grows with each.
    pub fn next_prompt_number(&self) -> i64 {
        self.0.tracker.queue.next_place()
    }

    /// What the first server that answers says of its features, as it says so on its socket; `None` from servers before the middle
    /// of 2025.
    pub fn server_features(&self) -> Option<Utf8Bytes> {
        let answering = self.answering_backends().into_iter();
        let mut features = answering.filter_map(|backend| backend.state().api.features.clone());
        features.next().map(made_frames::features)
    }

    /// Sends clients the length of the queue when it changes without a message of a server, until `stop` is cancelled.
    pub async fn follow_queue_length(&self, stop: CancellationToken) {
        let tracker = &self.0.tracker;
        let mut changes = self.changes();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            if tracker.tap.is_open() {
                tracker.send_queue_length(false);
            }
        }
    }
}

/// Whether another relay follows a server.
fn is_of_peer(backend: &Backend) -> bool {
    *backend.lease.borrow() == Lease::HeldByPeer
}

impl Tracker {
    fn prompts_remaining(&self) -> u64 {
        let loads = self.backends.iter().map(|backend| {
            let (is_reachable, load, in_flight) = {
                let state = backend.state();
                let queue = &state.queue;
                (state.api.reachable, queue.load().1, queue.in_flight())
            };
            if is_reachable {
                return (load, in_flight);
            }
            if is_of_peer(backend) {
                return (in_flight, in_flight);
            }
            // What others had in its queue is not known to be there any more, and a client that waits for an empty queue would wait
            // for ever.
            (self.open_prompts(backend) + in_flight, in_flight)
        });
        let (on_servers, in_flight) =
            loads.fold((0, 0), |sums, load| (sums.0 + load.0, sums.1 + load.1));
        // What is on its way is in the relay's own queue until the server has answered.
        let waiting = (self.queue.length() as u64).saturating_sub(in_flight);
        on_servers + self.prompts_of_peers() + waiting
    }

    /// How many prompts other relays have on their servers. What they have taken of us is known before it is counted there.
    fn prompts_of_peers(&self) -> u64 {
        let at_peers = self.backends.iter().filter(|backend| is_of_peer(backend));
        let at_peers = at_peers.map(|backend| self.queue.prompts_at_peer(backend));
        let at_peers: usize = at_peers.sum();
        let registry = self.registry();
        let is_taken = |entry: &&Entry| {
            let is_there = entry.backend.as_deref().is_none_or(is_of_peer);
            let is_open = !entry.job.status().is_final() && is_prompt(&entry.job);
            is_there && is_open && !self.queue.has(entry.job.id())
        };
        let taken = registry.unowned().filter(is_taken).count();
        at_peers.max(taken) as u64
    }

    /// How many prompts of a server jobs of this relay follow that have not ended.
    fn open_prompts(&self, backend: &Backend) -> u64 {
        let registry = self.registry();
        let open = registry.open(backend);
        let prompts: HashSet<&str> = open.filter_map(|entry| entry.job.prompt_id()).collect();
        prompts.len() as u64
    }

    /// Sends clients the length of the queue, unless they have it. With `is_repeated` a server has sent its own again.
    pub(in crate::relay) fn send_queue_length(&self, is_repeated: bool) {
        let count = || self.prompts_remaining();
        self.tap.broadcast_length(count, is_repeated);
    }

    /// Sends the client of a job that has ended its end, unless its server has done so.
    pub(in crate::relay) fn send_end(&self, entry: &Entry) {
        if !self.tap.is_open() {
            return;
        }
        let job: &Job = &entry.job;
        let backend = entry.backend.as_ref();
        let place = backend.and_then(|backend| Some((backend.index, job.prompt_id()?)));
        self.tap.send_end(place, job.tags(), made_frames::end(job));
    }
}
