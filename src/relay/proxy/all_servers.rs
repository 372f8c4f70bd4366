//! Asks all servers the same, at the same time.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::Value;

use crate::relay::backend::Backend;
use crate::relay::{Relay, RelayError};

/// What a server has answered.
pub(super) struct ServerAnswer {
    pub(super) backend: Arc<Backend>,
    pub(super) json: Value,
}

impl Relay {
    /// What the servers that answer say at a path, in their order. Those that have no such route are left out, and so are those
    /// that fail, if others do not.
    pub(super) async fn ask_all(
        &self,
        path: &str,
        query: Option<&str>,
    ) -> Result<Vec<ServerAnswer>, RelayError> {
        let backends = some_of(self.listing_backends())?;
        let asked = backends.into_iter().map(|backend| async move {
            let read = backend.comfy.rest().read_json(path, query).await;
            (backend, read)
        });
        let (mut answers, mut failure) = (Vec::new(), None);
        for (backend, read) in join_all(asked).await {
            match read {
                Ok(Some(json)) => answers.push(ServerAnswer { backend, json }),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(backend = backend.name(), %error, "left out of an answer for all servers");
                    failure = Some(RelayError::request_failed(backend.name(), error));
                }
            }
        }
        match failure {
            Some(failure) if answers.is_empty() => Err(failure),
            _ => Ok(answers),
        }
    }
}

/// The servers that are to be asked: without any, nothing is done.
pub(super) fn some_of(backends: Vec<Arc<Backend>>) -> Result<Vec<Arc<Backend>>, RelayError> {
    if backends.is_empty() {
        return Err(RelayError::BackendUnreachable(super::NO_SERVER.to_owned()));
    }
    Ok(backends)
}
