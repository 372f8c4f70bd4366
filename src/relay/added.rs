//! Follows the ComfyUI servers that operators have added, and leaves those that were removed: what the database has of them
//! holds for all relays on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Relay;
use super::backend::Backend;
use super::backend::follower::Follower;
use super::start::{client_id, follower};
use crate::comfy::ComfyClient;
use crate::config::ServerUrl;
use crate::store::{AddedBackend, StoreError};

impl Relay {
    /// Follows the servers that the database has and this relay does not know, and leaves those that it has no longer. The
    /// followers of new ones are returned: they are not started.
    pub(super) async fn sync_added(&self) -> Result<Vec<Arc<Follower>>, StoreError> {
        let tracker = &self.0.tracker;
        if self.0.networks.is_empty() {
            return Ok(Vec::new());
        }
        let _changing = tracker.queue.operations.changing.lock().await;
        let stored = tracker.recorder.store().added_backends().await?;
        let is_first = !self.0.has_read_added.swap(true, Ordering::Relaxed);
        let added = tracker.backends.iter().filter(|backend| backend.is_added);
        for backend in added {
            if !stored.iter().any(|it| it.name == backend.name()) {
                self.unfollow(backend);
            }
        }
        let mut new = Vec::new();
        for added in &stored {
            if tracker.backends.named(&added.name).is_some() {
                continue;
            }
            match self.follow_added(added).await {
                Ok(follower) => new.push(follower),
                Err(why) if is_first => {
                    tracing::warn!(
                        backend = added.name,
                        "cannot follow a server that was added: {why}"
                    );
                }
                Err(why) => {
                    tracing::debug!(
                        backend = added.name,
                        "cannot follow a server that was added: {why}"
                    );
                }
            }
        }
        Ok(new)
    }

    /// The same, and starts to follow the new ones.
    pub(super) async fn follow_new(&self) -> Result<(), StoreError> {
        for follower in self.sync_added().await? {
            // Before its socket is dialled.
            follower.renew_lease().await;
            follower.start();
            self.0.tracker.notify_monitors();
        }
        Ok(())
    }

    async fn follow_added(&self, added: &AddedBackend) -> Result<Arc<Follower>, String> {
        let tracker = &self.0.tracker;
        let url: ServerUrl = added
            .url
            .parse()
            .map_err(|_| "its address cannot be read")?;
        if !self.0.networks.may_contain(url.url()) {
            return Err("its address is in none of BACKEND_NETWORKS".to_owned());
        }
        if self.0.comfy.urls.iter().any(|it| it.is_same_server(&url)) {
            return Err("it is configured under another name (COMFYUI_URL)".to_owned());
        }
        let networks = self.0.networks.clone();
        let client = ComfyClient::added(&added.name, &url, &self.0.comfy, networks);
        let mut comfy = client.map_err(|error| error.to_string())?;
        if let Some(client_id) = client_id(tracker.recorder.store(), &comfy).await {
            comfy = comfy.with_client_id(client_id);
        }
        let index = tracker.backends.slot_count();
        let labels = added.labels.clone();
        let backend = Arc::new(Backend::new(index, comfy, labels).added());
        let follower = follower(&backend, &self.0.comfy, tracker);
        // What is found by the index is there before the backend is.
        tracker.queue.make_room(index + 1);
        tracker.estimator.learning.expect(backend.name());
        if !self.0.followers.push(follower.clone()) || !tracker.backends.add(backend) {
            return Err("too many were added; restart the relay".to_owned());
        }
        tracing::info!(
            backend = added.name,
            url = added.url,
            "following a server that was added"
        );
        Ok(follower)
    }

    /// Follows a server no longer. It has no job of this relay any more.
    pub(super) fn unfollow(&self, backend: &Backend) {
        let tracker = &self.0.tracker;
        let follower = self.0.followers[backend.index].clone();
        tracker.backends.remove(backend);
        follower.stop.cancel();
        backend.connected.send_replace(false);
        tracker.give_up(backend);
        self.0
            .tasks
            .spawn(async move { follower.release_lease().await });
        tracker.notify_monitors();
        tracker.queue.wake();
        tracing::info!(backend = backend.name(), "the server was removed");
    }
}
