//! [`NameLock`]: requests that make a job of the same name at several relays are done one after another.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::job::JobId;
use crate::relay::{Relay, RelayError};
use crate::store::{StoreError, StoredRequest};

/// How long a request waits for another relay that does the same one.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// How often it looks whether that is done.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// No other relay on the database makes a job of this name, until it is dropped. One that ends leaves it to the others.
pub(in crate::relay) struct NameLock {
    relay: Relay,
    key: String,
}

impl Relay {
    /// Waits until no other relay makes a job of this name. `None` where there is no other relay.
    pub(super) async fn lock_name(&self, id: &JobId) -> Result<Option<NameLock>, RelayError> {
        let tracker = &self.0.tracker;
        if tracker.peers.is_alone(Instant::now()) {
            return Ok(None);
        }
        // Before, the others may believe to be alone, and lock nothing.
        if tracker.peers.has_others() && !tracker.peers.noticed().await {
            return Err(StoreError::Slow.into());
        }
        let store = tracker.recorder.store();
        let wanted = StoredRequest {
            request_key: format!("job {id}"),
            digest: String::new(),
            made: String::new(),
            owner: tracker.owner.as_str().to_owned(),
        };
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            let is_locked = match store.add_request(&wanted).await? {
                None => true,
                Some(before) => {
                    !store.is_running(&before.owner).await?
                        && store.take_request(&before, &tracker.owner).await?
                }
            };
            if is_locked {
                return Ok(Some(NameLock {
                    relay: self.clone(),
                    key: wanted.request_key,
                }));
            }
            if Instant::now() >= deadline {
                return Err(RelayError::RequestUnderWay);
            }
            sleep(LOOK_PAUSE).await;
        }
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        let (relay, key) = (self.relay.clone(), std::mem::take(&mut self.key));
        self.relay.0.tasks.spawn(async move {
            let tracker = &relay.0.tracker;
            let removed = tracker.recorder.store().remove_request(&key, &tracker.owner);
            if let Err(error) = removed.await {
                tracing::warn!(%error, key, "cannot remove a lock from the database; a job of this name cannot be submitted for a day");
            }
        });
    }
}
