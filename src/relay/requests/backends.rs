//! Adds a ComfyUI server while the relay runs, and removes one that was added.

use crate::broker::Hint;
use crate::config::{BackendLabels, ServerUrl};
use crate::relay::backend::Backend;
use crate::relay::backend::operation::Operation;
use crate::relay::backends::MAX_ADDED;
use crate::relay::queue::removals::BACKEND;
use crate::relay::requests::operated::OperatedBackend;
use crate::relay::{Condition, Relay, RelayError};
use crate::store::AddedBackend;

/// A ComfyUI server that is to be added.
#[derive(Debug, Clone)]
pub struct NewBackend {
    /// What it is to be called.
    pub name: String,
    /// Its address, without credentials.
    pub url: ServerUrl,
    /// What jobs can ask for.
    pub labels: BackendLabels,
}

impl Relay {
    /// Adds a server, at each relay on the database, and keeps it over restarts. Returns it, and whether it is new: one that is
    /// there under this name with this address stays as it is, and is not removed any more.
    ///
    /// # Errors
    ///
    /// If its address is in none of the networks that the settings allow, its name or the server is there already, or the
    /// database does not answer.
    pub async fn add_backend(
        &self,
        new: NewBackend,
    ) -> Result<(OperatedBackend, bool), RelayError> {
        let tracker = &self.0.tracker;
        if self.0.networks.is_empty() {
            return Err(RelayError::AddingOff);
        }
        if let Some(known) = self.known(&new)? {
            if known.state().operation.is_removal() {
                self.operate(&new.name, Operation::Run).await?;
            }
            return Ok((self.operated_backend(&new.name)?, false));
        }
        if tracker.backends.slot_count() >= self.0.comfy.urls.len() + MAX_ADDED {
            return Err(RelayError::TooManyBackends);
        }
        self.0.networks.check(new.url.url()).await?;
        let store = tracker.recorder.store();
        // Of one that had this name before.
        store
            .set_operation(&format!("{BACKEND}{}", new.name), None)
            .await?;
        let added = AddedBackend {
            name: new.name.clone(),
            url: new.url.url().as_str().trim_end_matches('/').to_owned(),
            labels: new.labels.clone(),
        };
        let is_new = store.add_backend(&added).await?;
        tracker.broker.hint(Hint::Operations);
        self.follow_new().await?;
        if self.known(&new)?.is_some() {
            return Ok((self.operated_backend(&new.name)?, is_new));
        }
        match self.stored_backend(&new.name).await? {
            // One that this relay may not follow.
            Some(other) if other.url != added.url => Err(RelayError::BackendExists {
                name: other.name,
                url: other.url,
            }),
            // Another relay has added or removed one in this very moment.
            _ => Err(RelayError::RequestUnderWay),
        }
    }

    /// Removes a server that was added, at each relay on the database: once none of our jobs is there any more, or at once.
    /// Returns it as it is now.
    ///
    /// # Errors
    ///
    /// If there is none with this name, it is one of the settings, or the database does not answer.
    pub async fn remove_backend(
        &self,
        name: &str,
        is_at_once: bool,
    ) -> Result<OperatedBackend, RelayError> {
        let operation = if is_at_once {
            Operation::Discard
        } else {
            Operation::Remove
        };
        let backend = match self.backend_named(name) {
            Ok(backend) => backend,
            Err(unknown) => {
                return self
                    .remove_unfollowed(name, operation)
                    .await?
                    .ok_or(unknown);
            }
        };
        if !backend.is_added {
            return Err(RelayError::BackendConfigured(name.to_owned()));
        }
        self.operate(name, operation).await?;
        Ok(self.operated(backend, 0))
    }

    /// Removes a server that was added, and that this relay does not follow: its settings do not allow it any more. `None` if
    /// there is none with this name.
    async fn remove_unfollowed(
        &self,
        name: &str,
        operation: Operation,
    ) -> Result<Option<OperatedBackend>, RelayError> {
        let tracker = &self.0.tracker;
        let _changing = tracker.queue.operations.changing.lock().await;
        let Some(added) = self.stored_backend(name).await? else {
            return Ok(None);
        };
        let store = tracker.recorder.store();
        let followed = store.reported_loads().await?;
        let subject = format!("{BACKEND}{name}");
        let condition = if followed.iter().any(|it| it.backend == name) {
            // The relay that follows it removes it, once none of our jobs is there any more.
            let state = Some(operation.as_str());
            store.set_operation(&subject, state).await?;
            Condition::HeldElsewhere
        } else {
            store.remove_backend(name).await?;
            store.set_operation(&subject, None).await?;
            Condition::Unreachable
        };
        tracker.broker.hint(Hint::Operations);
        let removed = OperatedBackend::unfollowed(added, condition, operation);
        Ok(Some(removed))
    }

    /// The server with this name that the database has.
    async fn stored_backend(&self, name: &str) -> Result<Option<AddedBackend>, RelayError> {
        let added = self.0.tracker.recorder.store().added_backends().await?;
        Ok(added.into_iter().find(|it| it.name == name))
    }

    /// The backend with the name and the address of a new one. Fails if there is one with either of them.
    fn known(&self, new: &NewBackend) -> Result<Option<&Backend>, RelayError> {
        let is_there = |backend: &Backend| {
            let url: Result<ServerUrl, _> = backend.comfy.address().parse();
            url.is_ok_and(|url| url.is_same_server(&new.url))
        };
        let backends = &self.0.tracker.backends;
        let mut alike = backends
            .iter()
            .filter(|backend| backend.name() == new.name || is_there(backend));
        let Some(first) = alike.next() else {
            return Ok(None);
        };
        let is_same = first.name() == new.name
            && is_there(first)
            && first.comfy.url().scheme() == new.url.url().scheme();
        if is_same {
            return Ok(Some(first));
        }
        Err(RelayError::BackendExists {
            name: first.name().to_owned(),
            url: first.comfy.address().to_owned(),
        })
    }
}
